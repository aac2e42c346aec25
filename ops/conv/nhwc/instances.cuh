#pragma once
// From a tile to its instance of conv_nhwc_kernel; two units compile them.

#include "ops/conv/nhwc/kernel.cuh"

namespace solder::nhwc {

template <int kIndex, int kRows, int kSlot>
Kernel instance() {
  constexpr NhwcTile kTile = kNhwcTiles[kIndex];
  return conv_nhwc_kernel<
      Tile<kTile.num_groups, kTile.num_blocks, kTile.channels, kTile.blocks_per_sm, kRows, kSlot>>;
}

template <int kRows, int kIndex = 0>
Kernel find_instance(int tile, int slot_channels) {
  if constexpr (kIndex == kNumNhwcTiles) {
    return nullptr;
  } else {
    if (tile != kIndex) return find_instance<kRows, kIndex + 1>(tile, slot_channels);
    if constexpr (has_half_slots(kNhwcTiles[kIndex]))
      if (slot_channels == kNhwcSlotChannels / 2) return instance<kIndex, kRows, kNhwcSlotChannels / 2>();
    return instance<kIndex, kRows, kNhwcSlotChannels>();
  }
}

template <int kRows>
Kernel select_kernel(int tile, int slot_channels) {
  return find_instance<kRows>(tile, slot_channels);
}

}  // namespace solder::nhwc
