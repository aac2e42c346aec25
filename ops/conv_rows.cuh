#pragma once
// What the two roles of conv_rows_kernel share, and its producer. The consumer is in
// ops/conv_rows_consumer.cuh, the picture in ops/conv_rows.cu.

#include "ops/conv_epilogue.cuh"
#include "ops/conv_rows.h"
#include "ops/sm90.cuh"

namespace solder::rows {

constexpr int kWarpgroup = 128;
constexpr int kNumConsumers = kRowsNumConsumers;
constexpr int kNumThreads = (1 + kNumConsumers) * kWarpgroup;
// 128 * 104 + 384 * 136 = 128 * 512: what the launch bounds allot, dealt out anew.
constexpr int kProducerRegisters = 104;
constexpr int kConsumerRegisters = 136;
constexpr int kPartCols = kRowsTileCols / 2;  // a part: the output columns of one turn of a consumer
constexpr int kAccs = kPartCols / 2;          // accumulators a thread
constexpr int kMaxHalf = kRowsMaxHalfChannels;
constexpr int kPlaneBytes = rows_plane_bytes();
// Named barriers from 1 on pass the tensor cores from one consumer warpgroup to the next.
constexpr uint32_t kTurnBarrier = 1;
constexpr uint32_t kProducerBarrier = 1 + kNumConsumers;

/// What one cluster saw of one image: written by the main pass, read by the repair. Index: cluster + plane,
/// which is unique because along a walk through the units one of the two grows by one at each step.
struct alignas(64) RangeSlot {
  uint32_t max_bits[8];  ///< one per producer warp of the two blocks
  int32_t exponent;
};

struct RowsParams {
  const float* x;                              // [N,C,H,W]
  const uint4* weights;                        // [K/64][R*S][C/8][64] of 8 halves
  const int32_t* weight_exponents;             // [K], padded
  float* y;                                    // [N,K,P,Q]
  RangeSlot* slots;                            // [clusters_per_k_block + N * num_strips]
  ImageRange* ranges;                          // [N]
  int64_t x_plane, x_image, y_plane, y_image;  // elements
  int C, H, W, K, P, Q, R, S, dil_h, dil_w, pad_top, pad_left;
  int num_strips, strip_cols, num_units;  // a unit is one output row of a strip; units are in memory order
  int clusters_per_k_block;
  int half_channels, num_slots;
  int slot_shift;      // slot column of the first pixel that is loaded
  bool paired_loads;   // 8-byte loads of x are aligned
  bool bulk_prefetch;  // rows of x are whole 16-byte pieces
  bool repair;         // second pass: only images whose range_status is `rescale`
  ConvEpilogue epilogue;
};

/// Filter rows, columns and steps of 16 input channels as far as they are known at compile time; 0: a
/// parameter.
template <int kRows, int kCols, int kSteps>
struct Filter {
  static constexpr int kUnrollRows = kRows > 0 ? kRows : 1;
  static constexpr int kUnrollCols = kCols > 0 ? kCols : 1;
  static constexpr int kUnrollSteps = kSteps > 0 ? kSteps : 1;
  static __device__ int rows(const RowsParams& p) { return kRows > 0 ? kRows : p.R; }
  static __device__ int cols(const RowsParams& p) { return kCols > 0 ? kCols : p.S; }
  static __device__ int steps(const RowsParams& p) { return kSteps > 0 ? kSteps : p.half_channels / 8; }
};

/// Shared-memory addresses and this block's place in its cluster.
struct Block {
  unsigned char* smem;
  uint32_t weights, ring, full, empty, weights_ready;
  int32_t* slot_exponents;  // [num_slots]
  float* stage;
  uint32_t rank;  // in the cluster
  int cluster;    // among those of the same k block
  int k_block;
  int slot_bytes;
};

/// A run of units in one strip of one image.
struct Segment {
  int plane, image, strip, first_row, num_rows;
};

/// The units of `cluster`: an even, contiguous share.
inline __device__ int first_unit(const RowsParams& p, int cluster) {
  return static_cast<int>(static_cast<int64_t>(p.num_units) * cluster / p.clusters_per_k_block);
}

inline __device__ Segment segment_at(const RowsParams& p, int unit, int end_unit) {
  Segment s;
  s.plane = unit / p.P;
  s.first_row = unit - s.plane * p.P;
  s.image = s.plane / p.num_strips;
  s.strip = s.plane - s.image * p.num_strips;
  s.num_rows = min(p.P - s.first_row, end_unit - unit);
  return s;
}

/// NOTE: the shuffle makes the answer provably uniform; in a path that looks divergent wgmma is serialised.
inline __device__ bool skipped(const RowsParams& p, const Segment& s) {
  if (!p.repair) return false;
  const bool skip = range_status(p.ranges[s.image], Math::tf32) != RangeStatus::rescale;
  return __shfl_sync(0xffffffffu, static_cast<int>(skip), 0) != 0;
}

/// A position in the ring and the parity of its current phase.
struct RingPosition {
  int slot = 0;
  uint32_t parity = 0;

  /// The position `distance` <= num_slots rows on.
  __device__ RingPosition ahead(int distance, int num_slots) const {
    RingPosition r{slot + distance, parity};
    if (r.slot >= num_slots) r.slot -= num_slots, r.parity ^= 1;
    return r;
  }
};

// ---- range guard -----------------------------------------------------------------------------------------

/// Bits of the largest finite |x| in a sample of the image's elements, one in each of 1024 equal stretches at
/// a scattered place; for all threads of the producer warpgroup, the same in every block.
inline __device__ uint32_t sample_maximum(const RowsParams& p, int image, uint32_t* warp_maxima, int t) {
  constexpr int kLoads = 8;
  const float* x = p.x + image * p.x_image;
  float values[kLoads];
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    const uint32_t n = static_cast<uint32_t>(i * kWarpgroup + t);
    const uint32_t scatter = (n + 1) * 2654435769u;  // golden ratio: no two columns in step
    const int64_t within = static_cast<int64_t>(static_cast<uint64_t>(p.x_image) * scatter >> 32);
    values[i] = __ldg(x + ((n * p.x_image + within) >> 10));
  }
  uint32_t largest = 0;
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    const uint32_t bits = __float_as_uint(values[i]) & 0x7fffffffu;
    if (bits < kNonFiniteBits) largest = max(largest, bits);
  }
  largest = __reduce_max_sync(0xffffffffu, largest);
  sm90::named_barrier_sync(kProducerBarrier, kWarpgroup);  // the maxima of the image before have been read
  if ((t & 31) == 0) warp_maxima[t >> 5] = largest;
  sm90::named_barrier_sync(kProducerBarrier, kWarpgroup);
  return max(max(warp_maxima[0], warp_maxima[1]), max(warp_maxima[2], warp_maxima[3]));
}

/// First step of the repair pass: gathers the cluster's images' ranges, one warp an image. True, for the
/// whole block, when one needs a new scale. All blocks that share an image write the same words.
inline __device__ bool gather_ranges(const RowsParams& p, int cluster) {
  const int begin_unit = first_unit(p, cluster), end_unit = first_unit(p, cluster + 1);
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  const int units_per_image = p.num_strips * p.P;
  const int last_image = (end_unit - 1) / units_per_image;
  bool any = false;
  for (int image = begin_unit / units_per_image + warp; image <= last_image; image += kNumThreads / 32) {
    // A unit's cluster: the largest whose first unit is not beyond it.
    const auto slot_of = [&](int unit) {
      const int64_t cluster = (static_cast<int64_t>(unit + 1) * p.clusters_per_k_block - 1) / p.num_units;
      return static_cast<int>(cluster) + unit / p.P;
    };
    const int first = slot_of(image * units_per_image);
    const int last = slot_of((image + 1) * units_per_image - 1);
    uint32_t largest = 0;
    constexpr int kInFlight = 3;  // slots a lane, enough for all clusters on one image
    for (int i = first + lane; i <= last; i += 32 * kInFlight) {
#pragma unroll
      for (int j = 0; j < kInFlight; ++j) {
        const auto* words = reinterpret_cast<const uint4*>(p.slots[min(i + 32 * j, last)].max_bits);
        const uint4 a = words[0], b = words[1];
        largest = max(largest, max(max(max(a.x, a.y), max(a.z, a.w)), max(max(b.x, b.y), max(b.z, b.w))));
      }
    }
    const ImageRange range{p.slots[first].exponent, __reduce_max_sync(0xffffffffu, largest)};
    any = any || range_status(range, Math::tf32) == RangeStatus::rescale;
    if (lane == 0) p.ranges[image] = range;
  }
  return __syncthreads_or(any);
}

// ---- producer --------------------------------------------------------------------------------------------

/// Eight channels of one pixel: a row of a core matrix.
union HalfPixel {
  __half2 pair[4];
  uint4 all;
};

/// What a producer thread loads: pixels `col` and `col + 1` of its block's channels.
struct Source {
  const float* row0;  // of the block's first channel, input row 0, at pixel `col`
  int num_channels;   // that exist; those beyond read as zero
  bool inside0, inside1;
};

inline __device__ void load_row(const RowsParams& p, const Source& src, int h, float2 (&v)[kMaxHalf]) {
  const float* row = src.row0 + static_cast<int64_t>(h) * p.W;
  const bool in_image = h >= 0 && h < p.H;
  if (src.num_channels == kMaxHalf && p.paired_loads) {
    if (in_image && src.inside0) {
#pragma unroll
      for (int c = 0; c < kMaxHalf; ++c, row += p.x_plane) {
        v[c] = sm90::load_streaming(reinterpret_cast<const float2*>(row));
      }
    } else {
#pragma unroll
      for (int c = 0; c < kMaxHalf; ++c) v[c] = make_float2(0, 0);
    }
    return;
  }
#pragma unroll
  for (int c = 0; c < kMaxHalf; ++c, row += p.x_plane) {
    v[c] = make_float2(0, 0);
    if (c < src.num_channels && in_image) {
      if (p.paired_loads) {
        if (src.inside0) v[c] = __ldg(reinterpret_cast<const float2*>(row));
      } else {
        if (src.inside0) v[c].x = __ldg(row);
        if (src.inside1) v[c].y = __ldg(row + 1);
      }
    }
  }
}

/// Brings one input row of the block's channels to L2. Exactly one row ahead of the loads is best: two rows
/// cost 8 percent.
inline __device__ void prefetch_row(const RowsParams& p, const float* image, int num_channels, int h, int t) {
  if (h < 0 || h >= p.H) return;
  const float* row = image + static_cast<int64_t>(h) * p.W;
  if (p.bulk_prefetch) {
    if (t < num_channels) sm90::bulk_prefetch_l2(row + t * p.x_plane, static_cast<uint32_t>(p.W) * 4);
    return;
  }
  const int lines = (p.W + 62) / 32;  // at most, at any alignment
  for (int i = t; i < num_channels * lines; i += kWarpgroup) {
    const int c = i / lines;
    sm90::prefetch_l2(row + c * p.x_plane + min((i - c * lines) * 32, p.W - 1));
  }
}

/// Fills the ring: each input row of the block's half of the channels, scaled and rounded, into the own slot
/// and, by one bulk copy, into the peer's.
inline __device__ void produce(const RowsParams& p, const Block& b, int t) {
  const int half_bytes = p.half_channels / 8 * kPlaneBytes;
  const int own_half = static_cast<int>(b.rank) * half_bytes;
  uint32_t* const warp_maxima = reinterpret_cast<uint32_t*>(b.slot_exponents + 2 * kRowsMaxSlots);
  const int first_channel = static_cast<int>(b.rank) * p.half_channels;
  const int span = (p.R - 1) * p.dil_h;
  RingPosition at;
  Source src;
  src.num_channels = max(0, min(p.half_channels, p.C - first_channel));
  const int end_unit = first_unit(p, b.cluster + 1);
  for (int unit = first_unit(p, b.cluster); unit < end_unit;) {
    const Segment seg = segment_at(p, unit, end_unit);
    unit += seg.num_rows;
    if (skipped(p, seg)) continue;
    const float* image = p.x + seg.image * p.x_image + first_channel * p.x_plane;
    const int col = seg.strip * p.strip_cols - p.pad_left + p.slot_shift + 2 * t;
    src.row0 = image + col;
    src.inside0 = col >= 0 && col < p.W;
    src.inside1 = col + 1 >= 0 && col + 1 < p.W;
    const int num_rows = seg.num_rows + span, first_h = seg.first_row - p.pad_top;
    for (int j = 1; j <= min(span, num_rows - 1); ++j)
      prefetch_row(p, image, src.num_channels, first_h + j, t);
    float largest[4] = {};  // four short chains instead of a long one
    int exponent = 0;
    float scale = 0;
    for (int j = 0; j < num_rows; ++j) {
      if (j + 1 < num_rows && j >= span) prefetch_row(p, image, src.num_channels, first_h + j + 1, t);
      float2 v[kMaxHalf];
      load_row(p, src, first_h + j, v);
      if (j == 0) {
        exponent = p.repair ? exact_exponent(p.ranges[seg.image].max_bits, Math::tf32)
                            : range_exponent(sample_maximum(p, seg.image, warp_maxima, t),
                                             range_window(Math::tf32).guess);
        scale = __int_as_float((exponent + 127) << 23);
      }
      // All arithmetic comes before the wait: from a slot's release to its refill only the stores remain.
      HalfPixel first[kMaxHalf / 8], second[kMaxHalf / 8];
#pragma unroll
      for (int c = 0; c < kMaxHalf; c += 2) {
        float& seen = largest[c / 2 % 4];
        seen = sm90::max_nan(sm90::max_nan(seen, fabsf(v[c].x)), fabsf(v[c + 1].x));
        seen = sm90::max_nan(sm90::max_nan(seen, fabsf(v[c].y)), fabsf(v[c + 1].y));
        first[c / 8].pair[c / 2 % 4] = __floats2half2_rn(v[c].x * scale, v[c + 1].x * scale);
        second[c / 8].pair[c / 2 % 4] = __floats2half2_rn(v[c].y * scale, v[c + 1].y * scale);
      }
      sm90::mbarrier_wait(b.empty + 8 * at.slot, at.parity ^ 1);
      unsigned char* dst =
          b.smem + b.ring - b.weights + at.slot * b.slot_bytes + own_half + (2 * t + p.slot_shift) * 16;
#pragma unroll
      for (int plane = 0; plane < kMaxHalf / 8; ++plane) {
        if (plane * 8 >= p.half_channels) break;
        *reinterpret_cast<uint4*>(dst + plane * kPlaneBytes) = first[plane].all;
        *reinterpret_cast<uint4*>(dst + plane * kPlaneBytes + 16) = second[plane].all;
      }
      if (t == 0) b.slot_exponents[at.slot] = exponent;
      sm90::fence_proxy_async();
      sm90::named_barrier_sync(kProducerBarrier, kWarpgroup);
      if (t == 0) {
        const uint32_t src_half = b.ring + at.slot * b.slot_bytes + own_half;
        sm90::bulk_copy_to_cluster(sm90::map_to_rank(src_half, b.rank ^ 1), src_half, half_bytes,
                                   sm90::map_to_rank(b.full + 8 * at.slot, b.rank ^ 1));
        sm90::mbarrier_arrive_expect(b.full + 8 * at.slot, half_bytes);
      }
      at = at.ahead(1, p.num_slots);
    }
    if (!p.repair && b.k_block == 0) {
      RangeSlot& slot = p.slots[b.cluster + seg.plane];
      const float seen =
          sm90::max_nan(sm90::max_nan(largest[0], largest[1]), sm90::max_nan(largest[2], largest[3]));
      const uint32_t bits = __reduce_max_sync(0xffffffffu, __float_as_uint(seen));
      if ((t & 31) == 0) slot.max_bits[b.rank * 4 + (t >> 5)] = bits;
      if (t == 0 && b.rank == 0) slot.exponent = exponent;
      // NOTE: where cluster and plane change together, the index skips a slot that gather_ranges will read.
      const bool skips = unit == end_unit && seg.first_row + seg.num_rows == p.P;
      if (skips && (t & 31) == 0) (&slot + 1)->max_bits[b.rank * 4 + (t >> 5)] = 0;
    }
  }
}

}  // namespace solder::rows
