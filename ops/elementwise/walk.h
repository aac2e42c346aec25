#pragma once

#include "ops/elementwise/params.h"

namespace solder {

/// How a kernel goes through the index space where all that it reads or writes by vectors starts on multiples of them:
/// by the longest vectors that every output takes, and every operand that takes any.
elementwise::Walk walk_of(const ElementwiseArgs& args);
/// Likewise element by element, wherever tensors start.
elementwise::Walk walk_of_elements(const ElementwiseArgs& args);

/// How `operand` is read then.
elementwise::Access access_of(const ElementwiseArgs& args, const elementwise::Walk& walk,
                              const Operand& operand);

elementwise::KernelParams params_of(const ElementwiseArgs& args, const elementwise::Walk& walk);

/// Blocks of a kernel with these.
int64_t num_blocks(const elementwise::KernelParams& params);

/// Whether it can count elements, and those that its last tile lacks, in 32 bits.
bool fits_32_bits(const elementwise::KernelParams& params);

}  // namespace solder
