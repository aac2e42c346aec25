#pragma once
// From a config to its instance of conv_nhwc_kernel; a unit for each chain compiles them.

#include "ops/conv/nhwc/kernel.cuh"

namespace solder::nhwc {

template <ConvChain kChain, bool kIsBfloat16, int kRows, int kIndex = 0>
Kernel find_instance(const NhwcConfig& config) {
  if constexpr (kIndex == kNumNhwcTiles) {
    return nullptr;
  } else {
    if (config.tile != kIndex) return find_instance<kChain, kIsBfloat16, kRows, kIndex + 1>(config);
    if constexpr (has_half_slots(kNhwcTiles[kIndex]))
      if (config.slot_channels == kNhwcSlotChannels / 2)
        return conv_nhwc_kernel<Tile<kIndex, kRows, kNhwcSlotChannels / 2>, kIsBfloat16, kChain>;
    return conv_nhwc_kernel<Tile<kIndex, kRows, kNhwcSlotChannels>, kIsBfloat16, kChain>;
  }
}

template <ConvChain kChain>
Kernel select_kernel(const NhwcConfig& config, bool is_bfloat16) {
  const bool has_rows = config.rows_per_step == 3;
  const auto find = is_bfloat16 ? has_rows ? find_instance<kChain, true, 3> : find_instance<kChain, true, 1>
                    : has_rows ? find_instance<kChain, false, 3>
                                : find_instance<kChain, false, 1>;
  return find(config);
}

}  // namespace solder::nhwc
