#pragma once
// What the roles of conv_rows_kernel share: parameters, shared memory and the walk through the units.

#include "ops/conv/fused.h"
#include "ops/conv/range/strict.cuh"
#include "ops/conv/rows/rows.h"

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
constexpr uint32_t kFirstMaximaBarrier = 1 + kNumConsumers;
constexpr uint32_t kStoredBarrier = 2 + kNumConsumers;  // and those after it: one for each warpgroup
constexpr int kClusterSize = 2;

/// What one cluster saw of one image: written by the main pass, read by the repair. Index: cluster + plane,
/// which is unique because along a walk through the units one of the two grows by one at each step.
struct alignas(128) RangeSlot {
  uint32_t max_bits[4 * kClusterSize];  ///< one per producer warp of the cluster's blocks
  int32_t exponent;
};

struct Params : KernelShape {
  const float* x;                              // [N,C,H,W]
  const uint4* weights;                        // see pack_weights
  const int32_t* weight_exponents;             // [K], padded
  float* y;                                    // [N,K,P,Q]
  RangeSlot* slots;                            // [clusters_per_k_block + N * num_strips]
  ImageRange* ranges;                          // [N], written by the repair
  uint8_t* alarms;                             // [clusters_per_k_block][kClusterSize][4]: may_need_repair
  int64_t x_plane, x_image, y_plane, y_image;  // elements from one to the next
  int64_t x_elems;                             // of an image
  int64_t residual_shift;  // image n's elements lie n times this further on in a residual than in y
  int num_strips, strip_cols;
  int cluster_units, extra_units;  // a unit is one output row of a strip; units are in memory order
  int clusters_per_k_block;
  int share_channels, num_slots;
  int slot_shift;      // slot column of the first pixel that is loaded
  bool paired_loads;   // 8-byte loads of x are aligned
  bool bulk_prefetch;  // rows of x are whole 16-byte pieces
  bool is_repair;      // second pass: only images whose range_status is not `good`
  ConvEpilogue epilogue;
  StrictParams strict;
};

using Kernel = void (*)(Params);

/// What differs between the kernel's instances beside the chain: the mode, and whether the filter is 3x3 of
/// as many channels as a block converts, known at compile time.
template <bool kIsKnownValue, Math kMathValue>
struct Filter {
  static constexpr bool kIsKnown = kIsKnownValue;
  static constexpr Math kMath = kMathValue;
  static constexpr int kParts = kMath == Math::fp32 ? 2 : 1;  // float16 parts of an operand
  static constexpr int kPlaneBytes = rows_plane_bytes(kParts);
  static constexpr int kMaxShare = 32;                         // input channels that a block converts
  static constexpr int kSharePlanes = kMaxShare / 8 * kParts;  // of the ring
  static constexpr int kBlockShares = kParts == 1 ? 2 : 1;     // of which a block multiplies
  static constexpr int kMaxSteps = kMaxShare * kBlockShares / 16;
  static constexpr int kUnrollTaps = kIsKnown ? 3 : 1;
  static constexpr int kUnrollSteps = kIsKnown ? kMaxSteps : 1;
  static __device__ int rows(const Params& p) { return kIsKnown ? 3 : p.R; }
  static __device__ int cols(const Params& p) { return kIsKnown ? 3 : p.S; }
  static __device__ int steps(const Params& p) {
    return kIsKnown ? kMaxSteps : p.share_channels * kBlockShares / 16;
  }
};

/// The instance for a filter and a chain; each mode has its own in one file.
template <class FilterShape>
Kernel select_kernel(ConvChain chain);

/// Shared-memory addresses and this block's place in its cluster.
struct Block {
  unsigned char* smem;
  uint32_t weights, ring, full, empty, weights_ready, sums_full, sums_empty;
  int32_t* exponents;       // of a segment's image, [segment mod 2 kRowsMaxSlots]
  uint32_t* sample_maxima;  // [kRowsNumWarps], see Sample
  uint32_t* first_maxima;   // [kRowsNumWarps], of the rows that the consumers' warps have converted
  float* stage;
  // In the cluster: the half of its input channels to convert and (tf32) of its output channels.
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
inline __device__ int first_unit(const Params& p, int cluster) {
  return cluster * p.cluster_units + min(cluster, p.extra_units);
}

inline __device__ int cluster_of(const Params& p, int unit) {
  const int in_larger = p.extra_units * (p.cluster_units + 1);
  return unit < in_larger ? unit / (p.cluster_units + 1)
                          : p.extra_units + (unit - in_larger) / p.cluster_units;
}

inline __device__ Segment segment_at(const Params& p, int unit, int end_unit) {
  Segment s;
  s.plane = unit / p.P;
  s.first_row = unit - s.plane * p.P;
  s.image = s.plane / p.num_strips;
  s.strip = s.plane - s.image * p.num_strips;
  s.num_rows = min(p.P - s.first_row, end_unit - unit);
  return s;
}

/// A cluster's way through its segments.
struct Walk {
  int unit, begin, end;

  __device__ Walk(const Params& p, int cluster)
      : unit(first_unit(p, cluster)), begin(unit), end(first_unit(p, cluster + 1)) {}
  __device__ Segment segment(const Params& p) const { return segment_at(p, unit, end); }
  __device__ bool is_first() const { return unit == begin; }
  __device__ bool is_last(const Segment& seg) const { return unit + seg.num_rows == end; }
  /// Goes on from `seg` to the segment after it; false where there is none.
  __device__ bool advance(const Params& p, Segment& seg) {
    unit += seg.num_rows;
    if (unit == end) return false;
    seg = segment(p);
    return true;
  }
};

/// Whether a segment is to be computed: all of them, or in the repair those of an image to redo.
/// NOTE: the shuffle makes the answer provably uniform; in a path that looks divergent wgmma is serialised.
inline __device__ bool is_needed(const Params& p, Math math, const Segment& s) {
  if (!p.is_repair) return true;
  const bool needed = range_status(p.ranges[s.image], math) == RangeStatus::rescale;
  return __shfl_sync(0xffffffffu, static_cast<int>(needed), 0) != 0;
}

}  // namespace solder::rows
