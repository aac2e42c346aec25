#pragma once
// The producer role of conv_rows_kernel: x from memory, through scale and rounding, to the ring.

#include <cuda_fp16.h>

#include "ops/conv/range/range.h"
#include "ops/conv/ring.cuh"
#include "ops/conv/rows/params.cuh"
#include "ops/conv/rows/range.cuh"
#include "ops/ptx/sm80.cuh"
#include "ops/ptx/sm90.cuh"

namespace solder::rows {

/// Eight channels of one pixel: a row of a core matrix.
union HalfPixel {
  __half2 pair[4];
  uint4 all;
};

/// Rounds to half; what the rounding dropped remains, exactly, in `rest`.
inline __device__ __half2 take_half(float2& rest) {
  const __half2 half = __floats2half2_rn(rest.x, rest.y);
  const float2 taken = __half22float2(half);
  rest = make_float2(rest.x - taken.x, rest.y - taken.y);
  return half;
}

/// What a producer thread loads: pixels `col` and `col + 1` of its block's channels.
struct Source {
  const float* row0;  // of the block's first channel, input row 0, at pixel `col`
  int num_channels;   // that exist; those beyond read as zero
  bool inside0, inside1;
};

/// v = the thread's pixels of the block's channels in input row h.
template <int kMaxShare>
__device__ void load_row(const Params& p, const Source& src, int h, float2 (&v)[kMaxShare]) {
  const float* row = src.row0 + static_cast<int64_t>(h) * p.W;
  const bool in_image = h >= 0 && h < p.H;
  if (src.num_channels == kMaxShare && p.paired_loads) {
    if (in_image && src.inside0) {
#pragma unroll
      for (int c = 0; c < kMaxShare; ++c, row += p.x_plane) {
        v[c] = sm80::load_pair(reinterpret_cast<const float2*>(row));
      }
    } else {
#pragma unroll
      for (int c = 0; c < kMaxShare; ++c) v[c] = make_float2(0, 0);
    }
    return;
  }
#pragma unroll
  for (int c = 0; c < kMaxShare; ++c, row += p.x_plane) {
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
/// cost 8 percent. A bulk prefetch keeps its warp for some 40 cycles, so the four warps share them.
inline __device__ void prefetch_row(const Params& p, const float* image, int num_channels, int h, int t) {
  if (h < 0 || h >= p.H) return;
  const float* row = image + static_cast<int64_t>(h) * p.W;
  if (p.bulk_prefetch) {
    const int channel = t / 32 + t % 32 * 4;
    if (channel < num_channels)
      sm90::bulk_prefetch_l2(row + channel * p.x_plane, static_cast<uint32_t>(p.W) * 4);
    return;
  }
  const int lines = (p.W + 62) / 32;  // at most, at any alignment
  for (int i = t; i < num_channels * lines; i += kWarpgroup) {
    const int c = i / lines;
    sm80::prefetch_l2(row + c * p.x_plane + min((i - c * lines) * 32, p.W - 1));
  }
}

/// One block's rows of a segment on their way from memory to the ring.
template <class FilterShape>
struct RowSource {
  static constexpr int kParts = FilterShape::kParts, kMaxShare = FilterShape::kMaxShare;
  const float* image;  // the block's first channel
  Source src;
  int first_h, num_rows;  // of the input

  __device__ RowSource(const Params& p, const Block& b, const Segment& seg, int t) {
    const int first_channel = static_cast<int>(b.rank) * p.share_channels;
    const int col = seg.strip * p.strip_cols - p.pad_left + p.slot_shift + 2 * t;
    image = p.x + seg.image * p.x_image + first_channel * p.x_plane;
    src.row0 = image + col;
    src.num_channels = max(0, min(p.share_channels, p.C - first_channel));
    src.inside0 = col >= 0 && col < p.W;
    src.inside1 = col + 1 >= 0 && col + 1 < p.W;
    first_h = seg.first_row - p.pad_top;
    num_rows = seg.num_rows + (p.R - 1) * p.dil_h;
  }

  /// v = the thread's pixels of row j of the segment.
  __device__ void load(const Params& p, int j, float2 (&v)[kMaxShare]) const {
    load_row(p, src, first_h + j, v);
  }

  __device__ void prefetch(const Params& p, int j, int t) const {
    if (j < num_rows) prefetch_row(p, image, src.num_channels, first_h + j, t);
  }

  /// Scales by 2^exponent, rounds, and puts a warpgroup's row into the own ring and (tf32) the peer's, once
  /// the slot is free. `largest` goes up to the row's max |x|.
  __device__ static void store(const Params& p, const Block& b, int exponent, const float2 (&v)[kMaxShare],
                               const RingPosition& at, uint32_t barrier, int t, float (&largest)[4]) {
    constexpr int kPlaneBytes = FilterShape::kPlaneBytes;
    const int share_bytes = p.share_channels / 8 * kParts * kPlaneBytes;
    const int own_share = kParts == 1 ? static_cast<int>(b.rank) * share_bytes : 0;
    const float scale = power_of_two(exponent);
    // All arithmetic comes before the wait: from a slot's release to its refill only the stores remain.
    HalfPixel first[FilterShape::kSharePlanes], second[FilterShape::kSharePlanes];
#pragma unroll
    for (int c = 0; c < kMaxShare; c += 2) {
      float& seen = largest[c / 2 % 4];
      seen = sm80::max_nan(sm80::max_nan(seen, fabsf(v[c].x)), fabsf(v[c + 1].x));
      seen = sm80::max_nan(sm80::max_nan(seen, fabsf(v[c].y)), fabsf(v[c + 1].y));
      float2 rest0 = make_float2(v[c].x * scale, v[c + 1].x * scale);
      float2 rest1 = make_float2(v[c].y * scale, v[c + 1].y * scale);
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        first[c / 8 * kParts + part].pair[c / 2 % 4] = take_half(rest0);
        second[c / 8 * kParts + part].pair[c / 2 % 4] = take_half(rest1);
      }
    }
    sm90::mbarrier_wait(b.empty + 8 * at.slot, at.parity ^ 1);
    unsigned char* dst =
        b.smem + b.ring - b.weights + at.slot * b.slot_bytes + own_share + (2 * t + p.slot_shift) * 16;
    // Four threads in eight begin with their second pixel, or two of the eight that store at a time would
    // meet in each bank.
    const bool second_first = (t & 4) != 0;
    const int at0 = second_first ? 16 : 0, at1 = 16 - at0;
#pragma unroll
    for (int plane = 0; plane < FilterShape::kSharePlanes; ++plane) {
      if (plane / kParts * 8 >= p.share_channels) break;
      const uint4 a = first[plane].all, b = second[plane].all;
      *reinterpret_cast<uint4*>(dst + plane * kPlaneBytes + at0) = second_first ? b : a;
      *reinterpret_cast<uint4*>(dst + plane * kPlaneBytes + at1) = second_first ? a : b;
    }
    sm90::fence_proxy_async();
    sm80::named_barrier_sync(barrier, kWarpgroup);
    if (t == 0) {
      const uint32_t full = b.full + 8 * at.slot;
      if constexpr (kParts == 1) {
        const uint32_t src_share = b.ring + at.slot * b.slot_bytes + own_share;
        sm90::bulk_copy_to_cluster(sm90::map_to_rank(src_share, b.rank ^ 1), src_share, share_bytes,
                                   sm90::map_to_rank(full, b.rank ^ 1));
        sm90::mbarrier_arrive_expect(full, share_bytes);
      } else {
        sm90::mbarrier_arrive(full, 1);
      }
    }
  }
};

inline __device__ float largest_of(const float (&v)[4]) {
  return sm80::max_nan(sm80::max_nan(v[0], v[1]), sm80::max_nan(v[2], v[3]));
}

/// Rows that a block converts at its start, a warpgroup each: a batch of one has no more than six rows in a
/// block. Three, as most filters need for their first output; a fourth would take bandwidth from them.
constexpr int kNumFirstRows = 3;
static_assert(kNumFirstRows < kRowsNumWarps / 4);

/// What the start of a cluster's first segment has done already.
struct FirstRows {
  int num_rows;
  int exponent;
  float largest;  // |x| in the calling thread's part of its row
};

/// Fills the ring for the first time, a warpgroup a row.
template <class FilterShape>
__device__ FirstRows fill_first_rows(const Params& p, const Block& b, const Segment& seg, int exponent,
                                     int warpgroup, int t) {
  const RowSource<FilterShape> source(p, b, seg, t);
  FirstRows first{min(min(p.num_slots, kNumFirstRows), source.num_rows), exponent, 0};
  if (warpgroup < first.num_rows) {
    float2 v[FilterShape::kMaxShare];
    source.load(p, warpgroup, v);
    const RingPosition at{warpgroup, 0};
    float largest[4] = {};
    source.store(p, b, exponent, v, at, kStoredBarrier + warpgroup, t, largest);
    first.largest = largest_of(largest);
  } else {
    source.prefetch(p, kNumFirstRows, t);
  }
  return first;
}

/// The consumers' warps hand over the maxima of the rows that they have converted.
inline __device__ void give_first_maxima(const Block& b, const FirstRows& first) {
  const uint32_t bits = __reduce_max_sync(0xffffffffu, __float_as_uint(first.largest));
  if (threadIdx.x % 32 == 0) b.first_maxima[threadIdx.x / 32] = bits;
  sm80::named_barrier_arrive(kFirstMaximaBarrier, kNumThreads);
}

/// Fills the ring: each input row of the block's share of the channels, scaled and rounded.
template <class FilterShape>
__device__ void produce(const Params& p, const Block& b, const Segment& first_segment, const FirstRows& first,
                        int t) {
  constexpr Math kMath = FilterShape::kMath;
  const int span = (p.R - 1) * p.dil_h;
  RingPosition at;
  int num_segments = 0;
  bool alarm = false;
  Walk walk(p, b.cluster);
  Segment seg = first_segment;
  do {
    const bool is_started = !p.is_repair && walk.is_first();
    if (!is_needed(p, kMath, seg)) continue;
    const RowSource<FilterShape> source(p, b, seg, t);
    float largest[4] = {};  // four short chains instead of a long one
    int exponent = 0, j = 0;
    if (is_started) {
      j = first.num_rows;
      exponent = first.exponent;
      largest[0] = first.largest;
      at = RingPosition::of(j, p.num_slots);
    }
    for (int ahead = 1; ahead <= span && !is_started; ++ahead) source.prefetch(p, ahead, t);
    for (; j < source.num_rows; ++j) {
      if (j >= span) source.prefetch(p, j + 1, t);
      float2 v[FilterShape::kMaxShare];
      source.load(p, j, v);
      if (j == 0) {
        if (p.is_repair) {
          exponent = exact_exponent(p.ranges[seg.image].max_bits, kMath);
        } else {
          Sample<kWarpgroup> sample;
          sample.load(p, seg.image, t);
          const uint32_t sampled = sample.warp_maximum();
          // The maxima of the image before have been read.
          sm80::named_barrier_sync(kStoredBarrier, kWarpgroup);
          if (t % 32 == 0) b.sample_maxima[t / 32] = sampled;
          sm80::named_barrier_sync(kStoredBarrier, kWarpgroup);
          exponent = sample_exponent<4>(b.sample_maxima, kMath);
        }
        if (t == 0) b.exponents[num_segments % (2 * kRowsMaxSlots)] = exponent;
      }
      source.store(p, b, exponent, v, at, kStoredBarrier, t, largest);
      at = at.ahead(1, p.num_slots);
    }
    uint32_t bits = __float_as_uint(largest_of(largest));
    if (is_started) {
      sm80::named_barrier_sync(kFirstMaximaBarrier, kNumThreads);
      if (t % 32 >= 4 && t % 32 < kRowsNumWarps) bits = max(bits, b.first_maxima[t % 32]);
    }
    if (!p.is_repair && b.k_block == 0) {
      RangeSlot& slot = p.slots[b.cluster + seg.plane];
      bits = __reduce_max_sync(0xffffffffu, bits);
      alarm = alarm || may_need_repair({exponent, bits}, kMath);
      if ((t & 31) == 0) slot.max_bits[b.rank * 4 + (t >> 5)] = bits;
      if (t == 0 && b.rank == 0) slot.exponent = exponent;
      // NOTE: where cluster and plane change together, the index skips a slot that gather_ranges will read.
      const bool skips = walk.is_last(seg) && seg.first_row + seg.num_rows == p.P;
      if (skips && (t & 31) == 0) (&slot + 1)->max_bits[b.rank * 4 + (t >> 5)] = 0;
    }
    ++num_segments;
  } while (walk.advance(p, seg));
  if (!p.is_repair && b.k_block == 0 && t % 32 == 0)
    p.alarms[(b.cluster * kClusterSize + static_cast<int>(b.rank)) * 4 + t / 32] = alarm;
}

}  // namespace solder::rows
