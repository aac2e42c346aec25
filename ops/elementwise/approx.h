#pragma once
// What the formulas need beyond C's math functions: the special-function unit, bits, the check for rare
// operands. On the GPU one instruction each, PTX of every architecture; on the host the same with correctly
// rounded values. Generated kernels embed this text, which is why its PTX stands here.

#if !defined(__CUDACC_RTC__)
#include <cmath>
#endif

#if defined(__CUDACC__)
#define SOLDER_HD __host__ __device__ __forceinline__
#else
#define SOLDER_HD inline
#endif
#if defined(__CUDA_ARCH__)
#define SOLDER_UNROLL _Pragma("unroll")
#else
#define SOLDER_UNROLL
#endif

namespace solder::math {

SOLDER_HD unsigned bits_of(float x) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(x);
#else
  return __builtin_bit_cast(unsigned, x);
#endif
}

SOLDER_HD float float_of(unsigned bits) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(bits);
#else
  return __builtin_bit_cast(float, bits);
#endif
}

/// 2^x, on the GPU with a relative error of 2^-22 (on an H100 from -2^-22.7 to 2^-23.2), exact for whole x;
/// subnormal results become zero.
SOLDER_HD float exp2_approx(float x) {
#if defined(__CUDA_ARCH__)
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#else
  const float result = exp2f(x);
  return result < 0x1p-126f ? 0.0f : result;
#endif
}

/// 1 / x, on the GPU to one unit in the last place; subnormal operands and results become zero.
SOLDER_HD float reciprocal_approx(float x) {
#if defined(__CUDA_ARCH__)
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#else
  const float result = 1.0f / x;
  return fabsf(result) < 0x1p-126f ? 0.0f * result : result;
#endif
}

/// x limited to [0, 1]; 0 for NaN.
SOLDER_HD float saturate(float x) {
#if defined(__CUDA_ARCH__)
  return __saturatef(x);
#else
  return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f;
#endif
}

#if defined(__CUDACC__)
/// The largest bits among some floats: the most negative one's, or a NaN's, where there is any below zero
/// (negative floats grow with their bits). On a GPU with three-operand maxima half an instruction an element.
template <int N>
__device__ __forceinline__ unsigned largest_bits(const float (&x)[N]) {
  unsigned largest = N % 2 == 0 ? 0 : bits_of(x[N - 1]);
#pragma unroll
  for (int i = 0; i + 1 < N; i += 2) largest = __vimax3_u32(largest, bits_of(x[i]), bits_of(x[i + 1]));
  return largest;
}
#endif

/// Whether some x[i] < low, for a negative low; a NaN may count.
template <int N>
SOLDER_HD bool any_below(const float (&x)[N], float low) {
#if defined(__CUDA_ARCH__)
  return largest_bits(x) > bits_of(low);
#else
  bool any = false;
  for (int i = 0; i < N; ++i) any = any || x[i] < low;
  return any;
#endif
}

}  // namespace solder::math
