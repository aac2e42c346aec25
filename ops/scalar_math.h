#pragma once
// Each scalar formula of solder, once, for host and device.
//
// Compile with contraction off (-ffp-contract=off, --fmad=false): a fused multiply-add is written out as
// fmaf, so a formula rounds the same wherever it is inlined, and a fused chain equals the unfused one bit for
// bit. The C math functions used here round slightly differently in glibc and in CUDA, so the CPU and the GPU
// agree to the stated bounds, not to the bit.
//
// Conventions: NaN in gives NaN out, everywhere. A bound in ULP holds for float32 results that are normal
// numbers; x is any float32.

#include <cmath>

#if defined(__CUDACC__)
#include "ops/sm90.cuh"
#endif

#if defined(__CUDACC__)
#define SOLDER_HD __host__ __device__ __forceinline__
#else
#define SOLDER_HD inline
#endif

namespace solder::math {

/// a / (b + 2) for b in [0, 2^60], within 1 ULP. On the GPU one Newton step on the approximate reciprocal,
/// which carries along what the rounding of b + 2 dropped, and no check for special operands.
SOLDER_HD float divide_by_plus_two(float a, float b) {
  const float divisor = b + 2.0f;
#if defined(__CUDA_ARCH__)
  const float reciprocal = sm90::reciprocal_approx(divisor);
  const float quotient = a * reciprocal;
  const float dropped = b - (divisor - 2.0f);
  return fmaf(fmaf(-quotient, dropped, fmaf(-quotient, divisor, a)), reciprocal, quotient);
#else
  return a / divisor;
#endif
}

/// x * e^y for y < -60, right down to the smallest subnormal: there e^y alone would already have lost bits
/// while the product is still a normal number. y + 40 is exact.
SOLDER_HD float times_tiny_exp(float x, float y) {
  constexpr float kExpMinus40 = 4.248354255291589e-18f;
  return (x * expf(y + 40.0f)) * kExpMinus40;
}

/// The same with y = x.
SOLDER_HD float x_times_exp(float x) { return times_tiny_exp(x, x); }

/// |x|, -x: exact.
SOLDER_HD float abs(float x) { return fabsf(x); }
SOLDER_HD float neg(float x) { return -x; }

/// e^x: at most 2 ULP. exp(-inf) = 0, exp(+inf) = +inf.
SOLDER_HD float exp(float x) { return expf(x); }

/// Natural logarithm: at most 2 ULP. log(0) = -inf, log(x < 0) = NaN.
SOLDER_HD float log(float x) { return logf(x); }

/// Square root, correctly rounded. sqrt(x < 0) = NaN, sqrt(-0) = -0.
SOLDER_HD float sqrt(float x) { return sqrtf(x); }

/// 1 / sqrt(x), rounded twice: at most 1.5 ULP. rsqrt(+0) = +inf, rsqrt(+inf) = 0, rsqrt(x < 0) = NaN.
SOLDER_HD float rsqrt(float x) { return 1.0f / sqrtf(x); }

/// 1 / x, correctly rounded. reciprocal(+-0) = +-inf.
SOLDER_HD float reciprocal(float x) { return 1.0f / x; }

/// x * x, correctly rounded.
SOLDER_HD float square(float x) { return x * x; }

/// The error function: at most 4 ULP. erf(+-inf) = +-1.
SOLDER_HD float erf(float x) { return erff(x); }

/// Hyperbolic tangent: at most 4 ULP. tanh(+-inf) = +-1.
SOLDER_HD float tanh(float x) { return tanhf(x); }

/// 1 / (1 + e^-x): at most 4 ULP. sigmoid(-inf) = 0, sigmoid(+inf) = 1.
SOLDER_HD float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

/// log(1 + e^x), as max(x, 0) + log1p(e^-|x|): at most 4 ULP. softplus(-inf) = 0, softplus(+inf) = +inf.
SOLDER_HD float softplus(float x) {
  const float tail = log1pf(expf(-fabsf(x)));
  return x > 0.0f ? x + tail : tail;
}

/// max(x, 0), exact. NaN passes; relu(-0) = +0.
SOLDER_HD float relu(float x) { return x <= 0.0f ? 0.0f : x; }

/// x for x > 0, slope * x otherwise, correctly rounded.
SOLDER_HD float leaky_relu(float x, float slope) { return x > 0.0f ? x : x * slope; }

/// x for x > 0, alpha * (e^x - 1) otherwise (Clevert et al. 2015): at most 4 ULP. elu(-inf) = -alpha.
SOLDER_HD float elu(float x, float alpha) { return x > 0.0f ? x : alpha * expm1f(x); }

/// scale * elu(x, alpha) with the constants of Klambauer et al. 2017, grouped as PyTorch does: at most 4 ULP.
SOLDER_HD float selu(float x) {
  constexpr float kAlpha = 1.6732632423543772848170429916717f;
  constexpr float kScale = 1.0507009873554804934193349852946f;
  return x > 0.0f ? kScale * x : (kScale * kAlpha) * expm1f(x);
}

/// x * Phi(x), Phi the normal distribution function (Hendrycks and Gimpel 2016), by erfc: no cancellation for
/// negative x, where rounding the argument costs a relative error of (4 + x^2) 2^-23; at most 6 ULP for x >=
/// -1. gelu(-inf) = NaN (-inf * 0), as in PyTorch.
SOLDER_HD float gelu(float x) {
  constexpr float kSqrtHalf = 0.70710678118654752440f;
  return (0.5f * x) * erfcf(-x * kSqrtHalf);
}

/// GELU's tanh form, 0.5 x (1 + tanh(u)) with u = sqrt(2/pi) (x + 0.044715 x^3), written as x * sigmoid(2u)
/// so that nothing cancels: relative error at most (4 + 4 |u|) 2^-23. gelu_tanh(-inf) = NaN, as in PyTorch.
SOLDER_HD float gelu_tanh(float x) {
  constexpr float kTwoSqrt2OverPi = 1.5957691216057307f;
  const float u2 = kTwoSqrt2OverPi * fmaf(0.044715f * x * x, x, x);
  if (u2 < -60.0f) return times_tiny_exp(x, u2);
  return x / (1.0f + expf(-u2));
}

/// x * sigmoid(x) (swish): at most 4 ULP. silu(-inf) = NaN, silu(+inf) = +inf.
SOLDER_HD float silu(float x) {
  if (x < -60.0f) return x_times_exp(x);
  return x / (1.0f + expf(-x));
}

/// min(max(x + 3, 0), 6) / 6 (Howard et al. 2019): at most 1.5 ULP.
SOLDER_HD float hard_sigmoid(float x) {
  const float t = x + 3.0f;
  return (t < 0.0f ? 0.0f : (t > 6.0f ? 6.0f : t)) / 6.0f;
}

/// x * hard_sigmoid(x) (Howard et al. 2019): at most 2.5 ULP. hard_swish(-inf) = NaN, as in PyTorch.
SOLDER_HD float hard_swish(float x) { return x * hard_sigmoid(x); }

/// x * tanh(log(1 + e^x)) (Misra 2019), without the logarithm: with e = e^x and n = e (e + 2) the factor is
/// n / (n + 2) for x <= 0, where nothing cancels, and 1 - 2 / (n + 2) for x > 0, where the quotient's error
/// shrinks. At most 4 ULP. mish(-inf) = NaN (-inf * 0), mish(+inf) = +inf, as in PyTorch.
SOLDER_HD float mish_body(float x) {  // x >= kMishTail, or NaN
  const float e =
      expf(x > 20.0f ? 20.0f : x);  // beyond 20 the factor is 1 in float32; unclamped, e * e overflows
  const float n = fmaf(e, e, 2.0f * e);
  const float quotient = divide_by_plus_two(x > 0.0f ? -2.0f : n, n);
  return x * (x > 0.0f ? 1.0f + quotient : quotient);
}
inline constexpr float kMishTail = -60.0f;  // below, n / (n + 2) is e^x to 26 digits
SOLDER_HD float mish(float x) { return x < kMishTail ? x_times_exp(x) : mish_body(x); }

/// mish(mish(x)), rounded after each, so at most 4 ULP from mish of the float32 mish(x); mish never goes
/// below -0.31, so the second has no tail.
SOLDER_HD float double_mish(float x) { return mish_body(mish(x)); }

/// x limited to [low, high], exact; NaN passes.
SOLDER_HD float clip(float x, float low, float high) { return x < low ? low : (x > high ? high : x); }

/// IEEE arithmetic, correctly rounded. `pow` is C's powf, at most 8 ULP, except that NaN always passes.
SOLDER_HD float add(float a, float b) { return a + b; }
SOLDER_HD float sub(float a, float b) { return a - b; }
SOLDER_HD float mul(float a, float b) { return a * b; }
SOLDER_HD float div(float a, float b) { return a / b; }
SOLDER_HD float pow(float a, float b) { return (a != a || b != b) ? a + b : powf(a, b); }

/// The smaller, larger of two; NaN if either is NaN. Of two equal values (+0 and -0 too) the second.
SOLDER_HD float min(float a, float b) { return (a < b || a != a) ? a : b; }
SOLDER_HD float max(float a, float b) { return (a > b || a != a) ? a : b; }

}  // namespace solder::math
