#pragma once
// The convolution over 16-bit values with channels innermost, for Hopper, as an implicit matrix product:
//   y [N,K,P,Q] = epilogue(conv(x [N,C,H,W], w [K,C,R,S]))
// of float16, bfloat16 or scaled operands (ops/scaled.h; or float32 that has been packed so), with float32 sums and one
// rounding. Any filter, stride, padding and dilation that the copy engine can gather, one group. Where others read what the
// epilogue has before its scale and activation, that is stored, too (ConvEpilogue::stores_sum).
//
// Product. Rows are output pixels, columns output channels; terms go by chunks of 64 input channels (32, if there are no
// more), in a chunk by filter taps. A slot is a chunk of a tile's pixels, a row of 128 (64) bytes each, swizzled by its
// address as wgmma reads it (K-major); the copy engine writes zeros for padding and for channels beyond C. It is fetched
//   flat    as a run of pixels,
//   im2col  by the engine's im2col mode, a slot a tap,
//   window  as a rectangle that holds what all taps of the tile's outputs meet: a tap is so many pixels further on. The 64
//           pixels of a wgmma are runs of 8 at one distance: the rows of a patch of 8 x 8, a window's row apart, or one
//           run, whichever costs less. Runs: an image's rows lie one behind the other, a column of padding between two,
//           which serves both, and are cut into tiles wherever that falls; a window has whole rows then.
//
//   grid -> tile: persistent; tile t = pixels t / tiles_channels, channels t % tiles_channels. A block's tiles are a grid
//   apart, of scaled values a run. With a split, a cluster of blocks for each tile, each with its share of the terms.
//
//   consumer warps  warpgroups: wgmma m64 n{32..256} k16, then the epilogue         --empty--> both
//   next warp       one thread: fetches x, once the kernel before this one is done   --full-->  ring of x
//   last warp       one thread: copies packed weights, which wait for nobody         --full-->  ring of weights
//
// One or two warpgroups share a tile; three take turns, each with a tile of its own, two in their epilogues while one
// multiplies. Then a block's weights are all in shared memory from its first tile on, and results that wait for no residual
// leave by the copy engine.
//
// Registers: one block a multiprocessor, 168 at launch, of which producers give to consumers (40 and 232), or 128 (40 and
// 152); two blocks, 96, 128 or 168. Shared memory: up to 227 KiB, planned by make_nhwc_config. Bound: tensor cores, about
// 670 TFLOP/s on an H100, or memory; short sums of many channels: issue slots of the epilogue; at small sizes what a
// launch takes, of which programmatic dependent launch hides the start. Preconditions: those of choose_nhwc_config; x on a
// 16-byte line.

#include "ops/conv/nhwc/consumer.cuh"
#include "ops/conv/nhwc/engine.cuh"
#include "ops/conv/nhwc/exchange.cuh"
#include "ops/conv/nhwc/producer.cuh"
#include "ops/conv/nhwc/store.cuh"

namespace solder::nhwc {

/// The products of tile `work`. Of scaled x each part has its own exponent, and sums are scaled on between two.
/// NOTE: in the loop over steps, not in one around it: there the compiler takes what a product is of for the lane's own, and
/// each goes through four moves to uniform registers.
template <class Tile, Values kValues, bool kIsLinear>
__device__ __forceinline__ void multiply_parts(const Params& p, const Smem& smem, const Work& work, int warp,
                                               int lane, int first, int end, RingPlace* x, RingPlace* weights,
                                               const Turns& turns, float (&acc)[Tile::kChannels / 2]) {
  int part = 0;
  const auto scale_on = [&](int step, float(&sums)[Tile::kChannels / 2]) {
    if constexpr (kValues == Values::scaled) {
      const auto is_next = [&] {
        return part + 1 < p.scaling.num_parts && (step >= p.part_steps[part] || step == end);
      };
      if (!is_next()) return;
      sm90::wgmma_wait<0>();
#pragma unroll 1
      for (; is_next(); ++part) {
        if (step == first) continue;  // there are no sums yet
        float factors[2];
        for (int half : {0, 1})
          factors[half] =
              factor_behind(p, image_of(p, pixel_of_row<Tile>(p, work, warp, lane / 4 + half * 8)), part);
#pragma unroll
        for (int i = 0; i < Tile::kChannels / 2; ++i) sums[i] *= factors[i / 2 % 2];
      }
    }
  };
  multiply<Tile, kValues, kIsLinear>(p, smem, work, warp / 4, lane, first, end, x, weights, turns, scale_on,
                                     acc);
}

template <class Tile, Values kValues, ConvChain kChain>
__device__ __forceinline__ void consume(const Params& p, const Smem& smem, int warp, int lane) {
  constexpr bool kIsScaled = kValues == Values::scaled;
  const int group = warp / 4;
  int first, end;
  find_steps(p, &first, &end);
  if (kIsScaled) sm90::prefetch_l1(p.weight_bound);  // no earlier kernel's
  if (!p.has_constants) sm90::dependency_wait();
  RingPlace x, weights;
  Work work;
  // Scales and biases: of all channels once, or of each tile's; anew for each tile where an image's biases are its own, of
  // scaled values for each image.
  const int table = p.config.table_channels;
  const bool has_all = table != Tile::kChannels || p.config.tiles_channels == 1;
  const bool keeps = (has_all || Tile::kTakesTurns) && p.bias_image == 0;
  const uint32_t joined = smem.joined + group * kJoinedBytes;
  const Kept kept{smem.kept + warp * kKeptBytes};
  if constexpr (kIsScaled) kept.start(lane, -1, {});
  const uint32_t channels = smem.channels + group * p.config.num_tables * table * 8;
  const uint32_t staging = smem.staging + warp * p.config.stagings * nhwc_pass_bytes(Tile::kStaged);
  constexpr int kTurns = Tile::kTakesTurns ? Tile::kGroups : 1, kFirstTurn = 1 + Tile::kGroups;
  const int turn = group % kTurns, next_turn = kFirstTurn + (turn + 1) % kTurns, slots = p.config.num_slots();
  if (Tile::kTakesTurns) x.skip(turn * slots, p.config.x_slots);
  for (int index = turn; find_work<Tile>(p, index, &work); index += kTurns) {
    // Worked out again after the products, as registers are few while these run.
    const auto has_new_image = [&] {
      return kIsScaled && (has_images<Tile>(p, work) || work.n != kept.image());
    };
    const auto is_new = [&] { return index == turn || !keeps || has_new_image(); };
    if (index > turn && is_new()) {
      if (has_new_image()) kept.note(p, joined, lane);
      sm80::named_barrier_sync(1 + group, 128);  // the scales and biases are free
    }
    // What the epilogue needs first is on its way meanwhile.
    if (is_new())
      start_channels<dtype_of(kValues)>(p, work.n, has_all ? 0 : work.channel, table, channels,
                                        warp % 4 * 32 + lane);
    // For residuals, ranges, and what y overwrites. What comes before it runs beside the kernel before.
    if (index == turn) sm90::dependency_wait();
    if (p.config.split == 1) start_tile<Tile>(p, staging, work, warp, lane);
    if (has_new_image())
      prefetch_ranges(
          p, has_images<Tile>(p, work) ? image_of(p, pixel_of_row<Tile>(p, work, warp, lane % 16)) : work.n);
    float acc[Tile::kChannels / 2];
    if (Tile::kTakesTurns) {
      if constexpr (!kIsScaled) {
        if (p.starts_with_bias && index == turn) finish_channels(group, [] {});
        start_sums(p.starts_with_bias ? channels : smem.zeros, lane, acc);
      }
      // Products go in the order of tiles: to a barrier a phase and the one before the last look the same.
      Work after;
      const bool is_last = !find_work<Tile>(p, index + 1, &after);
      const Turns turns{index > 0 ? kFirstTurn + turn : 0, is_last ? 0 : next_turn, index > turn};
      multiply_parts<Tile, kValues, false>(p, smem, work, warp, lane, first, end, &x, &weights, turns, acc);
      x.skip((kTurns - 1) * slots, p.config.x_slots);
    } else if (p.config.is_linear) {
      multiply_parts<Tile, kValues, true>(p, smem, work, warp, lane, first, end, &x, &weights, {}, acc);
    } else {
      multiply_parts<Tile, kValues, false>(p, smem, work, warp, lane, first, end, &x, &weights, {}, acc);
    }
    const auto store = [&]<Scaling kScaling>() {
      const bool has_new_table = is_new();
      ImageScale scale;  // of the tile's only image
      if constexpr (kScaling != Scaling::none) {
        if (kScaling == Scaling::table && work.n == kept.image()) {
          scale = kept.scale();
        } else if (kScaling == Scaling::table) {
          scale = scale_of(p, work.n);
          if (lane == 0 && work.channel == 0) note_scale(p, work.pixel, work.n, scale);
          kept.start(lane, work.n, scale);
        } else {
          kept.start(lane, -1, {});
        }
      }
      if (has_new_table && (kIsScaled || !Tile::kTakesTurns || !p.starts_with_bias))
        finish_channels(group, [&] {
          if constexpr (kScaling == Scaling::table)
            scale_channels<kChain>(p, scale, table, channels, warp % 4 * 32 + lane);
        });
      if constexpr (Tile::kCanSplit)
        if (p.config.split > 1)
          return exchange_tile<Tile, kValues, kChain, kScaling>(p, smem, work, warp, lane, channels, scale,
                                                                acc);
      if constexpr (Tile::kTakesTurns && !kIsScaled)
        if (p.has_y_map)
          return store_tile_by_engine<Tile, kValues, kChain>(p, staging, work, warp, lane, channels, acc);
      store_tile<Tile, kValues, kChain, kScaling>(p, staging, joined, work, warp, lane,
                                                  channels + (has_all ? work.channel * 8 : 0), kept, acc);
    };
    if constexpr (!kIsScaled)
      store.template operator()<Scaling::none>();
    else if (has_images<Tile>(p, work))
      store.template operator()<Scaling::rows>();
    else
      store.template operator()<Scaling::table>();
    if (p.config.split > 1) return;
  }
  if constexpr (kIsScaled) kept.note(p, joined, lane);
  if (Tile::kTakesTurns && lane == 0) sm90::bulk_wait_read();  // shared memory is there until then
}

// A kernel for each kind of values and of chain (relu: or none), as small as they come: a launch of another kernel than
// the last one's waits for its instructions, and with both types in one the second one's lay 140 KB behind the first's.
template <class Tile, Values kValues, ConvChain kChain>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kPerSm)
    conv_nhwc_kernel(const __grid_constant__ Params p) {
  extern __shared__ __align__(1024) uint8_t smem_base[];
  // Opaque: addresses are not to be worked out again and again.
  const Smem smem = carve<Tile>(p, sm80::opaque(sm80::smem_address(smem_base)));
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  if (thread < kMaxNhwcSlots) {
    sm90::mbarrier_init(smem.x_full + 8 * thread, 1);
    sm90::mbarrier_init(smem.x_empty + 8 * thread, Tile::kReaders);
  } else if (thread >= 32 && thread < 32 + kMaxNhwcWeightSlots) {
    sm90::mbarrier_init(smem.weight_full + 8 * (thread - 32), 1);
    sm90::mbarrier_init(smem.weight_empty + 8 * (thread - 32), Tile::kConsumerWarps);
  } else if (thread == 64) {
    sm90::mbarrier_init(smem.parts, 1);
    if (p.config.split > 1) sm90::mbarrier_arrive_expect(smem.parts, Tile::kPixels * Tile::kChannels * 4);
  }
  if (Tile::kTakesTurns && thread < Tile::kChannels)
    sm80::store_shared(smem.zeros + thread * 8, make_int2(0, 0));
  if (kValues == Values::scaled && thread < Tile::kGroups)
    sm80::store_shared(smem.joined + thread * kJoinedBytes, make_int2(0, 0));
  sm90::mbarrier_init_fence();
  if (p.config.split > 1) {
    __syncwarp();
    sm90::cluster_arrive_relaxed();
    sm90::cluster_wait();
  } else {
    __syncthreads();
  }
  if (p.is_early && thread == 0) sm90::dependency_launch();

  // Warp-uniform to the compiler too: roles and addresses go to uniform registers.
  const int warp = __shfl_sync(0xffffffffu, thread / 32, 0);
  if (warp < Tile::kConsumerWarps) {
    if constexpr (Tile::kMovesRegisters) sm90::setmaxnreg_increase<Tile::kRegisters>();
    consume<Tile, kValues, kChain>(p, smem, warp, lane);
  } else {
    if constexpr (Tile::kMovesRegisters) sm90::setmaxnreg_decrease<40>();
    if (warp == Tile::kConsumerWarps && lane == 0) fetch_x<Tile>(p, smem);
    if (warp == Tile::kConsumerWarps + 1 && lane == 0) fetch_weights<Tile>(p, smem);
  }
}

}  // namespace solder::nhwc
