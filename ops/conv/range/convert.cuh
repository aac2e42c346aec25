#pragma once
// How a kernel converts x under the range guard.

#include <cuda_fp16.h>

#include "ops/conv/range/range.h"

namespace solder {

/// The largest of a warp's values, in every lane.
inline __device__ uint32_t largest_of_warp(uint32_t value) {
#if __CUDA_ARCH__ >= 800
  return __reduce_max_sync(0xffffffffu, value);
#else
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) value = max(value, __shfl_xor_sync(0xffffffffu, value, lanes));
  return value;
#endif
}

inline __device__ uint32_t pack_halves(float a, float b) {
  const __half2 both = __floats2half2_rn(a, b);
  return reinterpret_cast<const uint32_t&>(both);
}

/// The float16 parts of 8 scaled values.
template <int kParts>
__device__ __forceinline__ void split_values(const float* values, float scale, uint4 (&parts)[2]) {
  uint32_t high[4], low[4];
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const float a = values[2 * j] * scale, b = values[2 * j + 1] * scale;
    high[j] = pack_halves(a, b);
    if constexpr (kParts == 2) {
      const float2 rounded = __half22float2(reinterpret_cast<const __half2&>(high[j]));
      low[j] = pack_halves(a - rounded.x, b - rounded.y);
    }
  }
  parts[0] = make_uint4(high[0], high[1], high[2], high[3]);
  if constexpr (kParts == 2) parts[1] = make_uint4(low[0], low[1], low[2], low[3]);
}

/// The exponent of an image of packed x: what was guessed, or, where that does not fit, what the repair takes.
inline __device__ int packed_exponent(ImageRange range, Math math) {
  return range_status(range, math) == RangeStatus::rescale ? exact_exponent(range.max_bits, math)
                                                           : range.exponent;
}

}  // namespace solder
