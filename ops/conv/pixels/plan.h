#pragma once
// How a family plans that convolves 16-bit values with channels innermost.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ops/conv/kernels.h"
#include "ops/conv/pixels/pixels.h"

namespace solder {

/// A plan of such a family, which says how one call runs: of x, or of what is made of it first, some images at a time.
struct PixelPlan : ConvPlan {
  PixelCall call;   ///< without addresses
  ConvShape whole;  ///< the problem's, of a stem some images at a time
  int64_t num_images = 0;
  bool lays_out = false;  ///< x, anew, as a stem's
  bool packs = false;     ///< x, which is float32 in planes, as scaled pixels
  bool is_plain = false;  ///< y is, too: the range guard's exponents, and its repair (range.h)
  int64_t x_strides[4] = {};
  int64_t copy_bytes = 0;  ///< of what becomes of x then, in scratch; the family's own follows
  ConvEpilogue epilogue;
  double copy_us = 0;              ///< the part of predicted_us that packing takes
  std::vector<int32_t> exponents;  ///< of the weights, where values are scaled
  // Of scaled values: entries of the session's ranges; -1: none. Those of float32 x lie behind y's.
  int64_t x_ranges[kMostScaledParts] = {}, residual_ranges = -1, y_ranges = -1;

  /// False, with the reason, where no kernel takes the problem's tensors or runs its epilogue; `is_extended` as for
  /// plan_epilogue, and whether the kernel takes scaled values.
  bool init(const ConvProblem& problem, std::string* why_not, bool is_extended = false);
  bool has_narrow_bias = false;
  bool has_residual() const { return epilogue.residual_operand >= 0; }
  bool has_scale() const { return epilogue.scale_operand >= 0; }

  /// By which weights w [K,C/groups,R,S] are scaled.
  std::vector<int32_t> exponents_of(const float* w) const;

  /// Bytes of plain x's own ranges, the last of copy_bytes.
  int64_t range_bytes() const;
  std::vector<std::byte> pack(std::span<const float> weights) const override;
  void enqueue(const Context* context, const ConvTensors& tensors) const override;

  PixelCall bound_call(const ConvTensors& tensors, ImageRange* own_ranges) const;
  bool init_copy(const ConvProblem& problem, std::string* why_not);
  bool init_scaling(const ConvProblem& problem, std::string* why_not);
  bool init_results(const ConvProblem& problem);

  virtual std::vector<std::byte> pack_weights(const float* w) const = 0;  ///< of call.shape
  virtual void enqueue_call(const Context& context, const PixelCall& bound) const = 0;
};

}  // namespace solder
