#pragma once
// Pairs of 16-bit numbers, packed in 32 bits with the first in the low half, to and from floats. Generated
// kernels embed this text, which is why its PTX stands here.

#include "runtime/dtype.h"

namespace solder {

__device__ inline float2 unpack_pair(DType dtype, uint32_t bits) {
  float2 pair = make_float2(__uint_as_float(bits << 16), __uint_as_float(bits & 0xffff0000u));  // bfloat16
  if (dtype == DType::float16) {
    asm("{ .reg .b16 low, high; mov.b32 {low, high}, %2; cvt.f32.f16 %0, low; cvt.f32.f16 %1, high; }"
        : "=f"(pair.x), "=f"(pair.y)
        : "r"(bits));
  }
  return pair;
}

/// To nearest even.
__device__ inline uint32_t pack_pair(DType dtype, float low, float high) {
  uint32_t bits;
  if (dtype == DType::float16) {
    asm("{ .reg .b16 low, high; cvt.rn.f16.f32 low, %1; cvt.rn.f16.f32 high, %2; mov.b32 %0, {low, high}; }"
        : "=r"(bits)
        : "f"(low), "f"(high));
    return bits;
  }
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  asm("cvt.rn.bf16x2.f32 %0, %2, %1;" : "=r"(bits) : "f"(low), "f"(high));
#else
  bits = uint32_t{bfloat16_from_float(high)} << 16 | bfloat16_from_float(low);
#endif
  return bits;
}

}  // namespace solder
