// The fused convolution of whole rows: x float32 [N,C,H,W] -> y float32 [N,K,P,Q], stride 1, with the
// elementwise chain in the epilogue. One persistent kernel; a second launch of it repairs what the range
// guard found.
//
// Unit of work: one output row (of a column strip of at most 256) for 128 output channels, by a cluster of
// two blocks; each cluster walks a contiguous run of rows. Block r of a cluster owns output channels
// 64r..64r+63, whose weights for all taps stay in its shared memory, and converts half of the input channels
// for both.
//   Why: DRAM is fast only when whole rows are written at one time. Blocks that write strips of rows at
//   unrelated times take twice as long. Splitting the channels instead makes room for whole rows.
//
//   producer warpgroup (104 registers)                 consumer warpgroups 0, 1 and 2 (136 registers)
//   ---------------------------------                  ----------------------------------------------
//   L2 prefetch of row h+1                             wait for the turn (named barriers 1 to 3)
//   32 loads of 8 B a thread, row h                    for each filter row: wait full[slot]
//   max |x|; scale, round to half                        wgmma m64n128k16, S * C/16 times
//   wait empty[slot]; 16 B stores                      pass the turn on; wait for the wgmma
//   fence, barrier 4                                   release the rows: empty[slot], here and in the peer
//   half row to the peer (cp.async.bulk)               scale, bias, chain; transpose through shared memory;
//   full[slot]: own arrival + the peer's bytes         store whole 128-byte lines
//
//   ring    |  row h  |  row h+1  |  row h+2  |  row h+3  |   full[slot]:  1 arrival + half a row of bytes
//             \_____ one output row reads R ____/  ^ filled   empty[slot]: 4 R arrivals (R rows, two parts,
//                                                           two blocks)
//   time    wg 0:  MMA p left | epilogue p left               | MMA p+1 right | ...
//           wg 1:             | MMA p right | epilogue p right                | MMA p+2 left | ...
//           wg 2:                           | MMA p+1 left | epilogue p+1 left               | ...
//
// A part of a row (128 columns) is 64 accumulators a thread, which leaves registers for the epilogue to be
// straight-line code, its windows interleaved, and for a third consumer: an epilogue takes about as long as
// two products, so three warpgroups keep the tensor cores and the stores busy. On the headline model two
// consumers took 5 percent more, whole rows by turns (128 accumulators, m64n256) 8, and multiplying the next
// part during the epilogue of this one (both in registers: spills) 10 to 38.
//
// A ring row is [C/8][264 pixels][8 channels] half, K-major without swizzle: a filter column is the start
// address plus 16 B, a filter row another slot, so one copy of the input serves all taps. Columns that are
// padding are zeroed once and never written again; rows that are padding are stored as zeros. Garbage in
// columns beyond the image only reaches outputs that are not stored.
//
// Range guard: the first rows of an image wait for a maximum over a sample of it, which sets the scale of the
// image; the producers note the maximum that they see, per cluster and image (RangeSlot: no atomics, nothing
// to clear). The repair launch gathers these, writes the ImageRange array, and redoes the images whose scale
// did not fit.
//
// Shared memory: weights R S C * 128 B | ring | 13,824 B staging | 224 B control: 222,944 B for 64 channels
// and 3x3. Registers: 128 at launch, then 104 and 136. Spills: none in bias, relu, leaky_relu, silu and mish,
// 4 B in double_mish; the interpreter's 1.4 KB do not matter, as the graph gives it nothing
// (ops/conv_select.cpp). Bound: DRAM, then the latency of product and epilogue of a part. 64 -> 128 channels,
// 3x3, 256x256, 64 images: x read once and y written once is 1.15 ms, the tensor cores need 0.91 ms, special
// functions 0.6; measured with double_mish: 1.32 to 1.33 ms. Preconditions: choose_rows_config took the
// shape; compute capability 9.0; grid of whole clusters, all resident.

#include "ops/conv_rows.cuh"
#include "ops/conv_rows_consumer.cuh"
#include "runtime/launch.cuh"

namespace solder {
namespace {

using namespace rows;

/// Zeroes the slot columns that the producers never write.
__device__ void clear_padding(const RowsParams& p, const Block& b) {
  const int num_planes = p.num_slots * (p.half_channels / 4);
  constexpr int kPadding = kRowsSlotCols - kRowsTileCols;
  for (int i = threadIdx.x; i < num_planes * kPadding; i += kNumThreads) {
    const int j = i % kPadding;
    const int col = j < p.slot_shift ? j : kRowsTileCols + j;
    *reinterpret_cast<uint4*>(b.smem + (b.ring - b.weights) + i / kPadding * kPlaneBytes + col * 16) =
        uint4{};
  }
}

template <class FilterShape, class Chain, bool kPaired>
__global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(kNumThreads, 1)
    conv_rows_kernel(const __grid_constant__ RowsParams p) {
  extern __shared__ __align__(128) unsigned char smem[];
  const RowsSmem layout = rows_smem(p.R * p.S, p.half_channels, p.num_slots);
  Block b;
  b.smem = smem;
  b.weights = sm90::smem_address(smem);
  b.ring = b.weights + layout.ring;
  b.stage = reinterpret_cast<float*>(smem + layout.stage);
  b.slot_exponents = reinterpret_cast<int32_t*>(smem + layout.control);
  b.full = b.weights + layout.control + 2 * kRowsMaxSlots * 4 + 16;
  b.empty = b.full + kRowsMaxSlots * 8;
  b.weights_ready = b.empty + kRowsMaxSlots * 8;
  b.rank = sm90::cluster_rank();
  const int global_cluster = static_cast<int>(blockIdx.x >> 1);
  b.k_block = global_cluster / p.clusters_per_k_block;
  b.cluster = global_cluster - b.k_block * p.clusters_per_k_block;
  b.slot_bytes = p.half_channels / 4 * kPlaneBytes;

  if (p.repair) sm90::dependency_wait();
  // Both blocks of a cluster read the same ranges, so both leave or both stay.
  if (p.repair && !gather_ranges(p, b.cluster)) return;

  if (threadIdx.x == 0) {
    for (int i = 0; i < p.num_slots; ++i) {
      sm90::mbarrier_init(b.full + 8 * i, 1);
      sm90::mbarrier_init(b.empty + 8 * i, 4 * p.R);
    }
    sm90::mbarrier_init(b.weights_ready, 1);
    sm90::mbarrier_init_fence();
    const int num_bytes = layout.ring - layout.weights;
    const auto* weights = reinterpret_cast<const unsigned char*>(p.weights);
    sm90::mbarrier_arrive_expect(b.weights_ready, num_bytes);
    sm90::bulk_load(b.weights, weights + (b.k_block * 2 + b.rank) * static_cast<int64_t>(num_bytes),
                    num_bytes, b.weights_ready);
  }
  clear_padding(p, b);
  sm90::fence_proxy_async();
  sm90::cluster_arrive();
  sm90::dependency_wait();  // up to here nothing depends on earlier kernels
  sm90::cluster_wait();
  sm90::dependency_launch();

  // NOTE: the shuffle makes the role provably uniform in a warp: addresses go to uniform registers, nothing
  // spills.
  const int role = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / kWarpgroup, 0);
  const int t = static_cast<int>(threadIdx.x) % kWarpgroup;
  if (role == 0) {
    sm90::setmaxnreg_decrease<kProducerRegisters>();
    produce(p, b, t);
  } else {
    sm90::setmaxnreg_increase<kConsumerRegisters>();
    consume<FilterShape, Chain, kPaired>(p, b, role - 1, t);
  }
  // No block leaves while its peer may still signal it or copy into it.
  sm90::cluster_arrive();
  sm90::cluster_wait();
}

using RowsKernel = void (*)(RowsParams);

template <class FilterShape, ConvChain kChain, bool kPaired = true>
constexpr RowsKernel kInstance = conv_rows_kernel<FilterShape, EpilogueChain<kChain, true>, kPaired>;

/// The instances: ahead-of-time chains where pairs of outputs are 8-byte aligned, and the interpreter.
template <class FilterShape>
RowsKernel select_chain(ConvChain chain, bool paired) {
  if (!paired) return kInstance<FilterShape, ConvChain::interpreted, false>;
  switch (chain) {
    case ConvChain::bias: return kInstance<FilterShape, ConvChain::bias>;
    case ConvChain::relu: return kInstance<FilterShape, ConvChain::relu>;
    case ConvChain::leaky_relu: return kInstance<FilterShape, ConvChain::leaky_relu>;
    case ConvChain::silu: return kInstance<FilterShape, ConvChain::silu>;
    case ConvChain::mish: return kInstance<FilterShape, ConvChain::mish>;
    case ConvChain::double_mish: return kInstance<FilterShape, ConvChain::double_mish>;
    case ConvChain::residual: return kInstance<FilterShape, ConvChain::residual>;
    case ConvChain::interpreted: break;
  }
  return kInstance<FilterShape, ConvChain::interpreted>;
}

RowsKernel select_kernel(const RowsParams& p, bool paired) {
  const ConvChain chain = p.epilogue.chain;
  if (p.R == 3 && p.S == 3 && p.half_channels == 32) return select_chain<Filter<3, 3, 4>>(chain, paired);
  return select_chain<Filter<0, 0, 0>>(chain, paired);
}

bool is_aligned(const void* pointer, uintptr_t num_bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % num_bytes == 0;
}

int64_t num_slots_bytes(const ConvShape& shape, const RowsConfig& config) {
  return (config.clusters_per_k_block + shape.N * config.num_strips) *
         static_cast<int64_t>(sizeof(RangeSlot));
}

}  // namespace

int64_t rows_scratch_bytes(const ConvShape& shape, const RowsConfig& config) {
  return num_slots_bytes(shape, config) + conv_range_bytes(shape.N);
}

const ImageRange* rows_ranges(const ConvShape& shape, const RowsConfig& config, const void* scratch) {
  return reinterpret_cast<const ImageRange*>(static_cast<const unsigned char*>(scratch) +
                                             num_slots_bytes(shape, config));
}

void conv_rows(const Context& context, const ConvShape& shape, const RowsConfig& config, const float* x,
               const void* packed, const ConvEpilogue& epilogue, float* y, void* scratch) {
  RowsParams p{};
  p.x = x;
  p.weights = static_cast<const uint4*>(packed);
  const int64_t num_weights =
      int64_t{config.num_k_blocks} * 2 * kRowsBlockChannels * shape.R * shape.S * config.half_channels * 2;
  p.weight_exponents = reinterpret_cast<const int32_t*>(static_cast<const uint16_t*>(packed) + num_weights);
  p.y = y;
  p.slots = static_cast<RangeSlot*>(scratch);
  p.ranges = const_cast<ImageRange*>(rows_ranges(shape, config, scratch));
  p.x_plane = shape.H * shape.W;
  p.x_image = shape.C * p.x_plane;
  p.y_plane = shape.P() * shape.Q();
  p.y_image = shape.K * p.y_plane;
  p.C = static_cast<int>(shape.C), p.H = static_cast<int>(shape.H), p.W = static_cast<int>(shape.W);
  p.K = static_cast<int>(shape.K), p.P = static_cast<int>(shape.P()), p.Q = static_cast<int>(shape.Q());
  p.R = static_cast<int>(shape.R), p.S = static_cast<int>(shape.S);
  p.dil_h = static_cast<int>(shape.dil_h), p.dil_w = static_cast<int>(shape.dil_w);
  p.pad_top = static_cast<int>(shape.pad_top), p.pad_left = static_cast<int>(shape.pad_left);
  p.num_strips = config.num_strips, p.strip_cols = config.strip_cols;
  p.num_units = static_cast<int>(shape.N * config.num_strips * shape.P());
  p.clusters_per_k_block = config.clusters_per_k_block;
  p.half_channels = config.half_channels, p.num_slots = config.num_slots;
  // A lone strip keeps its padding in columns that are never written; several differ and store zeros.
  p.slot_shift = config.num_strips == 1 ? p.pad_left : 0;
  p.paired_loads = is_aligned(x, 8) && shape.W % 2 == 0 && (p.pad_left - p.slot_shift) % 2 == 0;
  p.bulk_prefetch = is_aligned(x, 16) && shape.W % 4 == 0;
  p.epilogue = epilogue;

  bool paired = is_aligned(y, 8) && shape.Q() % 2 == 0;
  for (int i = 1; i < epilogue.program.num_operands; ++i) {
    if (epilogue.access[i] == EpilogueAccess::full) paired = paired && is_aligned(epilogue.operands[i], 8);
  }
  // An unpaired launch interprets the program, so the bias must not be added ahead of it: see epilogue_bias.
  const RowsKernel kernel = select_kernel(p, paired);
  const LaunchConfig launch_config{.grid = dim3(config.num_blocks()),
                                   .block = dim3(kNumThreads),
                                   .smem_bytes = config.smem_bytes,
                                   .overlaps_previous = true};
  launch(context, "conv_rows_kernel", kernel, launch_config, p);
  p.repair = true;
  launch(context, "conv_rows_kernel (repair)", kernel, launch_config, p);
}

}  // namespace solder
