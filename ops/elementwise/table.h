#pragma once

#include <cstdint>

namespace solder {

class Context;

/// A function from a 16-bit type to a 16-bit type as a table: its result for every bit pattern.
inline constexpr int64_t kTableElems = 1 << 16;

/// y[i] = table[x[i]] for arrays of `num_elems` 16-bit elements on the GPU, aligned to 16 bytes; in place
/// (y == x) is allowed, other overlap is not.
void lookup_cuda(const Context& context, const uint16_t* table, const uint16_t* x, uint16_t* y,
                 int64_t num_elems);

}  // namespace solder
