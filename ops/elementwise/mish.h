#pragma once

#include <cstdint>

namespace solder {

class Context;

/// y[i] = mish(x[i]) for float32 arrays of `num_elems` on the GPU; in place (y == x) is allowed, other
/// overlap is not. Aligned to 16 bytes. Bound and special values: math::mish.
void mish_cuda(const Context& context, const float* x, float* y, int64_t num_elems);

/// y[i] = mish(mish(x[i])), rounded after each: one pass over memory instead of two.
void double_mish_cuda(const Context& context, const float* x, float* y, int64_t num_elems);

}  // namespace solder
