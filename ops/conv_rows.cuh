#pragma once
// What the two roles of conv_rows_kernel share. The producer is in ops/conv_rows_producer.cuh, the consumer
// in ops/conv_rows_consumer.cuh, the picture in ops/conv_rows_kernel.cuh.

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
constexpr int kPartCols = kRowsPartCols;  // a part: the output columns of one turn of a consumer
constexpr int kAccs = kPartCols / 2;      // accumulators a thread
// Named barriers from 1 on pass the tensor cores from one consumer warpgroup to the next.
constexpr uint32_t kTurnBarrier = 1;
constexpr uint32_t kProducerBarrier = 1 + kNumConsumers;
constexpr uint32_t kFirstSampleBarrier = 2 + kNumConsumers;

/// What one cluster saw of one image: written by the main pass, read by the repair. Index: cluster + plane,
/// which is unique because along a walk through the units one of the two grows by one at each step.
struct alignas(128) RangeSlot {
  uint32_t max_bits[16];  ///< one per producer warp of the cluster's blocks
  int32_t exponent;
};

struct RowsParams {
  const float* x;                              // [N,C,H,W]
  const uint4* weights;                        // see pack_rows_weights
  const int32_t* weight_exponents;             // [K], padded
  float* y;                                    // [N,K,P,Q]
  RangeSlot* slots;                            // [clusters_per_k_block + N * num_strips]
  ImageRange* ranges;                          // [N]
  int64_t x_plane, x_image, y_plane, y_image;  // elements
  int C, H, W, K, P, Q, R, S, dil_h, dil_w, pad_top, pad_left;
  int num_strips, strip_cols;
  int cluster_units, extra_units;  // a unit is one output row of a strip; units are in memory order
  int clusters_per_k_block;
  int share_channels, num_slots;
  int slot_shift;      // slot column of the first pixel that is loaded
  bool paired_loads;   // 8-byte loads of x are aligned
  bool bulk_prefetch;  // rows of x are whole 16-byte pieces
  bool repair;         // second pass: only images whose range_status is `rescale`
  ConvEpilogue epilogue;
};

using RowsKernel = void (*)(RowsParams);

/// The kernel for p: its filter and chain, with 1 (tf32) or 2 (fp32) float16 parts to an operand. `paired`:
/// pairs of outputs are 8-byte aligned. Each has its instances in a file of its own.
template <int kParts>
RowsKernel select_kernel(const RowsParams& p, bool paired);

/// The filter's rows, columns and steps of 16 input channels as far as they are known at compile time (0: a
/// parameter), and the number of float16 parts of an operand, with all that follows from it.
template <int kRows, int kCols, int kSteps, int kPartsValue>
struct Filter {
  static constexpr int kParts = kPartsValue;
  static constexpr Math kMath = kParts == 1 ? Math::tf32 : Math::fp32;
  static constexpr int kClusterSize = 2 * kParts;
  static constexpr int kPlaneBytes = rows_plane_bytes(kParts);
  static constexpr int kSharePlanes = kRowsMaxSharePlanes;
  static constexpr int kMaxShare = kSharePlanes / kParts * 8;  // input channels that a block converts
  static constexpr int kUnrollRows = kRows > 0 ? kRows : 1;
  static constexpr int kUnrollCols = kCols > 0 ? kCols : 1;
  static constexpr int kUnrollSteps = kSteps > 0 ? kSteps : 1;
  static __device__ int rows(const RowsParams& p) { return kRows > 0 ? kRows : p.R; }
  static __device__ int cols(const RowsParams& p) { return kCols > 0 ? kCols : p.S; }
  static __device__ int steps(const RowsParams& p) { return kSteps > 0 ? kSteps : p.share_channels / 8; }
};

/// Shared-memory addresses and this block's place in its cluster.
struct Block {
  unsigned char* smem;
  uint32_t weights, ring, full, empty, weights_ready, sums_full, sums_empty;
  int32_t* slot_exponents;  // [num_slots]
  uint32_t* warp_maxima;    // [4]
  float* stage;
  // In the cluster: bit 0 is the half of the output channels, bit 1 (fp32) that of the input channels. The
  // peer (bit 0 differs) fills half of our ring, the partner (bit 1 differs) has the other half of our sums.
  uint32_t rank;
  int cluster;  // among those of the same k block
  int k_block;
  int slot_bytes;
};

/// A run of units in one strip of one image.
struct Segment {
  int plane, image, strip, first_row, num_rows;
};

/// The units of `cluster`: an even, contiguous share; the first `extra_units` clusters have one more.
inline __device__ int first_unit(const RowsParams& p, int cluster) {
  return cluster * p.cluster_units + min(cluster, p.extra_units);
}

inline __device__ int cluster_of(const RowsParams& p, int unit) {
  const int in_larger = p.extra_units * (p.cluster_units + 1);
  return unit < in_larger ? unit / (p.cluster_units + 1)
                          : p.extra_units + (unit - in_larger) / p.cluster_units;
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
inline __device__ bool skipped(const RowsParams& p, Math math, const Segment& s) {
  if (!p.repair) return false;
  const bool skip = range_status(p.ranges[s.image], math) != RangeStatus::rescale;
  return __shfl_sync(0xffffffffu, static_cast<int>(skip), 0) != 0;
}

/// A position in the ring and the parity of its current phase.
struct RingPosition {
  int slot = 0;
  uint32_t parity = 0;

  /// The position of the `row`th row that went into the ring.
  static __device__ RingPosition of(int row, int num_slots) {
    const int turns = row / num_slots;
    return {row - turns * num_slots, static_cast<uint32_t>(turns) & 1};
  }

  /// The position `distance` <= num_slots rows on.
  __device__ RingPosition ahead(int distance, int num_slots) const {
    RingPosition r{slot + distance, parity};
    if (r.slot >= num_slots) r.slot -= num_slots, r.parity ^= 1;
    return r;
  }
};

// ---- range guard -----------------------------------------------------------------------------------------

/// Bits of the largest finite |x| in the warp's quarter of a sample of the image's elements, one in each of
/// 1024 equal stretches at a scattered place.
inline __device__ uint32_t sample_warp_maximum(const RowsParams& p, int image, int t) {
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
  return __reduce_max_sync(0xffffffffu, largest);
}

/// The first image's sample is taken by a consumer warpgroup, which has nothing else to do yet.
inline __device__ void sample_first_image(const RowsParams& p, const Block& b, int t) {
  const int unit = first_unit(p, b.cluster);
  const uint32_t largest = sample_warp_maximum(p, unit / p.P / p.num_strips, t);
  if ((t & 31) == 0) b.warp_maxima[t >> 5] = largest;
  sm90::named_barrier_arrive(kFirstSampleBarrier, 2 * kWarpgroup);
}

/// The sample's maximum for all threads of the producer warpgroup, the same in every block.
inline __device__ uint32_t sample_maximum(const RowsParams& p, int image, bool is_first,
                                          uint32_t* warp_maxima, int t) {
  if (is_first) {
    sm90::named_barrier_sync(kFirstSampleBarrier, 2 * kWarpgroup);
  } else {
    const uint32_t largest = sample_warp_maximum(p, image, t);
    sm90::named_barrier_sync(kProducerBarrier, kWarpgroup);  // the maxima of the image before have been read
    if ((t & 31) == 0) warp_maxima[t >> 5] = largest;
    sm90::named_barrier_sync(kProducerBarrier, kWarpgroup);
  }
  return max(max(warp_maxima[0], warp_maxima[1]), max(warp_maxima[2], warp_maxima[3]));
}

/// First step of the repair pass: gathers the cluster's images' ranges, one warp an image. True, for the
/// whole block, when one needs a new scale. All blocks that share an image write the same words.
template <class FilterShape>
__device__ bool gather_ranges(const RowsParams& p, int cluster) {
  const int begin_unit = first_unit(p, cluster), end_unit = first_unit(p, cluster + 1);
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  const int units_per_image = p.num_strips * p.P;
  const int last_image = (end_unit - 1) / units_per_image;
  bool any = false;
  for (int image = begin_unit / units_per_image + warp; image <= last_image; image += kNumThreads / 32) {
    const auto slot_of = [&](int unit) { return cluster_of(p, unit) + unit / p.P; };
    const int first = slot_of(image * units_per_image);
    const int last = slot_of((image + 1) * units_per_image - 1);
    uint32_t largest = 0;
    constexpr int kInFlight = 3;  // slots a lane, enough for all clusters on one image
    for (int i = first + lane; i <= last; i += 32 * kInFlight) {
#pragma unroll
      for (int j = 0; j < kInFlight; ++j) {
        const auto* words = reinterpret_cast<const uint4*>(p.slots[min(i + 32 * j, last)].max_bits);
#pragma unroll
        for (int block = 0; block < FilterShape::kClusterSize; ++block) {
          const uint4 a = words[block];
          largest = max(largest, max(max(a.x, a.y), max(a.z, a.w)));
        }
      }
    }
    const ImageRange range{p.slots[first].exponent, __reduce_max_sync(0xffffffffu, largest)};
    any = any || range_status(range, FilterShape::kMath) == RangeStatus::rescale;
    if (lane == 0) p.ranges[image] = range;
  }
  return __syncthreads_or(any);
}

}  // namespace solder::rows
