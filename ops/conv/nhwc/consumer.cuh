#pragma once
// The products of conv_nhwc_kernel's consumer warpgroups.

#include "ops/conv/nhwc/params.cuh"

namespace solder::nhwc {

/// A wgmma descriptor, but for the address, of K-major rows of 128 or 64 bytes, swizzled in groups of 8.
template <int kRowBytes>
inline constexpr uint64_t kDescriptor =
    uint64_t{kRowBytes == 128 ? 1 : 2} << 62 | uint64_t{8 * kRowBytes >> 4} << 32 | uint64_t{1} << 16;

/// acc[block][...] = x times weights, over slots [0, num_slots) of x. All that changes in the loop is added to; a
/// slot is given back once the group of products behind its own has been issued, as then its own are done.
template <class Tile, bool kIsBfloat16, bool kIsLinear>
__device__ __forceinline__ void multiply(const Params& p, const Smem& smem, int group, int lane,
                                         int num_slots, RingPlace* x, RingPlace* weights,
                                         float (&acc)[Tile::kBlocks][Tile::kChannels / 2]) {
  constexpr uint32_t kWeight16 = Tile::kWeightBytes / 16, kBlock16 = 64 * Tile::kRowBytes / 16;
  const uint32_t slot16 = p.config.x_slot_bytes / 16, row16 = p.config.tile_cols * (Tile::kRowBytes / 16);
  const uint32_t x_first16 = (smem.x >> 4) + group * Tile::kBlocks * kBlock16,
                 weights_first16 = smem.weights >> 4;
  uint32_t x16 = x_first16 + x->slot * slot16, weights16 = weights_first16 + weights->slot * kWeight16;
  uint32_t x_full = smem.x_full + 8 * x->slot, weight_full = smem.weight_full + 8 * weights->slot;
  uint32_t done_x = 0, done_weights = 0;  // barriers of the slots that the last group has read
  constexpr uint32_t kToEmptyX = 8 * kMaxNhwcSlots, kToEmptyWeights = 8 * kMaxNhwcWeightSlots;
#pragma unroll 1
  for (int i = 0; i < num_slots; ++i) {
    sm90::mbarrier_spin(x_full, x->parity);
#pragma unroll
    for (int r = 0; r < Tile::kRows; ++r) {
      sm90::mbarrier_spin(weight_full, weights->parity);
      sm90::wgmma_fence();
#pragma unroll
      for (int k = 0; k < Tile::kRowBytes / 32; ++k)
#pragma unroll
        for (int block = 0; block < Tile::kBlocks; ++block)
          sm90::wgmma<kIsBfloat16>(
              acc[block], kDescriptor<Tile::kRowBytes> | (x16 + r * row16 + block * kBlock16 + 2 * k),
              kDescriptor<Tile::kRowBytes> | (weights16 + 2 * k), i > 0 || r > 0 || k > 0);
      sm90::wgmma_commit();
      if (!kIsLinear) {
        sm90::wgmma_wait<1>();
        if (lane == 0 && done_weights != 0) {
          sm90::mbarrier_arrive(done_weights, 1);
          if (r == 0) sm90::mbarrier_arrive(done_x, 1);
        }
        done_weights = weight_full + kToEmptyWeights;
      }
      weight_full += 8, weights16 += kWeight16;
      if (!kIsLinear && ++weights->slot == p.config.weight_slots) {
        weights->slot = 0, weights->parity ^= 1;
        weight_full = smem.weight_full, weights16 = weights_first16;
      }
    }
    done_x = x_full + kToEmptyX;
    x_full += 8, x16 += slot16;
    if (!kIsLinear && ++x->slot == p.config.x_slots) {
      x->slot = 0, x->parity ^= 1;
      x_full = smem.x_full, x16 = x_first16;
    }
  }
  sm90::wgmma_wait<0>();
  if (!kIsLinear && lane == 0) {
    sm90::mbarrier_arrive(done_weights, 1);
    sm90::mbarrier_arrive(done_x, 1);
  }
}

}  // namespace solder::nhwc
