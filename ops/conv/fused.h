#pragma once
// What the families share whose kernels multiply float16 operands under the range guard and run the epilogue.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ops/conv/epilogue/epilogue.h"
#include "ops/conv/kernels.h"

namespace solder {

/// A ConvShape whose extents fit 32 bits.
/// NOTE: the order matters: neighbours are loaded in pairs, and with another one conv_rows_kernel spills.
struct KernelShape {
  int C, H, W, K, P, Q, R, S, dil_h, dil_w, pad_top, pad_left, stride_h, stride_w, N;
};

KernelShape kernel_shape(const ConvShape& shape);

/// The exponents [K] that put the largest weight of each output channel into [2^14, 2^15). False, with the
/// reason, when fp32's bound needs more terms, or the weights are not known or not finite.
bool weight_exponents(const ConvProblem& problem, std::vector<int32_t>* exponents, std::string* why_not);

/// Whether neither a sum nor its scaling leaves float32: every channel's largest weight is within [2^-100, 2^60]. False
/// with the reason.
bool fit_float32(std::span<const int32_t> exponents, std::string* why_not);

/// A plan made of a config, for which the family has pack_weights, packing_of and conv_scratch_bytes.
template <class Config>
struct FusedPlan : ConvPlan {
  ConvShape shape;
  ConvStrides strides;
  Config config;
  ConvEpilogue epilogue;
  std::vector<int32_t> exponents;  // of the weights

  bool init(const ConvProblem& problem, const Config& chosen, std::string* why_not) {
    if (!weight_exponents(problem, &exponents, why_not)) return false;
    shape = problem.shape;
    strides = problem.strides();
    config = chosen;
    runs_epilogue = plan_epilogue(problem, &epilogue);
    scratch_bytes = conv_scratch_bytes(shape, config);
    words = to_string(config);
    packing = packing_of(config);
    predicted_us = config.predicted_us + (runs_epilogue ? 0 : conv_pass_us(problem));
    return true;
  }

  std::vector<std::byte> pack(std::span<const float> weights) const override {
    return pack_weights(shape, config, weights.data(), exponents);
  }
};

}  // namespace solder
