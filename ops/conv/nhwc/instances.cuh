#pragma once
// From a config to its instance of conv_nhwc_kernel; units compile them.

#include "ops/conv/nhwc/kernel.cuh"

namespace solder::nhwc {

template <Values kValues, ConvChain kChain, int kRows, int kIndex = 0>
Kernel find_instance(const NhwcConfig& config, bool stores_sums) {
  if constexpr (kIndex == kNumNhwcTiles) {
    return nullptr;
  } else {
    constexpr NhwcTile kTile = kNhwcTiles[kIndex];
    constexpr bool kHasSums = kValues != Values::scaled && kChain != ConvChain::relu && can_store_sums(kTile);
    if (config.tile != kIndex) return find_instance<kValues, kChain, kRows, kIndex + 1>(config, stores_sums);
    if constexpr (has_half_slots(kTile))
      if (config.slot_channels == kNhwcSlotChannels / 2)
        return conv_nhwc_kernel<Tile<kIndex, kRows, kNhwcSlotChannels / 2, false>, kValues, kChain>;
    // mish has instances of its own for sums: that code, not run, costs a network at batch 1 1.5 percent.
    if constexpr (kHasSums && kChain == ConvChain::mish)
      if (!stores_sums)
        return conv_nhwc_kernel<Tile<kIndex, kRows, kNhwcSlotChannels, false>, kValues, kChain>;
    return conv_nhwc_kernel<Tile<kIndex, kRows, kNhwcSlotChannels, kHasSums>, kValues, kChain>;
  }
}

template <Values kValues, ConvChain kChain>
Kernel select_kernel(const NhwcConfig& config, bool stores_sums) {
  return config.rows_per_step == 3 ? find_instance<kValues, kChain, 3>(config, stores_sums)
                                   : find_instance<kValues, kChain, 1>(config, stores_sums);
}

}  // namespace solder::nhwc
