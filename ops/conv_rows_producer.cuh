#pragma once
// The producer role of conv_rows_kernel: x from memory, through scale and rounding, to the ring. The picture
// is in ops/conv_rows_kernel.cuh.

#include "ops/conv_rows.cuh"
#include "ops/sm90.cuh"

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
__device__ void load_row(const RowsParams& p, const Source& src, int h, float2 (&v)[kMaxShare]) {
  const float* row = src.row0 + static_cast<int64_t>(h) * p.W;
  const bool in_image = h >= 0 && h < p.H;
  if (src.num_channels == kMaxShare && p.paired_loads) {
    if (in_image && src.inside0) {
#pragma unroll
      for (int c = 0; c < kMaxShare; ++c, row += p.x_plane) {
        v[c] = sm90::load_streaming(reinterpret_cast<const float2*>(row));
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

/// Fills the ring: each input row of the block's share of the channels, scaled and rounded, into the own slot
/// and, by one bulk copy, into the peer's.
template <class FilterShape>
__device__ void produce(const RowsParams& p, const Block& b, int t) {
  constexpr int kParts = FilterShape::kParts, kPlaneBytes = FilterShape::kPlaneBytes;
  constexpr int kMaxShare = FilterShape::kMaxShare;
  constexpr Math kMath = FilterShape::kMath;
  const int share_bytes = p.share_channels / 8 * kParts * kPlaneBytes;
  const int own_share = static_cast<int>(b.rank & 1) * share_bytes;
  const int first_channel = static_cast<int>(b.rank) * p.share_channels;
  const int span = (p.R - 1) * p.dil_h;
  RingPosition at;
  Source src;
  src.num_channels = max(0, min(p.share_channels, p.C - first_channel));
  const int end_unit = first_unit(p, b.cluster + 1);
  for (int unit = first_unit(p, b.cluster); unit < end_unit;) {
    const Segment seg = segment_at(p, unit, end_unit);
    const bool is_first = unit == first_unit(p, b.cluster);
    unit += seg.num_rows;
    if (skipped(p, kMath, seg)) continue;
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
      float2 v[kMaxShare];
      load_row(p, src, first_h + j, v);
      if (j == 0) {
        exponent = p.repair ? exact_exponent(p.ranges[seg.image].max_bits, kMath)
                            : range_exponent(sample_maximum(p, seg.image, is_first, b.warp_maxima, t),
                                             range_window(kMath).guess);
        scale = __int_as_float((exponent + 127) << 23);
      }
      // All arithmetic comes before the wait: from a slot's release to its refill only the stores remain.
      HalfPixel first[FilterShape::kSharePlanes], second[FilterShape::kSharePlanes];
#pragma unroll
      for (int c = 0; c < kMaxShare; c += 2) {
        float& seen = largest[c / 2 % 4];
        seen = sm90::max_nan(sm90::max_nan(seen, fabsf(v[c].x)), fabsf(v[c + 1].x));
        seen = sm90::max_nan(sm90::max_nan(seen, fabsf(v[c].y)), fabsf(v[c + 1].y));
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
#pragma unroll
      for (int plane = 0; plane < FilterShape::kSharePlanes; ++plane) {
        if (plane / kParts * 8 >= p.share_channels) break;
        *reinterpret_cast<uint4*>(dst + plane * kPlaneBytes) = first[plane].all;
        *reinterpret_cast<uint4*>(dst + plane * kPlaneBytes + 16) = second[plane].all;
      }
      if (t == 0) b.slot_exponents[at.slot] = exponent;
      sm90::fence_proxy_async();
      sm90::named_barrier_sync(kProducerBarrier, kWarpgroup);
      if (t == 0) {
        const uint32_t src_share = b.ring + at.slot * b.slot_bytes + own_share;
        sm90::bulk_copy_to_cluster(sm90::map_to_rank(src_share, b.rank ^ 1), src_share, share_bytes,
                                   sm90::map_to_rank(b.full + 8 * at.slot, b.rank ^ 1));
        sm90::mbarrier_arrive_expect(b.full + 8 * at.slot, share_bytes);
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
