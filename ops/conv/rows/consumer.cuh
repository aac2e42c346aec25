#pragma once
// The consumer role of conv_rows_kernel: matrix products, epilogue, stores.

#include "ops/conv/epilogue/epilogue.h"
#include "ops/conv/ring.cuh"
#include "ops/conv/rows/epilogue.cuh"
#include "ops/conv/rows/exchange.cuh"
#include "ops/conv/rows/params.cuh"
#include "ops/ptx/sm80.cuh"
#include "ops/ptx/sm90.cuh"

namespace solder::rows {

/// Starts acc += W * X over one filter row of a part, from `desc_w` (advanced past the row's weights) and
/// `desc_x`. A step takes two planes of channels of each operand; with fp32 their low parts lie a plane on,
/// and `kLow` asks for the two products with one low part, otherwise it is the product of the high parts.
template <class FilterShape, bool kLow>
__device__ void multiply_row(const Params& p, uint64_t& desc_w, uint64_t desc_x, bool& accumulate,
                             float (&acc)[kAccs]) {
  constexpr int kPlaneW = kRowsBlockChannels * 16 >> 4, kPlaneX = FilterShape::kPlaneBytes >> 4;
  // NOTE: loops that surely run, so that no path around them makes the compiler serialise the wgmma.
  int s = 0;
#pragma unroll FilterShape::kUnrollTaps
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

/// Starts the products of one part of an output row, whose first input row is at `at`.
template <class FilterShape>
__device__ __forceinline__ void multiply_part(const Params& p, const Block& b, RingPosition at, int part,
                                              uint64_t desc_w0, uint64_t desc_x0, float (&acc)[kAccs]) {
  constexpr int kParts = FilterShape::kParts;
  bool accumulate = false;
  // fp32: the small products come first, so that few sums are rounded at the size of the result.
#pragma unroll
  for (int pass = 0; pass < kParts; ++pass) {
    // Opaque: otherwise the descriptors of all taps are hoisted out of the loop, and spill.
    uint64_t desc_w = desc_w0 | sm80::opaque(0);
    int r = 0;
#pragma unroll FilterShape::kUnrollTaps
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
}

/// Multiplies parts of output rows (128 columns; two to a row) and runs their epilogues. The consumer
/// warpgroups, of which this is number `which`, take parts in turns.
template <class FilterShape, class Chain, int kHalves>
__device__ void consume(const Params& p, const Block& b, const Segment& first_segment,
                        const Channels<kHalves>& channels, int which, int t) {
  const int warp = __shfl_sync(0xffffffffu, t >> 5, 0), lane = t & 31;
  constexpr int kParts = FilterShape::kParts;
  const int span = (p.R - 1) * p.dil_h;
  const uint32_t peer_empty = sm90::map_to_rank(b.empty, b.rank ^ 1);
  const int warp_channel = channels.warp_channel;
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
  SumExchange exchange{sm80::smem_address(stage), b.sums_full + 8 * (which * 4 + warp),
                       b.sums_empty + 8 * (which * 4 + warp), b.rank ^ 1};

  static_assert(kNumConsumers == 3);  // see the end of the loop over parts
  // Consumer 0 begins.
  if (which == kNumConsumers - 1) sm80::named_barrier_arrive(kTurnBarrier, 2 * kWarpgroup);
  sm90::mbarrier_wait(b.weights_ready, 0);
  int first_input = 0;  // of the segment's input rows, among all that went into the ring
  int turn = 0;         // whose part is the segment's first
  int num_segments = 0;
  Walk walk(p, b.cluster);
  Segment seg = first_segment;
  do {
    if (!is_needed(p, FilterShape::kMath, seg)) continue;
    int index = which - turn + (which < turn ? kNumConsumers : 0);  // of the part in the segment
    RingPosition at = RingPosition::of(first_input + index / 2, p.num_slots);
#pragma unroll 1
    for (; index < 2 * seg.num_rows; index += kNumConsumers) {
      const int j = index / 2, part = index & 1;
      const int first_col = seg.strip * p.strip_cols + part * kPartCols;
      const int num_cols = min(min(p.strip_cols - part * kPartCols, kPartCols), p.Q - first_col);
      // Opaque: otherwise places in y and the residual are kept apart all along the segment, and spill.
      int image = seg.image;
      if constexpr (Chain::kChain == ConvChain::any)
        image = static_cast<int>(sm80::opaque(static_cast<uint32_t>(image)));
      const int64_t row_offset = image * p.y_image + warp_channel * p.y_plane +
                                 static_cast<int64_t>(seg.first_row + j) * p.Q + first_col;
      if (Chain::kChain == ConvChain::any && p.epilogue.residual_at != ResidualAt::none)
        prefetch_residual(p, row_offset + image * p.residual_shift, min(8 * kHalves, p.K - warp_channel),
                          num_cols, lane);
      float acc[kAccs];
      sm80::named_barrier_sync(kTurnBarrier + which, 2 * kWarpgroup);
      sm90::mbarrier_wait(b.full + 8 * at.slot, at.parity);
      const int x_exponent = b.exponents[num_segments % (2 * kRowsMaxSlots)];
      multiply_part<FilterShape>(p, b, at, part, desc_w0, desc_x0, acc);
      sm80::named_barrier_arrive(kTurnBarrier + (which == kNumConsumers - 1 ? 0 : which + 1), 2 * kWarpgroup);
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

      finish_part<FilterShape, Chain>(p, channels, x_exponent, row_offset,
                                      row_offset + image * p.residual_shift, num_cols, stage, lane, acc);
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
