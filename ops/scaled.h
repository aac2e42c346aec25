#pragma once
// Scaled values: 16-bit tensors with float32's range. Every image is stored times a power of two, 2^exponent, that the
// kernel which makes it works out before it stores anything, so that no element can overflow; the result is a function of
// the image alone. It follows from the largest |x| of what the kernel reads, which the kernels before it have noted on their
// way.

#include <cstdint>

#include "runtime/visibility.h"

namespace SOLDER_PUBLIC solder {

/// Of a scaled tensor's channels those up to `end`, and from the channels before them on: image n has entry `first + n` of
/// the session's ranges, whose maximum is that of the finite elements.
struct ScaledChannels {
  int64_t end = 0;
  int64_t first = 0;
  bool operator==(const ScaledChannels&) const = default;
};

}  // namespace solder
