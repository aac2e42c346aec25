#pragma once
// The consumer role of conv_rows_kernel: matrix products, epilogue, stores. The picture is in
// ops/conv_rows_kernel.cuh.

#include "ops/conv_epilogue.cuh"
#include "ops/conv_rows.cuh"
#include "ops/conv_rows_exchange.cuh"
#include "ops/conv_rows_store.cuh"
#include "ops/sm90.cuh"

namespace solder::rows {

/// Where a consumer thread's accumulators lie in y: one channel, pixel pairs 8 apart.
template <bool kPaired>
struct RowPlace {
  int channel_idx;
  int64_t offset;  // in y, of the first pair
  int num_cols;    // from the first pair's first pixel to the end of the strip's row
  bool stored;     // the channel exists

  __device__ int channel(int) const { return channel_idx; }

  template <int N>
  __device__ void load(const float* tensor, float (&values)[N]) const {
#pragma unroll
    for (int i = 0; i < N; i += 2) {
      const float* at = tensor + offset + i * 4;
      if constexpr (kPaired) {
        const float2 pair = sm90::load_if(stored && i * 4 < num_cols, reinterpret_cast<const float2*>(at));
        values[i] = pair.x, values[i + 1] = pair.y;
      } else {
        values[i] = sm90::load_if(stored && i * 4 < num_cols, at);
        values[i + 1] = sm90::load_if(stored && i * 4 + 1 < num_cols, at + 1);
      }
    }
  }
};

/// out = block `index` (a run-time number) of kN accumulators of the first channel.
template <int kFirst, int kCount, int kN>
__device__ void fetch_block(const float (&acc)[kAccs], int index, float (&out)[kN]) {
  if constexpr (kCount == 1) {
#pragma unroll
    for (int i = 0; i < kN; ++i) out[i] = acc[first_half(kFirst * kN + i)];
  } else if (index < kFirst + kCount / 2) {
    fetch_block<kFirst, kCount / 2>(acc, index, out);
  } else {
    fetch_block<kFirst + kCount / 2, kCount - kCount / 2>(acc, index, out);
  }
}

/// Whether the fast activations need help: some value sum * scale + bias lies below kTailStart, or one may
/// have overflowed to infinity (a sum is below 2^45).
template <class Chain, int kHalves>
__device__ bool needs_tail(const float (&acc)[kAccs], const float (&scale)[kHalves],
                           const float (&bias)[kHalves]) {
  bool needs = false;
#pragma unroll
  for (int half = 0; half < kHalves; ++half) {
    float values[kAccs / 2];
#pragma unroll
    for (int i = 0; i < kAccs / 2; ++i) values[i] = acc[first_half(i) + half * 2];
    const uint32_t largest = largest_bits(values);
    // A NaN must answer yes; scale is positive, so the most negative sum gives the most negative value.
    needs = needs || ((largest >> 31) != 0 &&
                      !(fmaf(__uint_as_float(largest), scale[half], bias[half]) >= kTailStart + 1));
    needs = needs || !(scale[half] < 0x1p80f) || !(fabsf(bias[half]) < 0x1p126f);
  }
  return needs;
}

/// Brings what the epilogue will read beside the sums to L2: the warp's 16 channels of full-size operands.
inline __device__ void prefetch_operands(const RowsParams& p, int64_t row_offset, int num_channels,
                                         int num_cols, int lane) {
  const int lines = (num_cols + 62) / 32;  // at most, at any alignment
  for (int o = 1; o < p.epilogue.program.num_operands; ++o) {
    if (p.epilogue.access[o] != EpilogueAccess::full) continue;
    const float* rows = p.epilogue.operands[o] + row_offset;
    for (int i = lane; i < num_channels * lines; i += 32) {
      const int channel = i / lines;
      sm90::prefetch_l2(rows + channel * p.y_plane + min((i - channel * lines) * 32, num_cols - 1));
    }
  }
}

/// 2^exponent, in two factors where one float cannot hold it.
struct PowerOfTwo {
  float factor, extra;

  __device__ explicit PowerOfTwo(int exponent) {
    const int main = max(-126, min(127, exponent));
    const int rest = max(-126, min(127, exponent - main));
    factor = __int_as_float((main + 127) << 23);
    extra = __int_as_float((rest + 127) << 23);
  }
};

/// Starts acc += W * X over one filter row of a part, from `desc_w` (advanced past the row's weights) and
/// `desc_x`. A step takes two planes of channels of each operand; with fp32 their low parts lie a plane on,
/// and `kLow` asks for the two products with one low part, otherwise it is the product of the high parts.
template <class FilterShape, bool kLow>
__device__ void multiply_row(const RowsParams& p, uint64_t& desc_w, uint64_t desc_x, bool& accumulate,
                             float (&acc)[kAccs]) {
  constexpr int kPlaneW = kRowsBlockChannels * 16 >> 4, kPlaneX = FilterShape::kPlaneBytes >> 4;
  // NOTE: loops that surely run, so that no path around them makes the compiler serialise the wgmma.
  int s = 0;
#pragma unroll FilterShape::kUnrollCols
  do {
    uint64_t desc = desc_x;
    int k = 0;
#pragma unroll FilterShape::kUnrollSteps
    do {
      if constexpr (kLow) {
        sm90::wgmma_m64n128k16(acc, desc_w + kPlaneW, desc, accumulate);
        sm90::wgmma_m64n128k16(acc, desc_w, desc + kPlaneX, true);
      } else {
        sm90::wgmma_m64n128k16(acc, desc_w, desc, accumulate);
      }
      accumulate = true;
      desc_w += 2 * FilterShape::kParts * kPlaneW;
      desc += 2 * FilterShape::kParts * kPlaneX;
    } while (++k < FilterShape::steps(p));
    desc_x += p.dil_w;
  } while (++s < FilterShape::cols(p));
}

/// What a consumer thread knows of the channels whose outputs it stores.
template <int kHalves>
struct Channels {
  int warp_channel;  // the warp's first
  float bias[kHalves];
  int weight_exponent[kHalves];
};

/// Loads them, before the rest of the start-up, which then hides the latency.
template <class FilterShape, class Chain>
__device__ auto load_channels(const RowsParams& p, const Block& b, int t) {
  constexpr int kParts = FilterShape::kParts;
  constexpr int kHalves = 2 / kParts;  // of a thread's two channels, those whose outputs it stores
  const int warp = __shfl_sync(0xffffffffu, t >> 5, 0), lane = t & 31, rank = static_cast<int>(b.rank);
  // A warp stores the 16 channels that it multiplies, with fp32 8 of them.
  Channels<kHalves> channels;
  channels.warp_channel = (kParts == 1 ? b.k_block * 2 + rank : b.k_block) * kRowsBlockChannels + warp * 16 +
                          (kParts == 1 ? 0 : rank * 8);
#pragma unroll
  for (int half = 0; half < kHalves; ++half) {
    const int channel = channels.warp_channel + half * 8 + (lane >> 2);
    channels.weight_exponent[half] = p.weight_exponents[channel];
    channels.bias[half] = channel < p.K ? epilogue_bias<Chain>(p.epilogue, channel) : 0.0f;
  }
  return channels;
}

/// Multiplies parts of output rows (128 columns; two to a row) and runs their epilogues. The consumer
/// warpgroups, of which this is number `which`, take parts in turns.
template <class FilterShape, class Chain, bool kPaired, int kHalves>
__device__ void consume(const RowsParams& p, const Block& b, const Segment& first_segment,
                        const Channels<kHalves>& channels, int which, int t) {
  const int warp = __shfl_sync(0xffffffffu, t >> 5, 0), lane = t & 31;
  constexpr int kParts = FilterShape::kParts;
  const int span = (p.R - 1) * p.dil_h;
  const uint32_t peer_empty = sm90::map_to_rank(b.empty, b.rank ^ 1);
  const int warp_channel = channels.warp_channel;
  const auto& bias = channels.bias;
  // Releasing input rows: a row is free after 2 R arrivals from each block that it was stored in, one for
  // each part of an output row that reads it. Lane r releases row r of a filter's span, here (r < 16) or
  // (tf32) in the peer. The first and last output rows of a segment also stand in for those that would lie
  // beyond it.
  const int release_row = lane & 15;
  const bool releases = warp == 0 && release_row <= span && (kParts == 1 || lane < 16);
  // Packed to save registers: arrivals of every row | more of the first << 8 | more of the last << 16.
  const int release_counts = (release_row % p.dil_h == 0) | (p.R - 1 - release_row / p.dil_h) << 8 |
                             (release_row + p.dil_h - 1) / p.dil_h << 16;
  const uint64_t desc_w0 = sm90::matrix_descriptor(b.weights, kParts * kRowsBlockChannels * 16, 128);
  const uint64_t desc_x0 = sm90::matrix_descriptor(b.ring, kParts * FilterShape::kPlaneBytes, 128);
  float* const stage = b.stage + (which * 4 + warp) * (rows_stage_bytes(kParts) / 4);
  SumExchange exchange{sm90::smem_address(stage), b.sums_full + 8 * (which * 4 + warp),
                       b.sums_empty + 8 * (which * 4 + warp), b.rank ^ 1};

  static_assert(kNumConsumers == 3);  // see the end of the loop over parts
  // Consumer 0 begins.
  if (which == kNumConsumers - 1) sm90::named_barrier_arrive(kTurnBarrier, 2 * kWarpgroup);
  sm90::mbarrier_wait(b.weights_ready, 0);
  int first_input = 0;  // of the segment's input rows, among all that went into the ring
  int turn = 0;         // whose part is the segment's first
  int num_segments = 0;
  Walk walk(p, b.cluster);
  Segment seg = first_segment;
  do {
    if (skipped(p, FilterShape::kMath, seg)) continue;
    int index = which - turn + (which < turn ? kNumConsumers : 0);  // of the part in the segment
    RingPosition at = RingPosition::of(first_input + index / 2, p.num_slots);
#pragma unroll 1
    for (; index < 2 * seg.num_rows; index += kNumConsumers) {
      const int j = index / 2, part = index & 1;
      const int first_col = seg.strip * p.strip_cols + part * kPartCols;
      const int num_cols = min(min(p.strip_cols - part * kPartCols, kPartCols), p.Q - first_col);
      const int64_t row_offset = seg.image * p.y_image + warp_channel * p.y_plane +
                                 static_cast<int64_t>(seg.first_row + j) * p.Q + first_col;
      if constexpr (Chain::kInterpreted || Chain::kChain == ConvChain::residual) {
        prefetch_operands(p, row_offset, min(8 * kHalves, p.K - warp_channel), num_cols, lane);
      }
      float acc[kAccs];
      sm90::named_barrier_sync(kTurnBarrier + which, 2 * kWarpgroup);
      sm90::mbarrier_wait(b.full + 8 * at.slot, at.parity);
      const int x_exponent = b.exponents[num_segments % (2 * kRowsMaxSlots)];
      bool accumulate = false;
      // fp32: the small products come first, so that few sums are rounded at the size of the result.
#pragma unroll
      for (int pass = 0; pass < kParts; ++pass) {
        // Opaque: otherwise the descriptors of all taps are hoisted out of the loop, and spill.
        uint64_t desc_w = desc_w0 | sm90::opaque(0);
        int r = 0;
#pragma unroll FilterShape::kUnrollRows
        do {
          const RingPosition row = at.ahead(r * p.dil_h, p.num_slots);
          if (pass == 0) sm90::mbarrier_wait(b.full + 8 * row.slot, row.parity);
          sm90::wgmma_fence();
          const uint64_t desc_x =
              desc_x0 + static_cast<uint64_t>(row.slot * (b.slot_bytes >> 4) + part * kPartCols);
          if (pass + 1 < kParts)
            multiply_row<FilterShape, true>(p, desc_w, desc_x, accumulate, acc);
          else
            multiply_row<FilterShape, false>(p, desc_w, desc_x, accumulate, acc);
        } while (++r < FilterShape::rows(p));
      }
      sm90::wgmma_commit();
      sm90::named_barrier_arrive(kTurnBarrier + (which == kNumConsumers - 1 ? 0 : which + 1), 2 * kWarpgroup);
      sm90::wgmma_wait<0>();
      if (releases) {
        const int count = (release_counts & 0xff) + (j == 0 ? release_counts >> 8 & 0xff : 0) +
                          (j == seg.num_rows - 1 ? release_counts >> 16 : 0);
        const uint32_t offset = 8 * at.ahead(release_row, p.num_slots).slot;
        if (count > 0) {
          if (lane < 16)
            sm90::mbarrier_arrive(b.empty + offset, count);
          else
            sm90::mbarrier_arrive_cluster(peer_empty + offset, count);
        }
      }

      if constexpr (kParts == 2) exchange.run(lane, acc);

      float scale[kHalves];
#pragma unroll
      for (int half = 0; half < kHalves; ++half) {
        const PowerOfTwo power(-x_exponent - channels.weight_exponent[half]);
        scale[half] = power.factor;
        if (power.extra != 1.0f) [[unlikely]] {
#pragma unroll
          for (int i = 0; i < kAccs / 2; ++i) acc[first_half(i) + half * 2] *= power.extra;
        }
      }
      RowStore<kPaired> store;
      store.stage = stage;
      store.plane = static_cast<int>(p.y_plane);
      store.phase_step = static_cast<uint32_t>(p.y_plane) & 31;
      store.lane = lane;
      RowPlace<kPaired> place;
      const auto set_half = [&](int half) {
        const bool exists = warp_channel + half * 8 < p.K;
        store.first = p.y + row_offset + half * 8 * p.y_plane;
        store.num_cols = exists ? num_cols : 0;
        store.phase0 = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(store.first) >> 2) & 31;
        place.channel_idx = exists ? warp_channel + half * 8 + (lane >> 2) : 0;
        place.stored = exists;
      };
      const auto set_pixel = [&](int half, int pixel0) {
        place.offset = row_offset + (half * 8 + (lane >> 2)) * p.y_plane + pixel0 + 2 * (lane & 3);
        place.num_cols = num_cols - pixel0 - 2 * (lane & 3);
      };
      constexpr int kNumWindows = kPartCols / kRowsStageCols;
      bool rolled = Chain::kInterpreted;
      if constexpr (Chain::kHasTail)
        rolled = __any_sync(0xffffffffu, needs_tail<Chain, kHalves>(acc, scale, bias));
      if (rolled) {
        // Rolled up, so that the interpreter and the tails' formulas exist once.
        constexpr int kBlock = 8, kCols = kBlock * 4;
        static_assert(kCols == kRowsStageCols);
#pragma unroll 1
        for (int half = 0; half < kHalves; ++half) {
          set_half(half);
          const float factor = half == 0 ? scale[0] : scale[kHalves - 1];
          const float channel_bias = half == 0 ? bias[0] : bias[kHalves - 1];
#pragma unroll 1
          for (int i = 0; i < kPartCols / kCols; ++i) {
            float values[kBlock];
            fetch_block<0, kPartCols / kCols>(acc, i, values);
#pragma unroll
            for (int e = 0; e < kBlock; ++e)
              values[e] = scale_and_bias<Chain>(values[e], factor, channel_bias);
            set_pixel(half, i * kCols);
            run_epilogue<Chain>(p.epilogue, place, values);
            store.put(i * kCols, values);
            __syncwarp();
            store.fetch();
            store.write(i);
            __syncwarp();
          }
          store.write(kNumWindows);
#pragma unroll
          for (int i = 0; i < kAccs / 2; ++i) acc[first_half(i)] = acc[first_half(i) + 2];
        }
      } else if constexpr (!Chain::kInterpreted) {
        // A window's values are computed while the one before is on its way from the stage to memory. With
        // fp32, where half of the accumulators are done with, all windows' at once, which hides more latency.
        constexpr int kBlock = kRowsStageCols / 4;
        constexpr int kAtOnce = kParts == 1 ? 1 : kNumWindows;
#pragma unroll
        for (int half = 0; half < kHalves; ++half) {
          float computed[kAtOnce * kBlock];
#pragma unroll
          for (int window = 0; window < kNumWindows; ++window) {
            if (window % kAtOnce == 0) {
#pragma unroll
              for (int e = 0; e < kAtOnce * kBlock; ++e) {
                computed[e] = scale_and_bias<Chain>(acc[first_half(window * kBlock + e) + half * 2],
                                                    scale[half], bias[half]);
              }
              if constexpr (Chain::kChain == ConvChain::residual) {
                place.stored = warp_channel + half * 8 < p.K;
              }
              set_pixel(half, window * kRowsStageCols);
              run_epilogue<typename Chain::TailFree>(p.epilogue, place, computed);
            }
            float values[kBlock];
#pragma unroll
            for (int e = 0; e < kBlock; ++e) values[e] = computed[window % kAtOnce * kBlock + e];
            if (window > 0) store.write(window - 1);
            if (window == 0 && half > 0) {
              store.write(kNumWindows - 1);
              store.write(kNumWindows);
            }
            if (window == 0) set_half(half);
            __syncwarp();
            store.put(window * kRowsStageCols, values);
            __syncwarp();
            store.fetch();
          }
        }
        store.write(kNumWindows - 1);
        store.write(kNumWindows);
        __syncwarp();
      }
      if constexpr (kParts == 2) exchange.free_inbox(lane);
      // Three parts on: the next row, or from a row's second part the one after it.
      at = at.ahead(1, p.num_slots);
      if (part == 1) at = at.ahead(1, p.num_slots);
    }
    first_input += seg.num_rows + span;
    turn = (turn + 2 * seg.num_rows) % kNumConsumers;
    ++num_segments;
  } while (walk.advance(p, seg));
}

}  // namespace solder::rows
