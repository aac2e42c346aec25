#pragma once
// The range guard of the fused convolutions. They multiply float16 operands, which are as fine as TF32's but
// lack float32's range, so every image of x is scaled by a power of two, 2^exponent, while it is converted:
//
//   conv_range_guess  reads a small fixed sample of each image and places the exponent low in the legal window;
//   the fused kernel  converts with that exponent and notes the image's true maximum of |x| on the way;
//   the repair        redoes what range_status finds: `rescale` images by the fused kernel again, with the exponent
//                     that is now known exactly, `strict` ones (NaN, infinity, too small for any exponent) by
//                     conv_strict, in plain float32. Its launches exit at once where no image needs them.
//
// Everything is a function of x alone, so results repeat bit for bit.

#include <cstdint>

#include "ops/conv/conv.h"
#include "ops/conv/epilogue/epilogue.h"
#include "ops/image_range.h"
#include "ops/math_mode.h"

namespace solder {

class Context;

enum class RangeStatus : int32_t { good, rescale, strict };

/// Where floor(log2(max|x|)) + exponent may lie, in float16's 40 binary digits (2^-24 .. 2^15, subnormals
/// included). `high`: below 2^15, the largest power of two. `low`: conversion errs by 2^-25 (half a subnormal
/// step), which Math allows to be 2^-24 max|x| (tf32) or 2^-32 max|x| (fp32). `guess`: where the sample's
/// maximum is put; the image's own is at least that.
struct RangeWindow {
  int low;
  int guess;
  int high;
};

constexpr RangeWindow range_window(Math math) {
  return math == Math::tf32 ? RangeWindow{-1, 3, kTopExponent} : RangeWindow{7, 7, kTopExponent};
}

/// The exponent of a repair: the maximum is known, so it goes to the top of the window.
constexpr int exact_exponent(uint32_t max_bits, Math math) {
  return range_exponent(max_bits, range_window(math).high);
}

/// What the image needs after the fused kernel has seen all of it. Zero images are always good.
constexpr RangeStatus range_status(ImageRange range, Math math) {
  if (range.max_bits == 0) return RangeStatus::good;
  if (range.max_bits >= kNonFiniteBits) return RangeStatus::strict;
  const RangeWindow window = range_window(math);
  const int top = exponent_of_bits(range.max_bits);
  if (top < -126 || top + kMaxRangeExponent < window.low)
    return RangeStatus::strict;  // no float is scale enough
  const int position = top + range.exponent;
  return position >= window.low && position <= window.high ? RangeStatus::good : RangeStatus::rescale;
}

/// Whether a part of an image, of which `part` has the maximum, shows that the image may not be `good`. If no
/// part does, the image is, as far as the exponent was guessed from elements of the parts: then the image's
/// maximum is at least the guess's, and can lie below the window only where the exponent was limited. (Where
/// padding crops the image the guess may have been too large; the contract, with A over all of it, still
/// holds.)
constexpr bool may_need_repair(ImageRange part, Math math) {
  if (part.max_bits == 0) return false;
  if (part.max_bits >= kNonFiniteBits) return true;
  return exponent_of_bits(part.max_bits) + part.exponent > range_window(math).high ||
         (part.exponent == kMaxRangeExponent && range_status(part, math) != RangeStatus::good);
}

/// Bytes of the state array of N images.
constexpr int64_t conv_range_bytes(int64_t N) { return N * static_cast<int64_t>(sizeof(ImageRange)); }

/// Elements of an image that the guess looks at; images up to this size are read whole.
inline constexpr int kRangeSampleElems = 4096;

/// Enqueues the guess: fills ranges[N] with an exponent and max_bits = 0. x: [N,C,H,W] float32 on the device.
void conv_range_guess(const Context& context, const ConvShape& shape, const ConvStrides& strides, Math math,
                      const float* x, ImageRange* ranges);

/// Enqueues what needs no guess and no rescaling, a pass over x before the convolution: max_bits of the images, or of
/// their finite elements, over ranges of zeros. Their exponents are exact_exponent() then; those stored stay 0.
void conv_range_find(const Context& context, const ConvShape& shape, const ConvStrides& strides,
                     const float* x, ImageRange* ranges, bool of_finite = false);

/// Enqueues the redoing of the images whose status is `strict`: direct float32 convolution on CUDA cores, for
/// every ConvShape (groups too) and every planned epilogue, at any speed. Exits at once where there are none.
/// x: [N,C,H,W], w: [K,C/groups,R,S], y: [N,K,P,Q], float32 on the device; y must not overlap an operand.
void conv_strict(const Context& context, const ConvShape& shape, const ConvStrides& strides, Math math,
                 const float* x, const float* w, const ImageRange* ranges, const ConvEpilogue& epilogue,
                 float* y);

}  // namespace solder
