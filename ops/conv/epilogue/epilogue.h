#pragma once
// What a fused convolution does with its sums before they leave the registers: any elementwise Program that
// starts from a result. Common programs are matched to chains compiled ahead of time; the others are
// interpreted.

#include <array>
#include <cstdint>
#include <span>

#include "ops/conv/conv.h"
#include "ops/elementwise/program.h"

namespace solder {

/// How an operand spreads over y [N,K,P,Q].
enum class EpilogueAccess : uint8_t {
  channel,  ///< [K,1,1] or [1,K,1,1]
  scalar,   ///< one element
  full,     ///< [N,K,P,Q], dense
};

/// Programs with a kernel of their own, the bias (one leading `add` of a channel operand) being optional in
/// all.
enum class ConvChain : uint8_t {
  interpreted,  ///< anything else
  bias,
  relu,
  leaky_relu,
  silu,
  mish,
  double_mish,  ///< also mish, mish
  residual,     ///< one of the above (`activation`) and the `add` of a full operand, before or after it
};

const char* to_string(ConvChain chain);

/// A bound epilogue: plain data, a kernel parameter.
struct ConvEpilogue {
  Program program;
  std::array<EpilogueAccess, kMaxOperands> access{};
  std::array<const float*, kMaxOperands> operands{};
  ConvChain chain = ConvChain::interpreted;
  int bias_operand = -1;  ///< of an ahead-of-time chain; -1: none
  float slope = 0;        ///< of leaky_relu
  // Of a residual chain:
  int residual_operand = -1;
  bool is_residual_last = false;  ///< y = activation(conv + bias) + residual, not activation of the whole sum
  ConvChain activation = ConvChain::interpreted;  ///< bias (nothing else) to double_mish
};

/// Slots a fused epilogue can hold: one, in registers.
inline constexpr int kMaxEpilogueSlots = 1;

/// Plans `program`, which starts from the result, as the epilogue of a convolution with output [N,K,P,Q].
/// `operands` are the program's; data may be null until launch, see bind_epilogue. False when the fused kernels cannot run it: several outputs, an output that is not the
/// last step, more than kMaxEpilogueSlots slots, operands that are not float32, not dense, or broadcast in another way.
bool plan_epilogue(const Program& program, std::span<const TensorView> operands, const ConvShape& shape,
                   ConvEpilogue* result);

/// Sets the operands' addresses.
void bind_epilogue(std::span<void* const> operands, ConvEpilogue* epilogue);

}  // namespace solder
