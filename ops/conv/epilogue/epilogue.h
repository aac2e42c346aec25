#pragma once
// What a fused convolution does with its sums before they leave the registers: a bias, an activation and a
// residual, each optional, with kernels compiled ahead of time. Every other program runs as a pass of its
// own.

#include <cstdint>
#include <span>

#include "ops/elementwise/program.h"

namespace solder {

struct ConvProblem;
struct ConvView;

/// What kernels are compiled for: an activation, or `any` of them, chosen at run time, with or without a
/// residual.
enum class ConvChain : uint8_t {
  bias,  ///< none
  relu,
  leaky_relu,
  silu,
  mish,
  double_mish,  ///< also mish, mish
  any,
};

inline constexpr Op kChainOps[] = {Op::load, Op::relu, Op::leaky_relu, Op::silu, Op::mish, Op::double_mish};

/// Where a tensor of y's shape is added.
enum class ResidualAt : uint8_t {
  none,
  before,  ///< y = activation(conv + bias + residual)
  after,   ///< y = activation(conv + bias) + residual
};

/// Plain data, a kernel parameter.
struct ConvEpilogue {
  ConvChain chain = ConvChain::bias;  ///< `any` with a residual, otherwise the activation
  ConvChain activation = ConvChain::bias;
  ResidualAt residual_at = ResidualAt::none;
  float slope = 0;  ///< of leaky_relu
  /// [K,1,1] or [1,K,1,1]; of an extended kernel [N,K,1,1], too, and any of them of x's type; -1: none.
  int bias_operand = -1;
  int residual_operand = -1;  ///< [N,K,P,Q]
  /// conv + bias + residual is a result too: output 1, rounded before what follows reads it.
  bool stores_sum = false;
  /// [K,1,1] each: y = activation((conv + bias + residual) * scale + shift); -1: none, both.
  int scale_operand = -1, shift_operand = -1;
  const float* bias = nullptr;  ///< their addresses, once bound
  const float* residual = nullptr;
  int64_t residual_image = 0;  ///< elements from one image of the residual to the next; each is dense
};

/// Plans the problem's epilogue into a fused kernel. False when there is no chain for it, or an operand is
/// not float32, not dense (a residual: an image of it), or broadcast in another way; then `result` is the
/// store alone. Given `takes_residual`, it says in what way a residual is taken instead; `is_extended` says whether the
/// kernel has a scale and a shift, stores sums, and takes a bias of each image's own, or of x's type.
bool plan_epilogue(const ConvProblem& problem, ConvEpilogue* result,
                   bool (*takes_residual)(const ConvProblem&, const ConvView&) = nullptr,
                   bool is_extended = false);

/// With the operands' addresses.
ConvEpilogue bound_epilogue(ConvEpilogue epilogue, std::span<void* const> operands);

}  // namespace solder
