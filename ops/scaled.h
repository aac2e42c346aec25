#pragma once
// Scaled values: 16-bit tensors with float32's range. Every image is stored times a power of two, 2^exponent, that the
// kernel which makes it works out before it stores anything, so that no element can overflow; the result is a function of
// the image alone. It follows from the largest |x| of what the kernel reads, which the kernels before it have noted on their
// way; or, where the convolution before it read what had been measured, from the bound by which that one was scaled. Of random
// weights and T terms a bound is about sqrt(T) times the maximum, and float16 has 40 binary digits.

#include <cstdint>

#include "runtime/visibility.h"

namespace SOLDER_PUBLIC solder {

/// Of a scaled tensor's channels those up to `end`, and from the channels before them on: image n has entry `first + n` of
/// the session's ranges, whose maximum is that of the finite elements.
struct ScaledChannels {
  int64_t end = 0;
  int64_t first = 0;
  bool is_measured = true;  ///< the maximum is; otherwise a bound stands for it
  bool operator==(const ScaledChannels&) const = default;
};

}  // namespace solder
