#pragma once
// What the passes do with regions, and what becomes of one: an accumulator program.

#include <span>
#include <vector>

#include "graph/graph.h"
#include "ops/elementwise/program.h"

namespace solder {

/// Merges `producer` into `consumer`: consumer operand i is `operand_map[i]`, an operand index of the merged
/// region, or, when negative, output -1 - operand_map[i] of the producer. Producer operands keep their
/// indices and come first; `num_operands` counts the merged ones. Outputs: the consumer's, then the
/// producer's listed in `kept_outputs`.
Region merge(const Region& producer, const Region& consumer, const std::vector<int>& operand_map,
             int num_operands, const std::vector<int>& kept_outputs);

/// Rewrites mish(mish(x)) whose inner value has no other use to double_mish(x).
Region contract_mish(const Region& region);

/// Whether lower() would succeed, and leave room for so many steps more.
bool fits_program(const Region& region, bool from_result, std::span<const TensorType> outputs,
                  size_t spare_steps = 0);

/// The region as an accumulator program that stores these outputs (none given: all in float32). What is
/// stored in 16 bits is rounded from then on: what reads the value later reads what was stored. With
/// `from_result` it is an epilogue's: the result exists only as the initial accumulator and is parked in a
/// slot if it is needed again. Throws Error(unsupported) when the region needs more steps, slots or operands
/// than a Program has.
Program lower(const Region& region, bool from_result, std::span<const TensorType> outputs);

/// True when output `output` may overwrite operand `operand` in place: every read of the operand comes before
/// the store.
bool may_overwrite(const Program& program, int operand, int output);

}  // namespace solder
