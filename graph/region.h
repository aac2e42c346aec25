#pragma once
// An elementwise region in static single assignment form: what the graph knows of elementwise work. One user
// call makes a region of one expression; the fusion pass concatenates regions; lowering turns the result into
// the accumulator program that the backends run.

#include <string>
#include <vector>

#include "ops/elementwise/op_info.h"
#include "runtime/visibility.h"

namespace SOLDER_PUBLIC solder {

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

}  // namespace solder
