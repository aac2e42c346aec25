#pragma once
// The fused convolution of whole rows: x float32 [N,C,H,W] -> y float32 [N,K,P,Q], stride 1, with the
// elementwise chain in the epilogue. One persistent kernel; a second launch of it repairs what the range
// guard found.
//
// Unit of work: one output row (of a column strip of at most 256), by a cluster of two blocks; each cluster
// walks a contiguous run of rows.
//
//   tf32: 128 output channels. Block r owns output channels 64r..64r+63, whose weights for all taps stay in
//   its shared memory, and converts half of the input channels for both.
//
//   fp32: 64 output channels. Every operand is a high and a low half, and the sum of high * low, low * high
//   and high * high is as good as float32's. That doubles weights and rows, so a block has room for half of
//   the input channels, which it converts for itself alone; at the end of a part the two blocks trade half of
//   their sums. The small products come first and each sum is made in two halves, so that few are rounded
//   (the tensor cores truncate) at the size of the result.
//
// Why: DRAM is fast only when whole rows are written at one time. Blocks that write strips of rows at
// unrelated times take twice as long. Splitting the channels instead makes room for whole rows.
//
//   producer warpgroup (104 registers)                 consumer warpgroups 0, 1 and 2 (136 registers)
//   ---------------------------------                  ----------------------------------------------
//   L2 prefetch of row h+1                             wait for the turn (named barriers 1 to 3)
//   32 loads of 8 B a thread, row h                    for each filter row: wait full[slot]
//   max |x|; scale, round to half (to two)               wgmma m64n128k16, S * C/16 times (3 S * C/32)
//   wait empty[slot]; 16 B stores                      pass the turn on; wait for the wgmma
//   fence, barrier 5                                   release the rows: empty[slot], here (tf32: and in the
//   tf32: its share of the row to the peer             peer); fp32: trade sums with it, st.async
//   (cp.async.bulk)                                    scale, bias, chain; transpose through shared memory;
//   full[slot]: own arrival (+ the peer's bytes)       store whole 128-byte lines
//
//   ring    |  row h  |  row h+1  |  row h+2  |  row h+3  |   full[slot]:  1 arrival (+ half a row of bytes)
//             \_____ one output row reads R ____/  ^ filled   empty[slot]: 4 R arrivals (R rows, two parts,
//                                                           two blocks), with fp32 2 R
//   time    wg 0:  MMA p left | epilogue p left               | MMA p+1 right | ...
//           wg 1:             | MMA p right | epilogue p right                | MMA p+2 left | ...
//           wg 2:                           | MMA p+1 left | epilogue p+1 left               | ...
//
// A part of a row (128 columns) is 64 accumulators a thread, which leaves registers for the epilogue to be
// straight-line code, its windows interleaved, and for a third consumer: an epilogue takes about as long as
// two products, so three warpgroups keep the tensor cores and the stores busy.
//
// A trade (SumExchange) goes 16 sums a thread at a time, because the inbox is no more than the warp's
// staging: sums_empty says that the partner may write, sums_full that all its bytes are here.
//
// A ring row is [C/8][part][264 pixels; fp32: 260][8 channels] half, K-major without swizzle: a filter column
// is the start address plus 16 B, a filter row another slot, so one copy of the input serves all taps.
// Columns that are padding are zeroed once and never written again; rows that are padding are stored as
// zeros. Garbage in columns beyond the image only reaches outputs that are not stored.
//
// Range guard: the first row of an image waits for a maximum over a sample of it, which sets the scale of the
// image; the producers note the maximum that they see, per cluster and image (RangeSlot: no atomics, nothing
// to clear), and whether it raises an alarm. The repair launch looks at the alarms. If there is one it
// gathers the maxima, writes the ImageRange array, and redoes the images whose scale did not fit and, in
// float32, those that float16 cannot hold.
//
// The start decides what a batch of one takes. All warpgroups take part in the sample and convert the first
// rows (fill_first_rows); registers move before, and what the consumers need of the channels is loaded
// before.
//
// Shared memory for 64 channels and 3x3: weights 73,728 B | ring 135,168 | staging 13,824 | control; fp32:
// 73,728 | 133,120 | 24,576 | control. Registers: 128 at launch, then 104 and 136.
//
// Bounds, for 64 -> 128 channels, 3x3, 256x256, 64 images with double_mish. tf32: DRAM, then the latency of
// product and epilogue of a part; x read once and y written once is 1.145 ms, the tensor cores need 0.91 ms,
// special functions 0.6; measured: 1.31 to 1.33 ms. fp32: the card's power. 54 wgmma of 67 cycles a part
// would take 1.8 ms at 1.98 GHz, but under load that lasts the clock goes down to 1.4 to 1.5: products alone
// took 2.6 ms of 3.2 then (cuBLAS would need 2.7), trading sums and the epilogue 0.3 each; measured since:
// 2.77 ms for x in [0, 1), 2.8 to 3.2 for x in [-2, 2). One image, tf32: 27 us for this launch and 2 for
// the repair; the first product begins after 5.6 if x is in L2 and after 10 if it is in DRAM, then come 8
// parts a block, which by count keep special functions, shared memory and tensor cores each about three
// quarters busy.
//
// Preconditions: choose_rows_config took the shape; y and a residual are 8-byte aligned, packed weights and
// scratch 16-byte; compute capability 9.0; grid of whole clusters, all resident.

#include "ops/conv/epilogue/epilogue.cuh"
#include "ops/conv/rows/consumer.cuh"
#include "ops/conv/rows/producer.cuh"
#include "ops/ptx/sm80.cuh"
#include "ops/ptx/sm90.cuh"

namespace solder::rows {

/// Zeroes the slot columns that the producers never write.
template <class FilterShape>
__device__ void clear_padding(const Params& p, const Block& b) {
  constexpr int kPlaneBytes = FilterShape::kPlaneBytes;
  constexpr int kPadding = kPlaneBytes / 16 - kRowsTileCols;
  const int num_planes = p.num_slots * (b.slot_bytes / kPlaneBytes);
  for (int i = threadIdx.x; i < num_planes * kPadding; i += kNumThreads) {
    const int j = i % kPadding;
    const int col = j < p.slot_shift ? j : kRowsTileCols + j;
    *reinterpret_cast<uint4*>(b.smem + (b.ring - b.weights) + i / kPadding * kPlaneBytes + col * 16) =
        uint4{};
  }
}

/// Initialises the barriers, each by a thread of its own, and starts the copy of the block's weights.
template <class FilterShape>
__device__ void start_block(const Params& p, const Block& b, int weight_bytes) {
  const int thread = static_cast<int>(threadIdx.x), i = thread % 32;
  if (thread / 32 == 1) {
    if (i < p.num_slots) {
      sm90::mbarrier_init(b.full + 8 * i, 1);
      sm90::mbarrier_init(b.empty + 8 * i, 2 * p.R * FilterShape::kBlockShares);
    }
    if (i < kRowsNumConsumerWarps) {
      sm90::mbarrier_init(b.sums_full + 8 * i, 1);
      sm90::mbarrier_init(b.sums_empty + 8 * i, 1);
    }
    sm90::mbarrier_init_fence();
  }
  if (thread == 64) {
    sm90::mbarrier_init(b.weights_ready, 1);
    sm90::mbarrier_init_fence();
    const int64_t block = b.k_block * kClusterSize + static_cast<int>(b.rank);
    sm90::mbarrier_arrive_expect(b.weights_ready, weight_bytes);
    sm90::bulk_load(b.weights, reinterpret_cast<const unsigned char*>(p.weights) + block * weight_bytes,
                    weight_bytes, b.weights_ready);
  }
  clear_padding<FilterShape>(p, b);
  sm90::fence_proxy_async();
  sm90::cluster_arrive_relaxed();
}

template <class FilterShape, class Chain>
__global__ void __cluster_dims__(kClusterSize, 1, 1) __launch_bounds__(kNumThreads, 1)
    conv_rows_kernel(const __grid_constant__ Params p) {
  if (p.is_repair) {
    sm90::dependency_wait();
    if (!any_alarm(p)) return;
  }
  extern __shared__ __align__(128) unsigned char smem[];
  const RowsSmem layout = rows_smem(p.R * p.S, p.share_channels, FilterShape::kParts, p.num_slots);
  Block b;
  b.smem = smem;
  b.weights = sm80::smem_address(smem);
  b.ring = b.weights + layout.ring;
  b.stage = reinterpret_cast<float*>(smem + layout.stage);
  b.exponents = reinterpret_cast<int32_t*>(smem + layout.control);
  b.sample_maxima = reinterpret_cast<uint32_t*>(b.exponents + 2 * kRowsMaxSlots);
  b.first_maxima = b.sample_maxima + kRowsNumWarps;
  b.full = b.weights + layout.full;
  b.empty = b.weights + layout.empty;
  b.weights_ready = b.weights + layout.weights_ready;
  b.sums_full = b.weights + layout.sums_full;
  b.sums_empty = b.weights + layout.sums_empty;
  b.rank = sm90::cluster_rank();
  const int global_cluster = static_cast<int>(blockIdx.x) / kClusterSize;
  b.k_block = global_cluster / p.clusters_per_k_block;
  b.cluster = global_cluster - b.k_block * p.clusters_per_k_block;
  b.slot_bytes = p.share_channels / 4 * FilterShape::kPlaneBytes;

  if (p.is_repair) {
    const Repair repair = gather_ranges(p, FilterShape::kMath, b.cluster);
    if (repair.strict) redo_strict_images(p);
    if (!repair.rescale) return;  // all blocks of the cluster alike
  }

  start_block<FilterShape>(p, b, layout.ring - layout.weights);
  sm90::dependency_wait();  // up to here nothing depends on earlier kernels

  // NOTE: the shuffle makes the role provably uniform in a warp: addresses go to uniform registers, nothing
  // spills.
  const int role = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / kWarpgroup, 0);
  const int t = static_cast<int>(threadIdx.x) % kWarpgroup;
  const Segment segment = Walk(p, b.cluster).segment(p);
  decltype(load_channels<FilterShape>(p, b, t)) channels{};
  if (role != 0) channels = load_channels<FilterShape>(p, b, t);
  // The rows of all blocks keep the memory busy for 4 us, so the sample is asked for before them, and the
  // scale is known when they come.
  if (!p.is_repair) {
    Sample<kNumThreads> sample;
    sample.load(p, segment.image, threadIdx.x);
    const uint32_t sampled = sample.warp_maximum();
    if (threadIdx.x % 32 == 0) b.sample_maxima[threadIdx.x / 32] = sampled;
  }
  sm90::cluster_wait();
  __syncthreads();
  sm90::dependency_launch();
  // Without a meaning, and unused, in a repair.
  const int exponent = sample_exponent<kRowsNumWarps>(b.sample_maxima, FilterShape::kMath);
  if (!p.is_repair && threadIdx.x == 0) b.exponents[0] = exponent;

  FirstRows first{};
  if (role == 0) {
    // NOTE: at once, or the consumers wait for the registers: 1.5 us until this code has arrived.
    sm90::setmaxnreg_decrease<kProducerRegisters>();
    if (!p.is_repair) first = fill_first_rows<FilterShape>(p, b, segment, exponent, role, t);
    produce<FilterShape>(p, b, segment, first, t);
  } else {
    if (!p.is_repair) {
      first = fill_first_rows<FilterShape>(p, b, segment, exponent, role, t);
      give_first_maxima(b, first);
    }
    sm90::setmaxnreg_increase<kConsumerRegisters>();
    consume<FilterShape, Chain>(p, b, segment, channels, role - 1, t);
  }
  // No block leaves while another may still signal it or copy into it.
  sm90::cluster_arrive_relaxed();
  sm90::cluster_wait();
}

/// The instances. Filters that are not known are rare, and one chain serves them all.
template <class FilterShape>
Kernel select_kernel(ConvChain chain) {
  constexpr bool kFast = FilterShape::kMath == Math::tf32;
  if constexpr (FilterShape::kIsKnown) {
    switch (chain) {
      case ConvChain::bias: return conv_rows_kernel<FilterShape, EpilogueChain<ConvChain::bias, kFast>>;
      case ConvChain::relu: return conv_rows_kernel<FilterShape, EpilogueChain<ConvChain::relu, kFast>>;
      case ConvChain::leaky_relu:
        return conv_rows_kernel<FilterShape, EpilogueChain<ConvChain::leaky_relu, kFast>>;
      case ConvChain::silu: return conv_rows_kernel<FilterShape, EpilogueChain<ConvChain::silu, kFast>>;
      case ConvChain::mish: return conv_rows_kernel<FilterShape, EpilogueChain<ConvChain::mish, kFast>>;
      case ConvChain::double_mish:
        return conv_rows_kernel<FilterShape, EpilogueChain<ConvChain::double_mish, kFast>>;
      case ConvChain::any: break;
    }
  }
  return conv_rows_kernel<FilterShape, EpilogueChain<ConvChain::any, kFast>>;
}

}  // namespace solder::rows
