#pragma once
// Each scalar formula of solder, once, for host and device, under the name that it has in op_info.h. Longer
// than other files: it is one table of formulas with what is known of each.
//
// Compile with contraction off (-ffp-contract=off, --fmad=false): a fused multiply-add is written out as
// fmaf, so that a formula rounds the same wherever it is inlined, and a fused chain equals the unfused one
// bit for bit. Where the GPU has an instruction for 2^x or 1/x (approx.h) the host rounds correctly, and C's
// math functions round differently in glibc and in CUDA: the CPU and the GPU agree to the stated bounds, not
// to the bit.
//
// Conventions: NaN in gives NaN out, everywhere. A bound in ULP holds for float32 results that are normal
// numbers; x is any float32. Worst inputs: ACCURACY.md of the tests. All of it in C's default floating-point
// environment (round to nearest, subnormals kept), which a GPU has always and the CPU backend sets while it
// runs: in others sqrt is not correctly rounded, exp does not overflow, and the rounding to whole in gelu
// goes wrong.
//
// Formulas are straight lines, so that long chains keep up with memory. Those that need another one for very
// negative x, the tail, are written for a block of values, float (&x)[N], with one branch a block; a Range
// that is known to the compiler leaves out what cannot happen.
//
// Instructions an element on sm_90a, in brackets those of the special-function unit; the tail's check is
// about 1 more where there is one.
//
//   mish 12 (2)    sigmoid 17 (2)    silu 14 (2)         softplus 16 (1)     tanh 13 (2)
//   gelu 47 (2)    gelu_tanh 27 (1)  mish, x > 0: 9 (2)  sigmoid, x > -1: 12 (2)
//   near zero alone: tanh 6, sigmoid 5
//
// In the time in which an H100 reads and writes a float32 it issues 89, at most 11 of them of the
// special-function unit; in long chains one of those costs as much as 6 others.

#include "ops/elementwise/approx.h"
#include "ops/elementwise/op_info.h"
#include "runtime/dtype.h"

#if defined(__CUDACC__)
#include "ops/elementwise/pair16.cuh"
#endif

namespace solder::math {

// ---- building blocks -------------------------------------------------------------------------------------

inline constexpr float kLog2E = 1.44269502f;  // log2(e) is the sum of these two
inline constexpr float kLog2ELow = 1.92596299e-8f;
inline constexpr float kLn2 = 0.693147182f;  // ln(2) and 1.9e-9 more

/// e^x for x in [-87, 128]: 2^y (1 + r) with y = x log2(e) as it was rounded and r = x - y ln(2) what that
/// lost. Relative error 2^-22.3 for x > -43; NaN for infinite x.
SOLDER_HD float exp_near_zero(float x) {
  const float y = x * kLog2E;
  const float power = exp2_approx(y);
  return fmaf(power, fmaf(y, -kLn2, x), power);
}

/// x * e^x for x < -20, right down to the smallest subnormal: there e^x alone would already have lost bits
/// while the product is still a normal number. x + 40 is exact.
SOLDER_HD float x_times_exp(float x) {
  constexpr float kExpMinus40 = 4.248354255291589e-18f;
  return (x * expf(x + 40.0f)) * kExpMinus40;
}

/// From here on the e^x of exp_near_zero, off by 2^-22, is above 1.
inline constexpr float kAboveOne = 1e-6f;

/// Below kTail, where e^x < 2^-62, sigmoid and softplus are e^x to every digit, mish and silu x e^x.
inline constexpr float kTail = -43.0f;

/// x[i] = body(x[i]), or tail(x[i]) below kTail.
template <int N, class Body, class Tail>
SOLDER_HD void map_with_tail(float (&x)[N], Range known, Body body, Tail tail) {
  float y[N];
  SOLDER_UNROLL
  for (int i = 0; i < N; ++i) y[i] = body(x[i]);
  if (known.low < kTail && any_below(x, kTail)) [[unlikely]] {
    SOLDER_UNROLL
    for (int i = 0; i < N; ++i) {
      const float t = tail(x[i]);
      y[i] = x[i] < kTail ? t : y[i];
    }
  }
  SOLDER_UNROLL
  for (int i = 0; i < N; ++i) x[i] = y[i];
}

// ---- functions -------------------------------------------------------------------------------------------

/// |x|: exact.
SOLDER_HD float abs(float x) { return fabsf(x); }

/// -x: exact.
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

/// Hyperbolic tangent: an odd polynomial below 0.55, 1 - 2 / (1 + e^2x) from there on. At most 4 ULP.
/// tanh(+-inf) = +-1.
inline constexpr float kTanhFar = 0.55f;
SOLDER_HD float tanh_near_zero(float x) {
  const float z = x * x;
  float p = fmaf(z, 0.0164375808f, -0.0526718125f);
  p = fmaf(p, z, 0.133207247f);
  p = fmaf(p, z, -0.333329469f);
  return x * fmaf(p, z, 1.0f);
}
SOLDER_HD float tanh(float x) {
  const float e = exp2_approx(fabsf(x) * (2 * kLog2E));
  const float far = copysignf(fmaf(-2.0f, reciprocal_approx(e + 1.0f), 1.0f), x);
  const float near = tanh_near_zero(x);
  return fabsf(x) >= kTanhFar ? far : near;
}
template <int N>
SOLDER_HD void tanh(float (&x)[N], Range known = {}) {
  const bool all_near = known.low > -kTanhFar && known.high < kTanhFar;
  SOLDER_UNROLL
  for (int i = 0; i < N; ++i) x[i] = all_near ? tanh_near_zero(x[i]) : tanh(x[i]);
}

/// 1 / (1 + e^-x). Up to 1 from zero it is 1/2 and an odd polynomial. Beyond, with E = e^x,
///   x < 0:   E - E^2 / (1 + E)   where E leads and its quotient only corrects
///   x > 0:   1 - 1 / (1 + E)     where E may be coarse
/// which are both b - b^2 / (1 + E), b = min(E, 1). At most 4 ULP. sigmoid(-inf) = 0, sigmoid(+inf) = 1.
inline constexpr float kSigmoidFar = 1.0f;
SOLDER_HD float sigmoid_near_zero(float x) {
  const float z = x * x;
  float p = fmaf(z, -0.000169432547f, 0.00205394789f);
  p = fmaf(p, z, -0.0208254196f);
  p = fmaf(p, z, 0.249999419f);
  return fmaf(p, x, 0.5f);
}
SOLDER_HD float sigmoid_body(float x, Range known = {}) {
  const bool never_below = known.low >= -kSigmoidFar;
  if (never_below && known.high <= kSigmoidFar) return sigmoid_near_zero(x);
  const float coarse = exp2_approx(x * kLog2E);
  const float e = never_below || x > 0.0f ? coarse : exp_near_zero(x);
  const float b = never_below ? 1.0f : smaller(e, 1.0f);
  const float far = fmaf(-b, b * reciprocal_approx(1.0f + e), b);
  return fabsf(x) > kSigmoidFar ? far : sigmoid_near_zero(x);
}
template <int N>
SOLDER_HD void sigmoid(float (&x)[N], Range known = {}) {
  map_with_tail(
      x, known, [=](float v) { return sigmoid_body(v, known); }, [](float v) { return expf(v); });
}

/// log(1 + e^x) = max(x, 0) + log(1 + z) with z = e^-|x|, the logarithm as z + z^2 P(z). At most 4 ULP.
/// softplus(-inf) = 0, softplus(+inf) = +inf.
SOLDER_HD float softplus_body(float x) {
  const float z = exp_near_zero(-smaller(fabsf(x), 88.0f));
  float p = fmaf(z, 0.00536480546f, -0.030065706f);
  p = fmaf(p, z, 0.0792043731f);
  p = fmaf(p, z, -0.137537867f);
  p = fmaf(p, z, 0.191536471f);
  p = fmaf(p, z, -0.248571619f);
  p = fmaf(p, z, 0.33321324f);
  p = fmaf(p, z, -0.499996483f);
  return fmaf(z * z, p, z) + (x <= 0.0f ? 0.0f : x);
}
template <int N>
SOLDER_HD void softplus(float (&x)[N], Range known = {}) {
  map_with_tail(
      x, known, [](float v) { return softplus_body(v); }, [](float v) { return expf(v); });
}

/// max(x, 0), exact. NaN passes; relu(-0) = +0.
SOLDER_HD float relu(float x) { return x <= 0.0f ? 0.0f : x; }

/// x for x > 0, slope * x otherwise, correctly rounded.
template <int N>
SOLDER_HD void leaky_relu(float (&x)[N], float slope, Range known = {}) {
  if (known.low > 0) return;
  SOLDER_UNROLL
  for (int i = 0; i < N; ++i) x[i] = x[i] > 0.0f ? x[i] : x[i] * slope;
}

/// x for x > 0, alpha * (e^x - 1) otherwise (Clevert et al. 2015): at most 4 ULP. elu(-inf) = -alpha.
SOLDER_HD float elu(float x, float alpha) { return x > 0.0f ? x : alpha * expm1f(x); }

/// scale * elu(x, alpha) with the constants of Klambauer et al. 2017, grouped as PyTorch does: at most 4 ULP.
SOLDER_HD float selu(float x) {
  constexpr float kAlpha = 1.6732632423543772848170429916717f;
  constexpr float kScale = 1.0507009873554804934193349852946f;
  return x > 0.0f ? kScale * x : (kScale * kAlpha) * expm1f(x);
}

/// x * Phi(x), Phi the normal distribution function (Hendrycks and Gimpel 2016): at most 4 ULP. Near zero Phi
/// is 1/2 and an odd polynomial. Elsewhere, with a = |x|,
///   Phi(-a) = e^(-a^2 / 2) S(a) / (k + 1.25 k a)
/// where S, nearly constant, is a polynomial in 1 / (1 + 0.28 a); the exponent keeps what a^2 rounds away and
/// the division what its divisor does. All of it 2^24 times as large for the sake of subnormal results.
/// gelu(-inf) = NaN (-inf * 0), as in PyTorch.
SOLDER_HD float gelu(float x) {
  constexpr float kLargest = 14.4f;  // -14.4 Phi(-14.4) rounds to -0
  constexpr float kOffset = 1.6875f, kSlope = 1.25f * kOffset;
  const float a = smaller(fabsf(x), kLargest);
  const float square = a * a, square_low = fmaf(a, a, -square);
  float p = fmaf(square, -0.00112299493f, 0.00996124931f);
  p = fmaf(p, square, -0.0664894879f);
  p = fmaf(p, square, 0.398942262f);
  const float near = x * fmaf(p, x, 0.5f);

  const float s = reciprocal_approx(fmaf(a, 0.28125f, 1.0f)) - 0.4375f;
  float numerator = fmaf(s, -0.199270591f, 0.211447984f);
  numerator = fmaf(numerator, s, 0.327043116f);
  numerator = fmaf(numerator, s, -0.158707917f);
  numerator = fmaf(numerator, s, -0.765656054f);
  numerator = fmaf(numerator, s, -0.929262817f);
  numerator = fmaf(numerator, s, -0.575224996f);
  numerator = fmaf(numerator, s, -0.0602201745f);
  numerator = fmaf(numerator, s, 0.271125764f);
  numerator = fmaf(numerator, s, 0.947024584f);
  const float whole = fmaf(square, -0.5f * kLog2E, kRound + 24.0f), n = whole - (kRound + 24.0f);
  float fraction = fmaf(square, -0.5f * kLog2E, -n);
  fraction = fmaf(square, -0.5f * kLog2ELow, fraction);
  fraction = fmaf(square_low, -0.5f * kLog2E, fraction);
  numerator = (a * numerator) * exp2_split(whole, fraction);
  const float divisor = fmaf(a, kSlope, kOffset), divisor_low = fmaf(a, kSlope, kOffset - divisor);
  const float approx = reciprocal_approx(divisor);
  float q = numerator * approx;  // a Phi(-a) 2^24
  q = fmaf(fmaf(-q, divisor_low, fmaf(-q, divisor, numerator)), approx, q);
  const float far = fmaf(q, -0x1p-24f, x * (x > 0.0f ? 1.0f : 0.0f));
  return a < 0.5f ? near : far;
}

/// GELU's tanh form, 0.5 x (1 + tanh(u)) with u = sqrt(2/pi) (x + 0.044715 x^3), at most 4 ULP, written as
///   x / (1 + e^-2u)
/// so that nothing cancels. 2u log2(e) = x (A + B x^2) is worked out in two floats each. e^-2u is held 2^-32
/// times as large for the sake of subnormal results. gelu_tanh(-inf) = NaN, as in PyTorch.
SOLDER_HD float gelu_tanh(float x) {
  constexpr float kA = 2.30220795f, kALow = 2.51366981e-7f;  // kA - w below is exact
  constexpr float kB = 0.10294324f, kBLow = -2.01619844e-9f;
  const float a = smaller(larger(x, -10.8f), 8.0f);  // below, the result rounds to -0
  const float square = a * a, square_low = fmaf(a, a, -square);
  const float w = fmaf(square, kB, kA);
  const float w_low = fmaf(square, kB, kA - w) + fmaf(square, kBLow, fmaf(square_low, kB, kALow));
  const float whole = fmaf(a, -w, kRound - 32.0f), n = whole - (kRound - 32.0f);
  const float e = exp2_split(whole, fmaf(a, -w_low, fmaf(a, -w, -n)));
  const float y = fmaf(a * reciprocal_approx(e + 0x1p-32f), 0x1p-32f, x * 0.0f);
  return x > 8.0f ? x : y;
}

/// x * sigmoid(x) (swish): at most 4 ULP. silu(-inf) = NaN, silu(+inf) = +inf.
SOLDER_HD float silu_body(float x) {
  const float e = exp_near_zero(smaller(x, 88.0f));
  const float b = smaller(e, 1.0f), xb = x * b;
  const float y = fmaf(-xb, b * reciprocal_approx(1.0f + e), xb);  // as sigmoid; +0 for x = -0
  return x > 88.0f ? x : copysignf(y, x);
}
template <int N>
SOLDER_HD void silu(float (&x)[N], Range known = {}) {
  map_with_tail(
      x, known, [](float v) { return silu_body(v); }, [](float v) { return x_times_exp(v); });
}

/// min(max(x + 3, 0), 6) / 6 (Howard et al. 2019): at most 1.5 ULP.
SOLDER_HD float hard_sigmoid(float x) {
  const float t = x + 3.0f;
  return (t < 0.0f ? 0.0f : (t > 6.0f ? 6.0f : t)) * 0.166666672f;
}

/// x * hard_sigmoid(x) (Howard et al. 2019): at most 2.5 ULP. hard_swish(-inf) = NaN, as in PyTorch.
SOLDER_HD float hard_swish(float x) { return x * hard_sigmoid(x); }

/// x * tanh(log(1 + e^x)) (Misra 2019), without the logarithm: with E = e^x the factor is n / (n + 2), where
/// n = E (E + 2). As for sigmoid,
///   x <= 0:   E - E^2 (E + 1) / (n + 2)
///   x > 0:    1 - 2 / (n + 2)
/// are both b - b^2 (b + 1) / (n + 2), b = min(E, 1). At most 4 ULP. mish(-inf) = NaN (-inf * 0),
/// mish(+inf) = +inf, as in PyTorch.
SOLDER_HD float mish_body(float x, Range known = {}) {
  const float e = exp_near_zero(x);
  const float b = smaller(e, 1.0f);
  const float approx = reciprocal_approx(fmaf(e, e + 2.0f, 2.0f));
  if (known.low >= kAboveOne && known.high <= 88.0f) return x * fmaf(-2.0f, approx, 1.0f);  // b = 1
  const float t = saturate(fmaf(b, b, b) * approx);  // 0 where e is NaN because x is +inf
  return x * fmaf(-b, t, b);
}
template <int N>
SOLDER_HD void mish(float (&x)[N], Range known = {}) {
  map_with_tail(
      x, known, [=](float v) { return mish_body(v, known); }, [](float v) { return x_times_exp(v); });
}

/// mish(mish(x)), rounded after each, so at most 4 ULP from mish of the float32 mish(x); mish never goes
/// below -0.31, so the second has no tail.
template <int N>
SOLDER_HD void double_mish(float (&x)[N], Range known = {}) {
  mish(x, known);
  SOLDER_UNROLL
  for (int i = 0; i < N; ++i) x[i] = mish_body(x[i]);
}

/// x limited to [low, high], exact; NaN passes.
SOLDER_HD float clip(float x, float low, float high) { return x < low ? low : (x > high ? high : x); }

/// The whole number below, above and nearest (of two the even one), exact: with x's sign where it is 0.
SOLDER_HD float floor(float x) { return floorf(x); }
SOLDER_HD float ceil(float x) { return ceilf(x); }
SOLDER_HD float round(float x) { return rintf(x); }

/// 1 for x > 0, -1 for x < 0, otherwise x: exact.
SOLDER_HD float sign(float x) { return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x; }

/// C's functions of angles in radians, of any size: at most 2 ULP. NaN for infinite x.
SOLDER_HD float sin(float x) { return sinf(x); }
SOLDER_HD float cos(float x) { return cosf(x); }

/// At most 4 ULP. NaN for infinite x.
SOLDER_HD float tan(float x) { return tanf(x); }

/// C's inverses, in radians: at most 2 ULP. NaN beyond 1 but for atan, and atan(+-inf) = +-pi/2.
SOLDER_HD float asin(float x) { return asinf(x); }
SOLDER_HD float acos(float x) { return acosf(x); }
SOLDER_HD float atan(float x) { return atanf(x); }

/// C's hyperbolic functions and their inverses: at most 4 ULP. acosh(x < 1), atanh(|x| > 1) = NaN,
/// atanh(+-1) = +-inf.
SOLDER_HD float sinh(float x) { return sinhf(x); }
SOLDER_HD float cosh(float x) { return coshf(x); }
SOLDER_HD float asinh(float x) { return asinhf(x); }
SOLDER_HD float acosh(float x) { return acoshf(x); }
SOLDER_HD float atanh(float x) { return atanhf(x); }

/// x rounded to float16 and back, to nearest even, beyond its range infinity: exact as far as that type goes.
SOLDER_HD float to_float16(float x) {
#if defined(__CUDA_ARCH__)
  return unpack_pair(DType::float16, pack_pair(DType::float16, x, 0)).x;
#else
  return float_from_float16(float16_from_float(x));
#endif
}

/// x rounded to bfloat16 and back, to nearest even: exact as far as that type goes.
SOLDER_HD float to_bfloat16(float x) {
#if defined(__CUDA_ARCH__)
  return unpack_pair(DType::bfloat16, pack_pair(DType::bfloat16, x, 0)).x;
#else
  return float_from_bfloat16(bfloat16_from_float(x));
#endif
}

/// IEEE arithmetic, correctly rounded.
SOLDER_HD float add(float a, float b) { return a + b; }
SOLDER_HD float sub(float a, float b) { return a - b; }
SOLDER_HD float mul(float a, float b) { return a * b; }
SOLDER_HD float div(float a, float b) { return a / b; }

/// C's powf, at most 8 ULP, except that NaN always passes.
SOLDER_HD float pow(float a, float b) { return (a != a || b != b) ? a + b : powf(a, b); }

/// What is left of a / b after so many whole times b, with the sign of a: exact. NaN for infinite a and for b = 0.
SOLDER_HD float fmod(float a, float b) { return fmodf(a, b); }

/// The smaller, larger of two, exact; NaN if either is NaN. Of two equal values (+0 and -0 too) the second.
SOLDER_HD float min(float a, float b) { return (a < b || a != a) ? a : b; }
SOLDER_HD float max(float a, float b) { return (a > b || a != a) ? a : b; }

/// 1 where it holds and 0 elsewhere, exact; with NaN only not_equal holds.
SOLDER_HD float less(float a, float b) { return a < b ? 1.0f : 0.0f; }
SOLDER_HD float less_equal(float a, float b) { return a <= b ? 1.0f : 0.0f; }
SOLDER_HD float equal(float a, float b) { return a == b ? 1.0f : 0.0f; }
SOLDER_HD float not_equal(float a, float b) { return a != b ? 1.0f : 0.0f; }

/// The parts of a selection, all exact: a where the condition is not 0 (NaN is not), bit for bit, and +0
/// elsewhere; the opposite; and two such parts, one of them +0, as one: a or b, bit by bit.
SOLDER_HD float keep_if(float a, float condition) { return condition != 0 ? a : 0.0f; }
SOLDER_HD float keep_unless(float a, float condition) { return condition != 0 ? 0.0f : a; }
SOLDER_HD float either(float a, float b) {
  return __builtin_bit_cast(float, __builtin_bit_cast(uint32_t, a) | __builtin_bit_cast(uint32_t, b));
}

}  // namespace solder::math
