#pragma once
// From a tile to its instance of conv_nhwc_kernel; two units compile them.

#include "ops/conv/nhwc/kernel.cuh"

namespace solder::nhwc {

template <int kRows>
Kernel select_kernel(int tile) {
  switch (tile) {
    case 0: return conv_nhwc_kernel<Tile<2, 2, 128, 1, kRows>>;
    case 1: return conv_nhwc_kernel<Tile<2, 1, 256, 1, kRows>>;
    case 2: return conv_nhwc_kernel<Tile<2, 1, 128, 1, kRows>>;
    case 3: return conv_nhwc_kernel<Tile<2, 2, 64, 1, kRows>>;
    case 4: return conv_nhwc_kernel<Tile<2, 1, 64, 2, kRows>>;
    case 5: return conv_nhwc_kernel<Tile<1, 1, 128, 2, kRows>>;
    case 6: return conv_nhwc_kernel<Tile<1, 1, 64, 2, kRows>>;
    default: return conv_nhwc_kernel<Tile<1, 1, 32, 2, kRows>>;
  }
}

}  // namespace solder::nhwc
