#pragma once
// The device side of ConvEpilogue: runs a chain over a block of accumulators in registers.
//
//   acc[i] = scale_and_bias<Chain>(sum[i], scale, bias);   // bias = epilogue_bias<Chain>(epilogue, channel)
//   run_epilogue<Chain>(epilogue, place, acc);             // the rest of the program
//
// `place` says where the block lies, in whatever layout the kernel holds it; it needs
//   int channel(int i) const;                                          // output channel of acc[i]
//   template <int N> void load(const float* tensor, float (&values)[N]) const;
//     // values[i] = tensor's element at acc[i]'s position in y [N,K,P,Q]; anything where acc[i] is not
//     stored
// `i` is always a constant, so that both fold into addresses.

#include "ops/conv/epilogue/epilogue.h"
#include "ops/elementwise/apply.h"
#include "ops/ptx/sm90.cuh"

namespace solder {

/// A chain as a type. kFast, for Math::tf32: activations by special-function units, relative error below
/// 2^-18 wherever the result is a normal number; otherwise the formulas of ops/elementwise/formulas.h, bit for bit
/// what a pass of its own would give on the same sum.
template <ConvChain kChainValue, bool kFastValue, bool kTailFreeValue = false>
struct EpilogueChain {
  static constexpr ConvChain kChain = kChainValue;
  static constexpr bool kFast = kFastValue;
  static constexpr bool kInterpreted = kChain == ConvChain::interpreted;
  /// The fast forms here need help below math::kTail.
  static constexpr bool kHasTail =
      kFast && (kChain == ConvChain::mish || kChain == ConvChain::double_mish || kChain == ConvChain::silu);
  /// The kernel has seen to it that no sum lies below math::kTail or is infinite, and the check is left out.
  static constexpr bool kTailFree = kTailFreeValue;
  /// NOTE: not where a residual is added first: then sums say nothing about what the activation will see.
  using TailFree = EpilogueChain<kChainValue, kFastValue, kHasTail>;
};

/// The bias of an ahead-of-time chain; -0 (which changes nothing, not even -0) where there is none.
template <class Chain>
__device__ float epilogue_bias(const ConvEpilogue& epilogue, int channel) {
  if (Chain::kInterpreted || epilogue.bias_operand < 0) return -0.0f;
  return __ldg(epilogue.operands[epilogue.bias_operand] + channel);
}

/// sum * scale + bias for a power-of-two scale.
template <class Chain>
__device__ float scale_and_bias(float sum, float scale, float bias) {
  if constexpr (Chain::kInterpreted) return sum * scale;
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

template <class Chain, int N>
__device__ void apply_epilogue_unary(Op op, float p, float q, float (&acc)[N]) {
  if constexpr (Chain::kFast) {
    if (op == Op::mish) return fast_activation<Op::mish, Chain::kTailFree>(acc);
    if (op == Op::double_mish) return fast_activation<Op::double_mish, Chain::kTailFree>(acc);
  }
  apply_unary(op, p, q, acc);
}

template <class Place, int N>
__device__ void load_epilogue_operand(const ConvEpilogue& epilogue, int index, const Place& place,
                                      float (&values)[N]) {
  const float* data = epilogue.operands[index];
  switch (epilogue.access[index]) {
    case EpilogueAccess::full: return place.load(data, values);
    case EpilogueAccess::channel:
#pragma unroll
      for (int i = 0; i < N; ++i) values[i] = __ldg(data + place.channel(i));
      return;
    case EpilogueAccess::scalar:
#pragma unroll
      for (int i = 0; i < N; ++i) values[i] = __ldg(data);
      return;
  }
}

template <class Chain, class Place, int N>
__device__ void interpret_epilogue(const ConvEpilogue& epilogue, const Place& place, float (&acc)[N]) {
  float slot[N] = {};
#pragma unroll 1
  for (int s = 0; s < epilogue.program.num_steps; ++s) {
    const Step& step = epilogue.program.steps[s];
    float other[N];
    if (step.source == Source::operand) {
      load_epilogue_operand(epilogue, step.index, place, other);
    } else {
#pragma unroll
      for (int i = 0; i < N; ++i) other[i] = step.source == Source::slot ? slot[i] : step.p;
    }
    if (is_unary(step.op)) {
      apply_epilogue_unary<Chain>(step.op, step.p, step.q, acc);
    } else if (is_binary(step.op)) {
      apply_binary(step.op, step.swapped, acc, other);
    } else if (step.op == Op::load) {
#pragma unroll
      for (int i = 0; i < N; ++i) acc[i] = other[i];
    } else if (step.op == Op::store_slot) {
#pragma unroll
      for (int i = 0; i < N; ++i) slot[i] = acc[i];
    }
  }
}

/// acc = the activation of an ahead-of-time chain.
template <class Chain, int N>
__device__ void run_activation(const ConvEpilogue& epilogue, float (&acc)[N]) {
  if constexpr (Chain::kChain == ConvChain::relu) {
    apply_unary(Op::relu, 0, 0, acc);
  } else if constexpr (Chain::kChain == ConvChain::leaky_relu) {
    apply_unary(Op::leaky_relu, epilogue.slope, 0, acc);
  } else if constexpr (Chain::kChain == ConvChain::silu) {
    if constexpr (Chain::kFast)
      fast_activation<Op::silu, Chain::kTailFree>(acc);
    else
      apply_unary(Op::silu, 0, 0, acc);
  } else if constexpr (Chain::kChain == ConvChain::mish) {
    apply_epilogue_unary<Chain>(Op::mish, 0, 0, acc);
  } else if constexpr (Chain::kChain == ConvChain::double_mish) {
    apply_epilogue_unary<Chain>(Op::double_mish, 0, 0, acc);
  }
}

/// The same, of the activation that a residual chain names: one branch for all of acc.
template <bool kFast, int N>
__device__ void run_any_activation(const ConvEpilogue& epilogue, float (&acc)[N]) {
  switch (epilogue.activation) {
    case ConvChain::relu: return run_activation<EpilogueChain<ConvChain::relu, kFast>>(epilogue, acc);
    case ConvChain::leaky_relu:
      return run_activation<EpilogueChain<ConvChain::leaky_relu, kFast>>(epilogue, acc);
    case ConvChain::silu: return run_activation<EpilogueChain<ConvChain::silu, kFast>>(epilogue, acc);
    case ConvChain::mish: return run_activation<EpilogueChain<ConvChain::mish, kFast>>(epilogue, acc);
    case ConvChain::double_mish:
      return run_activation<EpilogueChain<ConvChain::double_mish, kFast>>(epilogue, acc);
    default: return;
  }
}

/// acc = the program after its bias (an ahead-of-time chain) or the whole program (an interpreted one); what
/// remains to be done is to store acc.
template <class Chain, class Place, int N>
__device__ void run_epilogue(const ConvEpilogue& epilogue, const Place& place, float (&acc)[N]) {
  if constexpr (Chain::kInterpreted) {
    interpret_epilogue<Chain>(epilogue, place, acc);
  } else if constexpr (Chain::kChain == ConvChain::residual) {
    float other[N];
    place.load(epilogue.operands[epilogue.residual_operand], other);
    if (!epilogue.is_residual_last) apply_binary(Op::add, false, acc, other);
    run_any_activation<Chain::kFast>(epilogue, acc);
    if (epilogue.is_residual_last) apply_binary(Op::add, false, acc, other);
  } else {
    run_activation<Chain>(epilogue, acc);
  }
}

}  // namespace solder
