#pragma once

#include <cstdint>

#include "runtime/visibility.h"

namespace SOLDER_PUBLIC solder {

/// What becomes of the elements that are taken together.
enum class Reduction : uint8_t { mean, sum, max, min };

/// Whether the result is one of the elements.
constexpr bool is_extreme(Reduction reduction) {
  return reduction == Reduction::max || reduction == Reduction::min;
}

}  // namespace solder
