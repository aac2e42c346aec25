#pragma once
// From a config to its instance of conv_nhwc_kernel; units compile them.

#include "ops/conv/nhwc/kernel.cuh"

namespace solder::nhwc {

template <Values kValues, ConvChain kChain, int kRows, int kIndex = 0>
Kernel find_instance(const NhwcConfig& config) {
  if constexpr (kIndex == kNumNhwcTiles) {
    return nullptr;
  } else {
    if (config.tile != kIndex) return find_instance<kValues, kChain, kRows, kIndex + 1>(config);
    if constexpr (has_half_slots(kNhwcTiles[kIndex]))
      if (config.slot_channels == kNhwcSlotChannels / 2)
        return conv_nhwc_kernel<Tile<kIndex, kRows, kNhwcSlotChannels / 2>, kValues, kChain>;
    return conv_nhwc_kernel<Tile<kIndex, kRows, kNhwcSlotChannels>, kValues, kChain>;
  }
}

template <Values kValues, ConvChain kChain>
Kernel select_kernel(const NhwcConfig& config) {
  return config.rows_per_step == 3 ? find_instance<kValues, kChain, 3>(config)
                                   : find_instance<kValues, kChain, 1>(config);
}

}  // namespace solder::nhwc
