#pragma once
// What the families share that convolve 16-bit values with channels innermost: how such tensors lie, the layout of a
// first convolution, and what a call of any of them is.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ops/conv/epilogue/epilogue.h"
#include "ops/conv/kernels.h"
#include "runtime/dtype.h"

namespace solder {

/// How an image lies: 16-bit, channels innermost.
struct PixelStrides {
  int64_t pixel = 0, row = 0, image = 0;  ///< elements
};

/// Whether x is laid out anew first, as few channels would leave most of a slot empty: then x may lie in any way. A pixel
/// of x' has the channels of a block of pixels, stride_w wide and stem_rows() high, from the padding's first on,
///   x'[n, h, w, (i * stride_w + j) * C + c] = x[n, c, h * stride_h + i - pad_top, w * stride_w + j - pad_left],
/// zeros outside the image, padded to multiples of 8. An output's terms of a row of blocks lie side by side there.
constexpr bool is_stem(const ConvShape& s) {
  return s.groups == 1 && s.C <= 8 && s.R * s.S > 1 && s.dil_h == 1 && s.dil_w == 1 &&
         s.stride_h * s.stride_w * s.C <= 1024;
}

/// Rows of a block: all that a filter has, where they fit two vectors; elsewhere those of a stride, so that none is there
/// twice.
constexpr int64_t stem_rows(const ConvShape& s) { return s.R * s.stride_w * s.C <= 16 ? s.R : s.stride_h; }

/// The convolution that is left then: a column of blocks over windows that overlap, [N, terms of a row, H', Q].
ConvShape stem_windows(const ConvShape& shape);

/// How the windows lie: a window a pixel of x'.
PixelStrides stem_strides(const ConvShape& shape);

/// The weights of stem_windows() from w [K,C,R,S].
std::vector<float> stem_weights(const ConvShape& shape, std::span<const float> w);

/// A tensor of y's shape [N,K,P,Q] in memory: elements from one image, pixel (row by row) and channel to the next.
struct PixelSurface {
  void* data = nullptr;
  int64_t image = 0, pixel = 0, channel = 0;
  bool is_float32 = false;  ///< otherwise of x's type
  /// 8 channels, from a multiple of 8 on, lie side by side on a 16-byte line, and all pixels one stride apart.
  bool by_vectors = false;
  uint32_t pixel_vectors = 0;  ///< pixel / 8, where it is by vectors
};

/// One call: y = epilogue(conv(x, w)).
struct PixelCall {
  ConvShape shape;
  DType dtype = DType::float16;  ///< of x and the weights
  PixelStrides x_strides;
  const void* x = nullptr;                         ///< 16-byte aligned
  const void* packed = nullptr;                    ///< the weights, as the family packs them
  const float* bias = nullptr;                     ///< [K]; null: none
  const float *scale = nullptr, *shift = nullptr;  ///< [K], as ConvEpilogue has them; null: none
  PixelSurface y, residual;                        ///< residual.data null: none
  void* scratch = nullptr;                         ///< the family's own
  ConvChain activation = ConvChain::bias;
  ResidualAt residual_at = ResidualAt::none;
  float slope = 0;
};

/// A plan of such a family, which says how one call runs: of x, or of a stem's x', some images at a time.
struct PixelPlan : ConvPlan {
  PixelCall call;   ///< without addresses
  ConvShape whole;  ///< the problem's, of a stem some images at a time
  int64_t num_images = 0;
  bool lays_out = false;  ///< x, anew, as a stem's
  int64_t x_strides[4] = {};
  int64_t stem_bytes = 0;  ///< of x', in scratch; the family's own follows
  ConvEpilogue epilogue;

  /// False, with the reason, where no kernel takes the problem's tensors or runs its epilogue; `takes_scale` as for
  /// plan_epilogue.
  bool init(const ConvProblem& problem, std::string* why_not, bool takes_scale = false);
  bool has_residual() const { return epilogue.residual_operand >= 0; }
  bool has_scale() const { return epilogue.scale_operand >= 0; }

  std::vector<std::byte> pack(std::span<const float> weights) const override;
  void enqueue(const Context* context, const ConvTensors& tensors) const override;

  virtual std::vector<std::byte> pack_weights(const float* w) const = 0;  ///< of call.shape
  virtual void enqueue_call(const Context& context, const PixelCall& bound) const = 0;
};

/// The exponents [K] by which weights w [K,C/groups,R,S] are scaled before they are rounded to `dtype`. float16: the largest
/// of each output channel lies in [2^15, 2^16) then: values of 11 bits stay finite, and none that float16 has, at any scale
/// of the channel, is lost. bfloat16: 0.
std::vector<int32_t> pixel_exponents(const ConvShape& shape, DType dtype, const float* w);

/// Enqueues x' of is_stem(), dense, from x of the same type in any strides (elements; N,C,H,W).
void lay_out_stem(const Context& context, const ConvShape& shape, const int64_t (&x_strides)[4],
                  const void* x, void* blocks);

}  // namespace solder
