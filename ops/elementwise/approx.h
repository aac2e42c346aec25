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

inline constexpr float kRound = 12582912.0f;  // 1.5 2^23: x + kRound - kRound is x rounded to whole

/// 2^fraction for |fraction| <= 0.501 by a polynomial, times 2^n, n the low bits of `whole` (a sum with
/// kRound): relative error 2^-23.5. For exponents that the special-function unit knows too coarsely.
SOLDER_HD float exp2_split(float whole, float fraction) {
  float power = fmaf(fraction, 0.000156574359f, 0.00134231569f);
  power = fmaf(power, fraction, 0.00961745344f);
  power = fmaf(power, fraction, 0.0555026196f);
  power = fmaf(power, fraction, 0.240226552f);
  power = fmaf(power, fraction, 0.693147242f);
  power = fmaf(power, fraction, 1.0f);
  return float_of((bits_of(whole) << 23) + bits_of(power));
}

/// 2^x, on the GPU with a relative error of 2^-22 (on an H100 from -2^-22.7 to 2^-23.2), on the CPU of 2^-23.5;
/// exact for whole x; subnormal results become zero.
SOLDER_HD float exp2_approx(float x) {
#if defined(__CUDA_ARCH__)
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#else
  const float whole = x + kRound;
  const float power = exp2_split(whole, x - (whole - kRound));
  const float result = x < 128.0f ? power : x * __builtin_inff();
  return x < -126.0f ? 0.0f : result;
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

/// The smaller, larger of two; the second where the first is NaN.
SOLDER_HD float smaller(float x, float limit) {
#if defined(__CUDA_ARCH__)
  return fminf(x, limit);
#else
  return x < limit ? x : limit;  // fminf would be a call
#endif
}
SOLDER_HD float larger(float x, float limit) {
#if defined(__CUDA_ARCH__)
  return fmaxf(x, limit);
#else
  return x > limit ? x : limit;
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
  int count = 0;  // a loop that always runs to its end is vectorised
  for (int i = 0; i < N; ++i) count += x[i] < low;
  return count > 0;
#endif
}

}  // namespace solder::math
