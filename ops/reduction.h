#pragma once

#include <cstdint>

namespace [[gnu::visibility("default")]] solder {

/// What becomes of the elements that are taken together.
enum class Reduction : uint8_t { mean, sum, max, min };

}  // namespace gnu::visibility("default")]]solder
