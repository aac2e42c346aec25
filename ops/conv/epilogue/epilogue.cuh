#pragma once
// The device side of ConvEpilogue: runs a chain over a block of accumulators in registers.
//
//   acc[i] = scale_and_bias<Chain>(sum[i], scale, bias);   // bias = epilogue_bias(epilogue, channel)
//   run_epilogue<Chain>(epilogue, place, acc);             // the rest
//
// `place` says where the block lies, in whatever layout the kernel holds it; it needs
//   template <int N> void load(const float* tensor, float (&values)[N]) const;
//     // values[i] = tensor's element at acc[i]'s position in y [N,K,P,Q]; anything where acc[i] is not
//     stored

#include "ops/conv/epilogue/epilogue.h"
#include "ops/elementwise/apply.h"

namespace solder {

/// A chain as a type. kFast, for Math::tf32: activations by special-function units, relative error below
/// 2^-18 wherever the result is a normal number; otherwise the formulas of an elementwise pass, bit for bit
/// what such a pass would give on the same sum.
template <ConvChain kChainValue, bool kFastValue, bool kTailFreeValue = false>
struct EpilogueChain {
  static constexpr ConvChain kChain = kChainValue;
  static constexpr bool kFast = kFastValue;
  /// The fast forms here need help below math::kTail.
  static constexpr bool kHasTail =
      kFast && (kChain == ConvChain::mish || kChain == ConvChain::double_mish || kChain == ConvChain::silu);
  /// The kernel has seen to it that no sum lies below math::kTail or is infinite, and the check is left out.
  static constexpr bool kTailFree = kTailFreeValue;
  /// NOTE: not where a residual is added first: then sums say nothing about what the activation will see.
  using TailFree = EpilogueChain<kChainValue, kFastValue, kHasTail>;
};

/// The bias; -0 (which changes nothing, not even -0) where there is none.
inline __device__ float epilogue_bias(const ConvEpilogue& epilogue, int channel) {
  return epilogue.bias != nullptr ? __ldg(epilogue.bias + channel) : -0.0f;
}

/// sum * scale + bias for a power-of-two scale.
template <class Chain>
__device__ float scale_and_bias(float sum, float scale, float bias) {
  // One rounding instead of two where sum * scale is subnormal; exactness asks for both.
  if constexpr (Chain::kFast) return fmaf(sum, scale, bias);
  return __fadd_rn(__fmul_rn(sum, scale), bias);
}

/// mish in two special-function and five other instructions. With F = e^-x, mish(x) = x (1 + 2F) / (1 + 2F +
/// 2F^2): nothing cancels and nothing overflows above math::kTail; G = sqrt(2) F saves a multiplication.
/// mish(+inf) = +inf, mish(-inf) = NaN. Relative error below 2^-18.5 for x >= math::kTail (the rounding of x
/// log2 e, at most 2^-19.5, plus log2 e's own, 2^-20.5, and two ulps of the approximations).
__device__ inline float fast_mish(float x) {
  const float g = math::exp2_approx(fmaf(x, -1.44269504f, 0.5f));
  const float numerator = fmaf(g, 1.41421356f, 1.0f);
  const float denominator = fmaf(g, g, numerator);
  return (x * numerator) * math::reciprocal_approx(denominator);
}

/// mish for -0.5 <= x < inf with an instruction less: x - x / (1 + sqrt(2) E + E^2), E = e^x / sqrt(2). The
/// difference loses two bits at most: relative error below 2^-20. NaN for +inf.
__device__ inline float fast_mish_again(float x) {
  const float e = math::exp2_approx(fmaf(x, 1.44269504f, -0.5f));
  return fmaf(x, math::reciprocal_approx(fmaf(-e, e + 1.41421356f, -1.0f)), x);
}

/// x * sigmoid(x) likewise: x / (1 + e^-x).
__device__ inline float fast_silu(float x) {
  const float f = math::exp2_approx(x * -1.44269504f);
  return x * math::reciprocal_approx(1.0f + f);
}

/// What mish and silu are below math::kTail, where the fast forms' exponentials have lost digits: x * e^x by
/// special functions, in three factors so that it is right down to the smallest
/// normal number; -0 below -104, NaN for -inf.
__device__ inline float fast_tail(float x) {
  const float whole = rintf(fmaxf(x * 1.44269504f, -180.0f));
  const float fraction = fmaf(x, 1.92596299e-8f, fmaf(x, 1.44269502f, -whole));  // log2 e in two parts
  return (x * math::exp2_approx(fraction)) * math::exp2_approx(whole + 64.0f) * 5.42101086e-20f;
}

template <Op kOp, bool kTailFree, int N>
__device__ void fast_activation(float (&acc)[N]) {
  float result[N];
#pragma unroll
  for (int i = 0; i < N; ++i) result[i] = kOp == Op::silu ? fast_silu(acc[i]) : fast_mish(acc[i]);
  if (!kTailFree && math::any_below(acc, math::kTail)) [[unlikely]] {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float tail = fast_tail(acc[i]);
      result[i] = acc[i] < math::kTail ? tail : result[i];
    }
  }
#pragma unroll
  for (int i = 0; i < N; ++i) acc[i] = result[i];
  if constexpr (kOp == Op::double_mish) {
    // A second mish sees nothing below -0.31: no tail.
#pragma unroll
    for (int i = 0; i < N; ++i) acc[i] = kTailFree ? fast_mish_again(acc[i]) : fast_mish(acc[i]);
  }
}

/// acc = the activation of an ahead-of-time chain.
template <class Chain, int N>
__device__ void run_activation(const ConvEpilogue& epilogue, float (&acc)[N]) {
  constexpr Op kOp = kChainOps[static_cast<int>(Chain::kChain)];
  if constexpr (Chain::kHasTail)
    fast_activation<kOp, Chain::kTailFree>(acc);
  else if constexpr (Chain::kChain != ConvChain::bias)
    apply_unary<kOp>(epilogue.slope, 0, acc);
}

/// Calls what(chain) for an ahead-of-time chain of an activation that is named at run time.
template <bool kFast, class What>
__device__ __forceinline__ void with_chain(ConvChain activation, const What& what) {
  switch (activation) {
    case ConvChain::relu: return what(EpilogueChain<ConvChain::relu, kFast>());
    case ConvChain::leaky_relu: return what(EpilogueChain<ConvChain::leaky_relu, kFast>());
    case ConvChain::silu: return what(EpilogueChain<ConvChain::silu, kFast>());
    case ConvChain::mish: return what(EpilogueChain<ConvChain::mish, kFast>());
    case ConvChain::double_mish: return what(EpilogueChain<ConvChain::double_mish, kFast>());
    default: return what(EpilogueChain<ConvChain::bias, kFast>());
  }
}

/// acc = an activation named at run time: one branch for all of acc.
template <bool kFast, int N>
__device__ void run_any_activation(const ConvEpilogue& epilogue, float (&acc)[N]) {
  with_chain<kFast>(epilogue.activation, [&](auto chain) { run_activation<decltype(chain)>(epilogue, acc); });
}

/// acc = what follows the bias; then acc remains to be stored.
template <class Chain, class Place, int N>
__device__ void run_epilogue(const ConvEpilogue& epilogue, const Place& place, float (&acc)[N]) {
  if constexpr (Chain::kChain == ConvChain::any) {
    float other[N];
    if (epilogue.residual_at != ResidualAt::none) place.load(epilogue.residual, other);
    if (epilogue.residual_at == ResidualAt::before) apply_binary<Op::add>(false, acc, other);
    run_any_activation<Chain::kFast>(epilogue, acc);
    if (epilogue.residual_at == ResidualAt::after) apply_binary<Op::add>(false, acc, other);
  } else {
    run_activation<Chain>(epilogue, acc);
  }
}

}  // namespace solder
