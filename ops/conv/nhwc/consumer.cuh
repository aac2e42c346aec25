#pragma once
// The products of conv_nhwc_kernel's consumer warpgroups.

#include "ops/conv/nhwc/params.cuh"

namespace solder::nhwc {

/// A wgmma descriptor of K-major rows of 128 or 64 bytes, swizzled by their addresses: eights of rows are `eight16` times
/// 16 bytes apart; `low` is the address / 16 and kLow. Words are put together last, so that sums are of one word.
template <int kRowBytes>
__device__ __forceinline__ uint64_t descriptor(uint32_t eight16, uint32_t low) {
  return uint64_t{(kRowBytes == 128 ? 1u : 2u) << 30 | eight16} << 32 | low;
}
constexpr uint32_t kLow = 1 << 16;

/// Where in a slot of x block `block` of the pixels of tile `work` begins, in units of 16 bytes.
template <class Tile>
__device__ uint32_t block_of_slot(const NhwcConfig& c, const Work& work, int block) {
  constexpr int kRow16 = Tile::kRowBytes / 16;
  if (!Tile::kIsWindow) return block * 64 * kRow16;
  if (!c.has_patches) return (work.q + block * 64) * kRow16;
  const int of_rows = block >> c.across_log2, image = of_rows >> c.down_log2;
  const int row = image * c.window_rows + (of_rows - (image << c.down_log2)) * 8;
  return (row * c.window_cols + (block - (of_rows << c.across_log2)) * 8) * kRow16;
}

/// Where warpgroups take turns, one's products begin behind named barrier `own`, and those that wait at `next` may follow
/// once all have been issued; 0: nobody is waited for, nobody follows. From its second tile on its weights are there.
struct Turns {
  int own = 0, next = 0;
  bool has_weights = false;
};

/// acc = x times weights of tile `work`, over steps [first, end), of which there is one; between(i, acc) comes before step i,
/// and before `end`. All that changes in the loop is added to; a slot is given back once the group of products behind its
/// own last one has been issued, as then its own are done.
template <class Tile, Values kValues, bool kIsLinear, class Between>
__device__ __forceinline__ void multiply(const Params& p, const Smem& smem, const Work& work, int group,
                                         int lane, int first, int end, RingPlace* x, RingPlace* weights,
                                         const Turns& turns, const Between& between,
                                         float (&acc)[Tile::kChannels / 2]) {
  constexpr bool kIsBfloat16 = kValues == Values::bfloat16;
  constexpr uint32_t kWeight16 = Tile::kWeightBytes / 16, kEight16 = 8 * Tile::kRowBytes / 16;
  const uint32_t slot16 = p.config.x_slot_bytes / 16, weights_first16 = (smem.weights >> 4) + kLow;
  const uint32_t eight16 = Tile::kIsWindow ? p.eight16 : kEight16;
  const uint32_t block16 = block_of_slot<Tile>(p.config, work, Tile::block_of(group));
  const uint32_t x_first16 = (smem.x >> 4) + kLow + block16;
  uint32_t x16 = x_first16 + x->slot * slot16, weights16 = weights_first16 + weights->slot * kWeight16;
  uint32_t x_full = smem.x_full + 8 * x->slot, weight_full = smem.weight_full + 8 * weights->slot;
  uint32_t done_x = 0, done_weights = 0;  // barriers of the slots that the last group has read
  constexpr uint32_t kToEmptyX = 8 * kMaxNhwcSlots, kToEmptyWeights = 8 * kMaxNhwcWeightSlots;
  // Of a window's columns the first may be another block's, where blocks share terms.
  const int columns = Tile::kIsWindow ? p.config.steps_per_slot : 1;
  int column = Tile::kIsWindow && Tile::kCanSplit ? first % columns : 0;
  if (Tile::kIsWindow) x16 += column * p.right16;
  if (Tile::kTakesTurns && turns.own != 0) sm80::named_barrier_sync(turns.own, 256);
#pragma unroll 1
  for (int i = first;; ++i) {
    between(i, acc);
    if (i == end) break;
    sm90::mbarrier_spin(x_full, x->parity);
#pragma unroll
    for (int r = 0; r < Tile::kRows; ++r) {
      if (!Tile::kTakesTurns || !turns.has_weights) sm90::mbarrier_spin(weight_full, weights->parity);
      sm90::wgmma_fence();
#pragma unroll
      for (int k = 0; k < Tile::kRowBytes / 32; ++k)
        sm90::wgmma<kIsBfloat16>(
            acc, descriptor<Tile::kRowBytes>(eight16, x16 + r * p.down16 + 2 * k),
            descriptor<Tile::kRowBytes>(kEight16, weights16 + 2 * k),
            (Tile::kTakesTurns && kValues != Values::scaled) || i > first || r > 0 || k > 0);
      sm90::wgmma_commit();
      // Nobody waits for weights that stay: without a wait for each row the next products are asked for sooner.
      if (!kIsLinear && (!Tile::kTakesTurns || (r == 0 && done_x != 0))) {
        sm90::wgmma_wait<1>();
        if (lane == 0) {
          if (!Tile::kTakesTurns && done_weights != 0) sm90::mbarrier_arrive(done_weights, 1);
          if (r == 0 && done_x != 0) sm90::mbarrier_arrive(done_x, 1);
        }
        done_weights = weight_full + kToEmptyWeights;
      }
      weight_full += 8, weights16 += kWeight16;
      ++weights->slot;
      if (!kIsLinear && weights->slot == p.config.weight_slots) {
        weights->slot = 0;
        if (!Tile::kTakesTurns) weights->parity ^= 1;
        weight_full = smem.weight_full, weights16 = weights_first16;
      }
    }
    const bool is_done = !Tile::kIsWindow || ++column == columns;
    done_x = is_done ? x_full + kToEmptyX : 0;
    x_full += is_done ? 8 : 0;
    x16 += is_done ? slot16 : p.right16;
    if (Tile::kIsWindow) x16 -= is_done ? (columns - 1) * p.right16 : 0, column = is_done ? 0 : column;
    x->slot += is_done;
    if (!kIsLinear && x->slot == p.config.x_slots) {
      x->slot = 0, x->parity ^= 1;
      x_full = smem.x_full, x16 = x_first16;
    }
  }
  if (Tile::kTakesTurns && turns.next != 0) sm80::named_barrier_arrive(turns.next, 256);
  sm90::wgmma_wait<0>();
  if (!kIsLinear && lane == 0) {
    if (!Tile::kTakesTurns) sm90::mbarrier_arrive(done_weights, 1);
    if (done_x != 0) sm90::mbarrier_arrive(done_x, 1);
  }
}

}  // namespace solder::nhwc
