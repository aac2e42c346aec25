#pragma once
// What the families share that convolve 16-bit values with channels innermost: how such tensors lie, the layout of a
// first convolution, and what a call of any of them is. plan.h has its plan.

#include <cstdint>
#include <span>
#include <vector>

#include "ops/conv/conv.h"
#include "ops/conv/epilogue/epilogue.h"
#include "ops/image_range.h"
#include "runtime/dtype.h"

namespace solder {

class Context;

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

inline constexpr int kMostScaledParts = 4;
/// What the channels of a part are a multiple of, but for the last one's.
inline constexpr int kScaledPartChannels = 64;

/// Of scaled values: where their exponents are, image by image, and bounds of what an epilogue does, from which y's follow.
struct PixelScaling {
  int num_parts = 0;  ///< of x; 0: values are not scaled
  struct Part {
    int end = 0;  ///< its channels, and those before
    const ImageRange* ranges = nullptr;
  } x[kMostScaledParts];
  const ImageRange* residual = nullptr;
  ImageRange* y = nullptr;   ///< null: y is float32
  bool is_measured = false;  ///< y's maxima are; otherwise, of a scaled y, its bounds stand for them
  bool is_guessed = false;   ///< exponents of x are: see range.h
  float bias = 0, scale = 1, shift = 0;  ///< the largest magnitudes
  float gain = 1;                        ///< |activation(x)| <= gain |x|
};

/// One call: y = epilogue(conv(x, w)).
struct PixelCall {
  ConvShape shape;
  DType dtype = DType::float16;  ///< of x and the weights
  PixelStrides x_strides;
  const void* x = nullptr;                ///< 16-byte aligned
  const void* packed = nullptr;           ///< the weights, as the family packs them
  const float* bias = nullptr;            ///< [K], or [N,K]; null: none
  const uint16_t* narrow_bias = nullptr;  ///< instead of that, of x's type; null: none
  int64_t bias_image = 0;                 ///< elements from one image's bias to the next; 0: they share it
  const float *scale = nullptr, *shift = nullptr;  ///< [K], as ConvEpilogue has them; null: none
  bool has_constants = false;                      ///< the three above are no other kernel's
  PixelSurface y, residual;                        ///< residual.data null: none
  PixelSurface sum;         ///< see ConvEpilogue::stores_sum, by vectors; data null: none
  void* scratch = nullptr;  ///< the family's own
  ConvChain activation = ConvChain::bias;
  ResidualAt residual_at = ResidualAt::none;
  float slope = 0;
  PixelScaling scaling;
  bool has_plain_weights = false;  ///< they have no exponents

  /// Goes on to the images `count` further on; x stays where it is.
  void step_images(int64_t count);
};

/// The exponents [K] by which weights w [K,C/groups,R,S] are scaled before they are rounded to `dtype`. float16: the largest
/// of each output channel lies in [2^15, 2^16) then: values of 11 bits stay finite, and none that float16 has, at any scale
/// of the channel, is lost. bfloat16: 0.
std::vector<int32_t> pixel_exponents(const ConvShape& shape, DType dtype, const float* w);

/// Whether `dtype` has each of the values, all finite.
bool has_all(DType dtype, std::span<const float> values);

/// Enqueues x' of is_stem(), dense, from x of the same type in any strides (elements; N,C,H,W). Given the maxima of images
/// x is float32, x' scaled, and `ranges` gets the exponents.
void lay_out_stem(const Context& context, const ConvShape& shape, const int64_t (&x_strides)[4],
                  const void* x, void* blocks, ImageRange* ranges = nullptr);

}  // namespace solder
