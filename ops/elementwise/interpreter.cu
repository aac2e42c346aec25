// Elementwise programs on a GPU. A program that was given a kernel of its own runs as that; this kernel
// interprets all others: the steps one after the other, each on kElems values a thread, so that the
// (warp-uniform) switch over ops is paid once for kElems elements.
//
// Index space: the outputs' elements in row-major order, in tiles of kThreads * kElems; a thread holds kElems / kVec
// vectors of kVec neighbours, kThreads vectors apart (coalesced, all loads of an operand in flight together).
// Operands are read
//   dense     by vectors
//   scalar    as one value
//   channel   one value a row of the innermost axis, the bias of a convolution; its place is worked out once
//             a vector for all such operands
//   strided   any other; its place for every element
// with multiplications for divisions. Outputs are dense and stored by vectors; or, in instances of the kernel for
// programs with one that is not, by their strides, where rows are whole vectors by vectors too. Slots live in shared memory, one column a thread: no barrier needed.
// Shared memory: num_slots * 8 KiB. Bound: issue slots, about 20 a step and element.
// Preconditions: 32-bit Index needs fewer than 2^31 elements, kVec 4 arrays aligned to 16 bytes.

#include "ops/elementwise/generated.h"
#include "ops/elementwise/io.cuh"
#include "ops/elementwise/mish.h"
#include "ops/elementwise/pass.h"
#include "ops/elementwise/table.h"
#include "runtime/divide.h"
#include "runtime/launch.cuh"

namespace solder {
namespace {

using namespace elementwise;

template <int kVec, class Index>
__device__ void load_operand(const KernelParams& p, int i, Index first,
                             const RowPlace<Index> (&places)[kElems / kVec], float (&values)[kElems]) {
  const Index num_elems = static_cast<Index>(p.args.num_elems);
  const Operand& operand = p.args.operands[i];
  const DType dtype = operand.dtype;
  if (p.access[i] != Access::dense) {
    load_spread<kVec>(p, i, p.access[i], dtype, p.args.rank, first, places, values);
  } else if (dtype == DType::float32) {
    Words<4> words;
    load_words<kVec, 4>(operand.data, first, num_elems, words);
    unpack(dtype, words, values);
  } else {
    Words<2> words;
    load_words<kVec, 2>(operand.data, first, num_elems, words);
    unpack(dtype, words, values);
  }
}

template <int kVec, class Index, bool kDense>
__global__ void __launch_bounds__(kThreads)
    elementwise_kernel(const __grid_constant__ KernelParams p, const __grid_constant__ Program program) {
  extern __shared__ float slots[];  // [num_slots][kElems][kThreads]
  const Index first = first_elem<kVec, Index>();
  RowPlace<Index> places[kElems / kVec] = {};
  if (p.has_channels) find_rows<kVec>(p, p.args.rank, first, places);
  float acc[kElems], source[kElems];
  load_operand<kVec>(p, 0, first, places, acc);
  for (int s = 0; s < program.num_steps; ++s) {
    const Step step = program.steps[s];
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
      const Operand& output = p.args.outputs[step.index];
      if constexpr (kDense)
        store_output<kVec>(output.data, output.dtype, first, static_cast<Index>(p.args.num_elems), acc);
      else
        store_spread<kVec>(p, step.index, output.dtype, p.args.rank, p.by_vectors, first, acc);
    } else if (is_unary(step.op)) {
      apply_unary(step.op, step.p, step.q, acc);
    } else {
      apply_binary(step.op, step.swapped, acc, source);
    }
  }
}

KernelParams params_of(const ElementwiseArgs& args) {
  KernelParams params{.args = args};
  for (int d = 0; d < args.rank && fits_32_bits(args.num_elems); ++d)
    params.by_dim[d] = FastDivisor(static_cast<uint32_t>(args.dims[d]));
  for (int i = 0; i < args.num_operands; ++i) {
    params.access[i] = access_of(args, args.operands[i]);
    params.has_channels = params.has_channels || params.access[i] == Access::channel;
  }
  params.by_vectors = stores_by_vectors(args, 4);
  return params;
}

template <bool kDense>
auto kernel_for(bool by_vectors_of_four) {
  return by_vectors_of_four ? elementwise_kernel<4, uint32_t, kDense>
                            : elementwise_kernel<1, uint64_t, kDense>;
}

}  // namespace

Launch bind_elementwise_cuda(const Context& context, ElementwisePath path, const Program& program,
                             const ElementwiseArgs& args, std::shared_ptr<const ElementwiseKernel> kernel,
                             const void* constants) {
  if (args.num_elems == 0) return [] {};
  const KernelParams params = params_of(args);
  const auto is_aligned = [](const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; };
  bool aligned = true;
  for (int i = 0; i < args.num_operands; ++i)
    aligned = aligned && (params.access[i] != Access::dense || is_aligned(args.operands[i].data));
  const bool dense = stores_dense(args);
  for (int i = 0; i < args.num_outputs; ++i)
    aligned = aligned && ((!dense && !params.by_vectors) || is_aligned(args.outputs[i].data));

  const void* x = args.operands[0].data;
  void* y = args.outputs[0].data;
  if (aligned && path == ElementwisePath::hand_written)
    return [&context, run = program.steps[0].op == Op::mish ? mish_cuda : double_mish_cuda, x, y,
            n = args.num_elems] { run(context, static_cast<const float*>(x), static_cast<float*>(y), n); };
  if (aligned && path == ElementwisePath::table)
    return [&context, table = static_cast<const uint16_t*>(constants), x, y, n = args.num_elems] {
      lookup_cuda(context, table, static_cast<const uint16_t*>(x), static_cast<uint16_t*>(y), n);
    };

  LaunchConfig config{grid_for(args.num_elems, kThreads * kElems), kThreads};
  if (aligned && kernel != nullptr)
    return [&context, kernel, config, params] {
      launch(context, ElementwiseKernel::kName, kernel->function(), config, params);
    };
  config.smem_bytes = int64_t{program.num_slots} * kElems * kThreads * int64_t{sizeof(float)};
  const bool by_four = aligned && fits_32_bits(args.num_elems);
  const auto function = dense ? kernel_for<true>(by_four) : kernel_for<false>(by_four);
  return [&context, function, config, params, program] {
    launch(context, "elementwise_kernel", function, config, params, program);
  };
}

}  // namespace solder
