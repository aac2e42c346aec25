// Elementwise programs on a GPU. A program that was given a kernel of its own runs as that; this kernel
// interprets all others: the steps one after the other, each on kElems values a thread, so that the
// (warp-uniform) switch over ops is paid once for kElems elements.
//
// Index space: the outputs' elements, the axis innermost along which the first output's neighbours lie, in tiles of
// kThreads * kElems; a thread holds kElems / kVec vectors of kVec neighbours, kThreads vectors apart (coalesced, all
// loads of an operand in flight together). Where all outputs are dense, operands are read
//   dense     by vectors
//   scalar    as one value
//   channel   one value a row of the innermost axis, the bias of a convolution; its place is worked out once
//             a vector for all such operands
// and where a tensor is none of these by rows: vectors end with a row, which is rounded up to them, and have a place of
// their own in each tensor, worked out with multiplications for divisions; an operand whose neighbours lie along the
// next axis makes the tile a patch of both (see Walk). Both walks are in one kernel, as what takes long to compile is
// the formulas. Slots live in shared memory, one column a thread: no barrier needed.
// Shared memory: num_slots * 8 KiB. Bound: issue slots, about 20 a step and element.
// Preconditions: 32-bit Index needs fewer than 2^31 elements, what is moved by vectors of kVec starts on multiples of
// their size.

#include "ops/elementwise/generated.h"
#include "ops/elementwise/mish.h"
#include "ops/elementwise/pass.h"
#include "ops/elementwise/rows.cuh"
#include "ops/elementwise/table.h"
#include "ops/elementwise/walk.h"
#include "ops/ptx/follow.cuh"
#include "runtime/launch.cuh"

namespace solder {
namespace {

using namespace elementwise;

// Where a thread's vectors lie: of the two walks, that of the launch (p.by_rows) is there.
template <int kVec, class Index>
struct Places {
  RowPlace<Index> dense[kElems / kVec];
  VectorPlace<Index> by_rows[kElems / kVec];
};

template <int kVec, int kSize, class Index>
__device__ void load_any(const KernelParams& p, int i, Index first, const Places<kVec, Index>& places,
                         float (&values)[kElems]) {
  const Operand& operand = p.args.operands[i];
  Words<kSize> words;
  if (p.by_rows)
    load_rows<kVec, kSize>(p, i, p.access[i], p.args.rank, places.by_rows, words);
  else if (p.access[i] == Access::dense)
    load_words<kVec, kSize>(operand.data, first, static_cast<Index>(p.args.num_elems), words);
  else
    return load_repeated<kVec>(p, i, p.access[i], operand.dtype, p.args.rank, places.dense, values);
  unpack(operand.dtype, words, values);
}

template <int kVec, class Index>
__device__ void load_operand(const KernelParams& p, int i, Index first, const Places<kVec, Index>& places,
                             float (&values)[kElems]) {
  if (p.args.operands[i].dtype == DType::float32)
    load_any<kVec, 4>(p, i, first, places, values);
  else
    load_any<kVec, 2>(p, i, first, places, values);
}

template <int kVec, int kSize, class Index>
__device__ void store_any(const KernelParams& p, int i, Index first, const Places<kVec, Index>& places,
                          const float (&values)[kElems]) {
  const Operand& output = p.args.outputs[i];
  if (p.by_rows)
    store_rows<kVec, kSize>(p, i, output.dtype, p.args.rank, places.by_rows, values);
  else
    store_output<kVec, kSize>(output.data, output.dtype, first, static_cast<Index>(p.args.num_elems), values);
}

template <int kVec, class Index>
__global__ void __launch_bounds__(kThreads, kVec > 1 ? 4 : 2)
    elementwise_kernel(const __grid_constant__ KernelParams p, const __grid_constant__ Program program) {
  extern __shared__ float slots[];  // [num_slots][kElems][kThreads]
  follow_previous();
  const Index first = first_elem<kVec, Index>();
  Places<kVec, Index> places;
  if (p.by_rows)
    find_places<kVec>(p, p.args.rank, first, places.by_rows);
  else if (p.has_channels)
    find_places<kVec>(p, p.args.rank, first, places.dense);
  float acc[kElems], source[kElems];
  // Operand 0 is loaded by a step before the first: another place that loads would be as much code again.
  for (int s = -1; s < program.num_steps; ++s) {
    const Step step = s < 0 ? Step{.op = Op::load, .source = Source::operand} : program.steps[s];
    float* const slot = slots + (step.index * kElems * kThreads + threadIdx.x);
    switch (step.source) {
      case Source::none: break;
      case Source::immediate: fill(step.p, source); break;
      case Source::operand: load_operand<kVec>(p, step.index, first, places, source); break;
      case Source::slot:
#pragma unroll
        for (int i = 0; i < kElems; ++i) source[i] = slot[i * kThreads];
        break;
    }
    if (step.op == Op::load) {
      copy(source, acc);
    } else if (step.op == Op::store_slot) {
#pragma unroll
      for (int i = 0; i < kElems; ++i) slot[i * kThreads] = acc[i];
    } else if (step.op == Op::store_output) {
      if (p.args.outputs[step.index].dtype == DType::float32)
        store_any<kVec, 4>(p, step.index, first, places, acc);
      else
        store_any<kVec, 2>(p, step.index, first, places, acc);
    } else if (is_unary(step.op)) {
      apply_unary(step.op, step.p, step.q, acc);
    } else {
      apply_binary(step.op, step.swapped, acc, source);
    }
  }
}

auto kernel_for(int length, bool is_short) {
  return !is_short     ? elementwise_kernel<1, uint64_t>
         : length == 8 ? elementwise_kernel<8, uint32_t>
         : length == 4 ? elementwise_kernel<4, uint32_t>
                       : elementwise_kernel<1, uint32_t>;
}

// Whether all that is read and written by vectors starts on multiples of them.
bool is_aligned(const KernelParams& params, int length) {
  const ElementwiseArgs& args = params.args;
  const auto starts_well = [&](const Operand& tensor) {
    return reinterpret_cast<uintptr_t>(tensor.data) %
               static_cast<uintptr_t>(length * size_of(tensor.dtype)) ==
           0;
  };
  bool aligned = true;
  for (int i = 0; i < args.num_operands; ++i)
    aligned = aligned && ((params.access[i] != Access::dense && params.access[i] != Access::vectors) ||
                          starts_well(args.operands[i]));
  for (int i = 0; i < args.num_outputs; ++i) aligned = aligned && starts_well(args.outputs[i]);
  return aligned;
}

}  // namespace

Launch bind_elementwise_cuda(const Context& context, ElementwisePath path, const Program& program,
                             const ElementwiseArgs& args, std::shared_ptr<const ElementwiseKernel> kernel,
                             const void* constants) {
  if (args.num_elems == 0) return [] {};
  Walk walk = walk_of(args);
  KernelParams params = params_of(args, walk);
  const bool aligned = is_aligned(params, walk.length);

  const void* x = args.operands[0].data;
  void* y = args.outputs[0].data;
  if (aligned && path == ElementwisePath::hand_written)
    return [&context, run = program.steps[0].op == Op::mish ? mish_cuda : double_mish_cuda, x, y,
            n = args.num_elems] { run(context, static_cast<const float*>(x), static_cast<float*>(y), n); };
  if (aligned && path == ElementwisePath::table)
    return [&context, table = static_cast<const uint16_t*>(constants), x, y, n = args.num_elems] {
      lookup_cuda(context, table, static_cast<const uint16_t*>(x), static_cast<uint16_t*>(y), n);
    };

  const auto config_of = [](const KernelParams& p) {
    return LaunchConfig{.grid = grid_for(num_blocks(p), 1), .block = kThreads, .overlaps_previous = true};
  };
  if (aligned && kernel != nullptr)
    return [&context, kernel, config = config_of(params), params] {
      launch(context, ElementwiseKernel::kName, kernel->function(), config, params);
    };
  const bool is_short = fits_32_bits(params);
  if (!aligned || !is_short) walk = walk_of_elements(args), params = params_of(args, walk);
  LaunchConfig config = config_of(params);
  config.smem_bytes = int64_t{program.num_slots} * kElems * kThreads * int64_t{sizeof(float)};
  const auto function = kernel_for(walk.length, is_short);
  return [&context, function, config, params, program] {
    launch(context, "elementwise_kernel", function, config, params, program);
  };
}

}  // namespace solder
