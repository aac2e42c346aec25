#pragma once
// From an op to its formula, over a block of N values: the CPU, the elementwise kernels and the convolutions'
// epilogues all run this.

#include "ops/elementwise/formulas.h"

namespace solder {

/// acc = f(acc), by the formula for a block where there is one, else value by value.
template <int N, class F>
SOLDER_HD void map_block(float (&acc)[N], math::Range known, F f) {
  if constexpr (requires { f(acc, known); }) {
    f(acc, known);
  } else {
    SOLDER_UNROLL
    for (int i = 0; i < N; ++i) acc[i] = f(acc[i]);
  }
}

/// The same with the first kParams of p and q behind acc.
template <int kParams, int N, class F>
SOLDER_HD void map_block(float (&acc)[N], math::Range known, F f, float p, float q) {
  if constexpr (kParams == 0)
    map_block(acc, known, f);
  else if constexpr (kParams == 1)
    map_block(acc, known, [=](auto& x, auto... in) -> decltype(f(x, p, in...)) { return f(x, p, in...); });
  else
    map_block(acc, known,
              [=](auto& x, auto... in) -> decltype(f(x, p, q, in...)) { return f(x, p, q, in...); });
}

/// acc[i] = f(acc[i], other[i]), or f(other[i], acc[i]) when swapped.
template <int N, class F>
SOLDER_HD void zip_block(bool swapped, float (&acc)[N], const float (&other)[N], F f) {
  SOLDER_UNROLL
  for (int i = 0; i < N; ++i) acc[i] = swapped ? f(other[i], acc[i]) : f(acc[i], other[i]);
}

/// acc = kOp(acc) for a unary op with parameters p, q (see Step), acc being in `known`. Of the formulas this one alone is
/// compiled: NVRTC takes a third less time.
template <Op kOp, int N>
SOLDER_HD void apply_unary(float p, float q, float (&acc)[N], math::Range known = {}) {
#define SOLDER_CASE(name, ...)            \
  if constexpr (kOp == Op::name)          \
    map_block<op_info(kOp).num_params()>( \
        acc, known, [](auto&&... x) -> decltype(math::name(x...)) { return math::name(x...); }, p, q);
  SOLDER_UNARY_OPS(SOLDER_CASE)
  SOLDER_CONVERSIONS(SOLDER_CASE)
#undef SOLDER_CASE
}

/// acc = kOp(acc, other), or kOp(other, acc) when swapped, for a binary op.
template <Op kOp, int N>
SOLDER_HD void apply_binary(bool swapped, float (&acc)[N], const float (&other)[N]) {
#define SOLDER_CASE(name, ...)   \
  if constexpr (kOp == Op::name) \
    zip_block(swapped, acc, other, [](float a, float b) { return math::name(a, b); });
  SOLDER_BINARY_OPS(SOLDER_CASE)
#undef SOLDER_CASE
}

/// The same for an op that is known when it runs; nothing for one of another kind.
template <int N>
SOLDER_HD void apply_unary(Op op, float p, float q, float (&acc)[N], math::Range known = {}) {
#define SOLDER_CASE(name, ...) \
  case Op::name: return apply_unary<Op::name>(p, q, acc, known);
  switch (op) {
    SOLDER_UNARY_OPS(SOLDER_CASE)
    SOLDER_CONVERSIONS(SOLDER_CASE)
    default: return;
  }
#undef SOLDER_CASE
}

template <int N>
SOLDER_HD void apply_binary(Op op, bool swapped, float (&acc)[N], const float (&other)[N]) {
#define SOLDER_CASE(name, ...) \
  case Op::name: return apply_binary<Op::name>(swapped, acc, other);
  switch (op) {
    SOLDER_BINARY_OPS(SOLDER_CASE)
    default: return;
  }
#undef SOLDER_CASE
}

}  // namespace solder
