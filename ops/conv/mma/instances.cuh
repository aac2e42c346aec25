#pragma once
// From a tile to its instance of conv_mma_kernel; each unit compiles those of some parts, values and results.

#include "ops/conv/mma/kernel.cuh"

namespace solder::mma {

template <int kParts, DType kDtype, bool kPlanes, int kIndex>
Kernel find_from(int tile, bool reduces) {
  if constexpr (kIndex < kNumMmaTiles) {
    if constexpr (kMmaTiles[kIndex].num_parts == kParts) {
      using T = Tile<kIndex, kDtype, kPlanes>;
      if (tile == kIndex) return reduces ? conv_mma_reduce_kernel<T> : conv_mma_kernel<T>;
    }
    return find_from<kParts, kDtype, kPlanes, kIndex + 1>(tile, reduces);
  } else {
    return nullptr;
  }
}

template <int kParts, DType kDtype, bool kPlanes>
Kernel find_kernel(int tile, bool reduces) {
  return find_from<kParts, kDtype, kPlanes, 0>(tile, reduces);
}

}  // namespace solder::mma
