#pragma once
// From a tile to its instance of conv_nhwc_kernel; two units compile them.

#include "ops/conv/nhwc/kernel.cuh"

namespace solder::nhwc {

template <int kRows, bool kIsBfloat16, int kIndex = 0>
Kernel find_instance(int tile, int slot_channels) {
  if constexpr (kIndex == kNumNhwcTiles) {
    return nullptr;
  } else {
    if (tile != kIndex) return find_instance<kRows, kIsBfloat16, kIndex + 1>(tile, slot_channels);
    if constexpr (has_half_slots(kNhwcTiles[kIndex]))
      if (slot_channels == kNhwcSlotChannels / 2)
        return conv_nhwc_kernel<Tile<kIndex, kRows, kNhwcSlotChannels / 2>, kIsBfloat16>;
    return conv_nhwc_kernel<Tile<kIndex, kRows, kNhwcSlotChannels>, kIsBfloat16>;
  }
}

template <int kRows, bool kIsBfloat16>
Kernel select_kernel(int tile, int slot_channels) {
  return find_instance<kRows, kIsBfloat16>(tile, slot_channels);
}

}  // namespace solder::nhwc
