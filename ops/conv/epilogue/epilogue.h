#pragma once
// What a fused convolution does with its sums before they leave the registers: a bias, an activation and a
// residual, each optional, with kernels compiled ahead of time. Every other program runs as a pass of its own.

#include <cstdint>
#include <span>

namespace solder {

struct ConvProblem;

/// The activations, and `residual`: any of them with the `add` of a tensor of y's shape before or after it.
enum class ConvChain : uint8_t {
  bias,  ///< none
  relu,
  leaky_relu,
  silu,
  mish,
  double_mish,  ///< also mish, mish
  residual,
};

/// Plain data, a kernel parameter.
struct ConvEpilogue {
  ConvChain chain = ConvChain::bias;
  ConvChain activation = ConvChain::bias;  ///< the same, or a residual chain's
  bool is_residual_last = false;           ///< y = activation(conv + bias) + residual
  float slope = 0;                         ///< of leaky_relu
  int bias_operand = -1;                   ///< [K,1,1] or [1,K,1,1]; -1: none
  int residual_operand = -1;               ///< [N,K,P,Q]
  const float* bias = nullptr;             ///< their addresses, once bound
  const float* residual = nullptr;
};

/// Plans the problem's epilogue into a fused kernel. False when there is no chain for it, or an operand is not
/// float32, not dense, or broadcast in another way; then `result` is the store alone.
bool plan_epilogue(const ConvProblem& problem, ConvEpilogue* result);

/// With the operands' addresses.
ConvEpilogue bound_epilogue(ConvEpilogue epilogue, std::span<void* const> operands);

}  // namespace solder
