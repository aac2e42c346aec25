#pragma once
// An elementwise region in static single assignment form: what the graph knows of elementwise work. One user
// call makes a region of one expression; the fusion pass concatenates regions; lowering turns the result into
// the accumulator program that the backends run.

#include <string>
#include <vector>

#include "ops/elementwise/program.h"

namespace solder {

/// An argument of an expression. `result` is what the node that an epilogue belongs to has computed.
struct Arg {
  enum class Kind : uint8_t { none, result, operand, expr, immediate };
  Kind kind = Kind::none;
  int index = 0;    ///< operand or expression
  float value = 0;  ///< immediate

  static Arg result() { return {Kind::result, 0, 0}; }
  static Arg operand(int index) { return {Kind::operand, index, 0}; }
  static Arg expr(int index) { return {Kind::expr, index, 0}; }
  static Arg immediate(float value) { return {Kind::immediate, 0, value}; }
  bool operator==(const Arg&) const = default;
};

/// op(a) or op(a, b), with the op's parameters p and q (see Step).
struct Expr {
  Op op = Op::add;
  Arg a, b;
  float p = 0, q = 0;
  bool operator==(const Expr&) const = default;
};

/// Expressions in order (an argument refers to an earlier one) over `num_operands` operands.
struct Region {
  int num_operands = 1;
  std::vector<Expr> exprs;
  std::vector<Arg> outputs;  ///< what is stored, in order of the node's outputs
  bool operator==(const Region&) const = default;
};

/// "add(%0, %1); mish(e0) -> e1": for dumps.
std::string to_string(const Region& region);

/// Merges `producer` into `consumer`: consumer operand i is `operand_map[i]`, an operand index of the merged
/// region, or, when negative, output -1 - operand_map[i] of the producer. Producer operands keep their
/// indices and come first; `num_operands` counts the merged ones. Outputs: the consumer's, then the
/// producer's listed in `kept_outputs`.
Region merge(const Region& producer, const Region& consumer, const std::vector<int>& operand_map,
             int num_operands, const std::vector<int>& kept_outputs);

/// Rewrites mish(mish(x)) whose inner value has no other use to double_mish(x).
Region contract_mish(const Region& region);

/// Whether lower() would succeed.
bool fits_program(const Region& region, bool from_result);

/// The region as an accumulator program. With `from_result` it is an epilogue's: the result exists only as the
/// initial accumulator and is parked in a slot if it is needed again. Throws Error(unsupported) when the
/// region needs more steps, slots or operands than a Program has.
Program lower(const Region& region, bool from_result);

/// True when output `output` may overwrite operand `operand` in place: every read of the operand comes before
/// the store.
bool may_overwrite(const Program& program, int operand, int output);

}  // namespace solder
