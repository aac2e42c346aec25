#pragma once
// Every elementwise function, a row each. Its formula goes by the same name (formulas.h), and whatever else
// knows the functions reads this table: builder, dumps, text graphs, value ranges, generated kernels, tests.
// A new function is a row here and a formula there.
//
// Generated kernels embed this text, so it must compile under NVRTC, which has no standard headers.

#include <cstdint>

#include "runtime/visibility.h"

namespace SOLDER_PUBLIC solder {

namespace math {

inline constexpr float kInfinity = __builtin_bit_cast(float, 0x7f800000u);

/// Where values lie, NaN aside.
struct Range {
  float low = -kInfinity, high = kInfinity;
};

}  // namespace math

/// Where a function's values lie, told from where its arguments lie.
struct Image {
  bool is_known = false;    ///< otherwise anywhere
  bool is_rounded = false;  ///< a value may be a few ULP beyond what the ends of the arguments say
  float turn = 0;      ///< a unary function grows or falls on each side of it, a binary one in each argument
  math::Range within;  ///< never outside of this
};

constexpr Image anywhere() { return {}; }
/// Between what it is at the ends of its argument and at zero: rounding keeps the order.
constexpr Image monotone(math::Range within = {}) { return {true, false, 0, within}; }
/// Nearly so, turning at `turn`.
constexpr Image nearly_monotone(float turn = 0, math::Range within = {}) {
  return {true, true, turn, within};
}

/// A number that a function takes besides its argument.
struct OpParam {
  const char* name = nullptr;  ///< null: there is none
  float fallback = 0;
  constexpr bool is_required() const { return fallback != fallback; }
};
inline constexpr float kRequired = __builtin_bit_cast(float, 0x7fc00000u);  // NaN: no default

// clang-format off
#define SOLDER_UNARY_OPS(OP)                                              \
  OP(abs, monotone())                                                     \
  OP(neg, monotone())                                                     \
  OP(exp, nearly_monotone(0, {0, math::kInfinity}))                       \
  OP(log, anywhere())                                                     \
  OP(sqrt, monotone({0, math::kInfinity}))                                \
  OP(rsqrt, anywhere())                                                   \
  OP(reciprocal, anywhere())                                              \
  OP(square, monotone())                                                  \
  OP(erf, nearly_monotone(0, {-1, 1}))                                    \
  OP(tanh, nearly_monotone(0, {-1, 1}))                                   \
  OP(sigmoid, nearly_monotone(0, {0, 1}))                                 \
  OP(softplus, nearly_monotone(0, {0, math::kInfinity}))                  \
  OP(relu, monotone())                                                    \
  OP(leaky_relu, monotone(), {"slope", 0.01f})                            \
  OP(elu, nearly_monotone(), {"alpha", 1.0f})                             \
  OP(selu, nearly_monotone())                                             \
  OP(gelu, nearly_monotone(-0.7518f))                                     \
  OP(gelu_tanh, nearly_monotone(-0.7525f))                                \
  OP(silu, nearly_monotone(-1.2785f))                                     \
  OP(hard_sigmoid, nearly_monotone(0, {0, 1}))                            \
  OP(hard_swish, nearly_monotone(-1.5f))                                  \
  OP(mish, nearly_monotone(-1.1925f))                                     \
  OP(double_mish, nearly_monotone(-1.1925f))                              \
  OP(clip, monotone(), {"low", kRequired}, {"high", kRequired})           \
  OP(floor, monotone())                                                   \
  OP(ceil, monotone())                                                    \
  OP(round, monotone())                                                   \
  OP(sign, monotone({-1, 1}))                                             \
  OP(sin, anywhere())                                                     \
  OP(cos, anywhere())                                                     \
  OP(tan, anywhere())                                                     \
  OP(asin, anywhere())                                                    \
  OP(acos, anywhere())                                                    \
  OP(atan, nearly_monotone())                                             \
  OP(sinh, nearly_monotone())                                             \
  OP(cosh, nearly_monotone(0, {1, math::kInfinity}))                      \
  OP(asinh, nearly_monotone())                                            \
  OP(acosh, anywhere())                                                   \
  OP(atanh, anywhere())

// What casts are made of; not called by name.
#define SOLDER_CONVERSIONS(OP)                                            \
  OP(to_float16, monotone())                                              \
  OP(to_bfloat16, monotone())

#define SOLDER_BINARY_OPS(OP)                                             \
  OP(add, monotone())                                                     \
  OP(sub, monotone())                                                     \
  OP(mul, monotone())                                                     \
  OP(div, anywhere())                                                     \
  OP(pow, anywhere())                                                     \
  OP(fmod, anywhere())                                                    \
  OP(min, monotone())                                                     \
  OP(max, monotone())                                                     \
  OP(less, anywhere())                                                    \
  OP(less_equal, anywhere())                                              \
  OP(equal, anywhere())                                                   \
  OP(not_equal, anywhere())                                               \
  OP(keep_if, anywhere())                                                 \
  OP(keep_unless, anywhere())                                             \
  OP(either, anywhere())
// clang-format on

#define SOLDER_OP_NAME(name, ...) name,
#define SOLDER_OP_COUNT(...) +1

/// A step of a program. Formulas, bounds and special values: formulas.h.
enum class Op : uint8_t {
  SOLDER_UNARY_OPS(SOLDER_OP_NAME)    // acc = f(acc)
  SOLDER_CONVERSIONS(SOLDER_OP_NAME)  // likewise
  SOLDER_BINARY_OPS(SOLDER_OP_NAME)   // acc = f(acc, source), or f(source, acc) when the step is swapped
  load,                               // acc = source
  store_slot,                         // slot[index] = acc
  store_output,                       // output[index] = acc, rounded to the output's dtype
};
inline constexpr int kNumUnaryOps = SOLDER_UNARY_OPS(SOLDER_OP_COUNT) SOLDER_CONVERSIONS(SOLDER_OP_COUNT);
inline constexpr int kNumBinaryOps = SOLDER_BINARY_OPS(SOLDER_OP_COUNT);

constexpr bool is_unary(Op op) { return static_cast<int>(op) < kNumUnaryOps; }
constexpr bool is_binary(Op op) {
  return static_cast<int>(op) >= kNumUnaryOps && static_cast<int>(op) < kNumUnaryOps + kNumBinaryOps;
}

/// A row of the table.
struct OpInfo {
  Op op;
  const char* name;          ///< in dumps, errors, text graphs and the builder
  bool is_callable = false;  ///< by name; the others are made by casts and programs
  Image image{};
  OpParam params[2]{};  ///< a step's p and q

  constexpr int num_params() const { return (params[0].name != nullptr) + (params[1].name != nullptr); }
};

#define SOLDER_CALLABLE_ROW(name, image, ...) OpInfo{Op::name, #name, true, image, {__VA_ARGS__}},
#define SOLDER_INTERNAL_ROW(name, image, ...) OpInfo{Op::name, #name, false, image, {__VA_ARGS__}},
inline constexpr OpInfo kOps[] = {
    SOLDER_UNARY_OPS(SOLDER_CALLABLE_ROW)    //
    SOLDER_CONVERSIONS(SOLDER_INTERNAL_ROW)  //
    SOLDER_BINARY_OPS(SOLDER_CALLABLE_ROW)   //
    {Op::load, "load"},
    {Op::store_slot, "store_slot"},
    {Op::store_output, "store_output"},
    {static_cast<Op>(255), "(no op)"},
};

/// The op's row; for a number that is no op the last one, which says so.
constexpr const OpInfo& op_info(Op op) {
  return kOps[op <= Op::store_output ? static_cast<int>(op) : static_cast<int>(Op::store_output) + 1];
}

constexpr const char* to_string(Op op) { return op_info(op).name; }

}  // namespace solder
