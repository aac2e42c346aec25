#pragma once
// One switch from an Op to its formula, over a block of N values: the CPU, the elementwise kernel and the
// convolution's epilogue all run this. With a constant `op` the switch folds away, which is how chains known
// at compile time are made.

#include "ops/elementwise/formulas.h"
#include "ops/elementwise/program.h"

#if defined(__CUDACC__)
#include "ops/elementwise/pair16.cuh"
#endif

namespace solder {

/// x rounded to float16 and back (to nearest even; beyond its range infinity).
SOLDER_HD float round_to_float16(float x) {
#if defined(__CUDA_ARCH__)
  return unpack_pair(DType::float16, pack_pair(DType::float16, x, 0)).x;
#else
  return float_from_float16(float16_from_float(x));
#endif
}

/// x rounded to bfloat16 and back (to nearest even).
SOLDER_HD float round_to_bfloat16(float x) {
#if defined(__CUDA_ARCH__)
  return unpack_pair(DType::bfloat16, pack_pair(DType::bfloat16, x, 0)).x;
#else
  return float_from_bfloat16(bfloat16_from_float(x));
#endif
}

/// acc[i] = f(acc[i]).
template <int N, class F>
SOLDER_HD void map_block(float (&acc)[N], F f) {
  SOLDER_UNROLL
  for (int i = 0; i < N; ++i) acc[i] = f(acc[i]);
}

/// acc[i] = f(acc[i], other[i]), or f(other[i], acc[i]) when swapped.
template <int N, class F>
SOLDER_HD void zip_block(bool swapped, float (&acc)[N], const float (&other)[N], F f) {
  SOLDER_UNROLL
  for (int i = 0; i < N; ++i) acc[i] = swapped ? f(other[i], acc[i]) : f(acc[i], other[i]);
}

/// acc = op(acc) for a unary op with parameters p, q (see Step), acc being in `known`.
template <int N>
SOLDER_HD void apply_unary(Op op, float p, float q, float (&acc)[N], math::Range known = {}) {
  switch (op) {
    case Op::abs: return map_block(acc, [](float x) { return math::abs(x); });
    case Op::neg: return map_block(acc, [](float x) { return math::neg(x); });
    case Op::exp: return map_block(acc, [](float x) { return math::exp(x); });
    case Op::log: return map_block(acc, [](float x) { return math::log(x); });
    case Op::sqrt: return map_block(acc, [](float x) { return math::sqrt(x); });
    case Op::rsqrt: return map_block(acc, [](float x) { return math::rsqrt(x); });
    case Op::reciprocal: return map_block(acc, [](float x) { return math::reciprocal(x); });
    case Op::square: return map_block(acc, [](float x) { return math::square(x); });
    case Op::erf: return map_block(acc, [](float x) { return math::erf(x); });
    case Op::tanh: return math::tanh(acc, known);
    case Op::sigmoid: return math::sigmoid(acc, known);
    case Op::softplus: return math::softplus(acc, known);
    case Op::relu: return map_block(acc, [](float x) { return math::relu(x); });
    case Op::leaky_relu:
      if (known.low > 0) return;
      return map_block(acc, [=](float x) { return math::leaky_relu(x, p); });
    case Op::elu: return map_block(acc, [=](float x) { return math::elu(x, p); });
    case Op::selu: return map_block(acc, [](float x) { return math::selu(x); });
    case Op::gelu: return map_block(acc, [](float x) { return math::gelu(x); });
    case Op::gelu_tanh: return map_block(acc, [](float x) { return math::gelu_tanh(x); });
    case Op::silu: return math::silu(acc, known);
    case Op::hard_sigmoid: return map_block(acc, [](float x) { return math::hard_sigmoid(x); });
    case Op::hard_swish: return map_block(acc, [](float x) { return math::hard_swish(x); });
    case Op::mish: return math::mish(acc, known);
    case Op::double_mish:
      math::mish(acc, known);
      return map_block(acc, [](float x) { return math::mish_body(x); });
    case Op::clip: return map_block(acc, [=](float x) { return math::clip(x, p, q); });
    case Op::to_float16: return map_block(acc, [](float x) { return round_to_float16(x); });
    case Op::to_bfloat16: return map_block(acc, [](float x) { return round_to_bfloat16(x); });
    default: return;  // binary ops and data movement do not come here
  }
}

/// acc = op(acc, other), or op(other, acc) when swapped, for a binary op.
template <int N>
SOLDER_HD void apply_binary(Op op, bool swapped, float (&acc)[N], const float (&other)[N]) {
  switch (op) {
    case Op::add: return zip_block(swapped, acc, other, [](float a, float b) { return math::add(a, b); });
    case Op::sub: return zip_block(swapped, acc, other, [](float a, float b) { return math::sub(a, b); });
    case Op::mul: return zip_block(swapped, acc, other, [](float a, float b) { return math::mul(a, b); });
    case Op::div: return zip_block(swapped, acc, other, [](float a, float b) { return math::div(a, b); });
    case Op::pow: return zip_block(swapped, acc, other, [](float a, float b) { return math::pow(a, b); });
    case Op::min: return zip_block(swapped, acc, other, [](float a, float b) { return math::min(a, b); });
    case Op::max: return zip_block(swapped, acc, other, [](float a, float b) { return math::max(a, b); });
    default: return;
  }
}

}  // namespace solder
