// One kernel for every elementwise program: it interprets the steps, each on kElems values a thread, so that
// the (warp-uniform) switch over ops is paid once for kElems elements.
//
// Index space: the outputs' dense elements, in tiles of kThreads * kElems; a thread holds kElems / kVec
// vectors of kVec neighbours, kThreads vectors apart (coalesced, all loads of an operand in flight together).
// Operands are read dense (vector loads), as one scalar, by channel (one value a row of the innermost axis,
// the bias of a convolution; its place is worked out once a vector for all such operands, with
// multiplications for divisions), or strided (any other broadcast; divisions for every element). Slots live
// in shared memory, one column a thread: no barrier needed. Shared memory: num_slots * 8 KiB. Bound: memory,
// as long as the chain stays under about 77 issue slots an element (H100, float32). Preconditions: 32-bit
// Index (and access by channel) needs fewer than 2^31 elements, kVec 4 vectors aligned to their size.

#include <algorithm>
#include <initializer_list>
#include <limits>
#include <utility>

#include "ops/elementwise_apply.h"
#include "ops/elementwise_io.cuh"
#include "ops/mish.h"
#include "runtime/launch.cuh"

namespace solder {
namespace {

using namespace elementwise;

// The chains that networks are made of, compiled ahead of time: the same steps, with every branch on them
// folded away. Interpreted, bias + double_mish took 1.40 times a device copy of its bytes.
constexpr Program program_of(std::initializer_list<Step> steps) {
  Program program{.num_operands = 1};
  for (const Step& step : steps) {
    program.steps[static_cast<size_t>(program.num_steps++)] = step;
    if (step.source == Source::operand && step.index >= program.num_operands)
      program.num_operands = step.index + 1;
  }
  program.steps[static_cast<size_t>(program.num_steps++)] = {.op = Op::store_output};
  return program;
}
constexpr Step with_operand(Op op, uint8_t index) {
  return {.op = op, .source = Source::operand, .index = index};
}
constexpr std::array kAheadOfTime = {
    program_of({with_operand(Op::add, 1)}),
    program_of({with_operand(Op::add, 1), {.op = Op::relu}}),
    program_of({with_operand(Op::add, 1), {.op = Op::silu}}),
    program_of({with_operand(Op::add, 1), {.op = Op::mish}}),
    program_of({with_operand(Op::add, 1), {.op = Op::double_mish}}),
    program_of({with_operand(Op::mul, 1), with_operand(Op::add, 2), {.op = Op::relu}}),
    program_of({with_operand(Op::mul, 1), with_operand(Op::add, 2), {.op = Op::mish}}),
};
constexpr int kInterpreted = -1;

// The thread's values while a program runs.
template <int kVec, class Index>
struct ThreadState {
  const KernelParams& p;
  float* slots;  // shared memory, [num_slots][kElems][kThreads]
  Index first;   // element index of values[0]
  RowPlace places[kElems / kVec];
  float acc[kElems];
  float source[kElems];
};

template <int kVec, class Index>
__device__ __forceinline__ void run_step(const Step& step, ThreadState<kVec, Index>& t) {
  float* slot = t.slots + (step.index * kElems * kThreads + threadIdx.x);
  switch (step.source) {
    case Source::none: break;
    case Source::immediate:
#pragma unroll
      for (int i = 0; i < kElems; ++i) t.source[i] = step.p;
      break;
    case Source::operand: load_operand<kVec>(t.p, step.index, t.first, t.places, t.source); break;
    case Source::slot:
#pragma unroll
      for (int i = 0; i < kElems; ++i) t.source[i] = slot[i * kThreads];
      break;
  }
  if (step.op == Op::load) {
#pragma unroll
    for (int i = 0; i < kElems; ++i) t.acc[i] = t.source[i];
  } else if (step.op == Op::store_slot) {
#pragma unroll
    for (int i = 0; i < kElems; ++i) slot[i * kThreads] = t.acc[i];
  } else if (step.op == Op::store_output) {
    store_output<kVec>(t.p, step.index, t.first, t.acc);
  } else if (is_unary(step.op)) {
    apply_unary(step.op, step.p, step.q, t.acc);
  } else {
    apply_binary(step.op, step.swapped, t.acc, t.source);
  }
}

template <int kVec, class Index, int kProgram>
__global__ void __launch_bounds__(kThreads) elementwise_kernel(const __grid_constant__ KernelParams p) {
  extern __shared__ float slots[];
  const Index first = static_cast<Index>(blockIdx.x) * (kThreads * kElems) + threadIdx.x * kVec;
  ThreadState<kVec, Index> t{p, slots, first, {}, {}, {}};
  if (sizeof(Index) == 4 && p.has_channels) {
#pragma unroll
    for (int v = 0; v < kElems / kVec; ++v)
      t.places[v] = find_row(p, static_cast<uint32_t>(first) + static_cast<uint32_t>(v * kThreads * kVec));
  }
  load_operand<kVec>(p, 0, first, t.places, t.acc);
  if constexpr (kProgram == kInterpreted) {
    for (int s = 0; s < p.program.num_steps; ++s) run_step(p.program.steps[s], t);
  } else {
    constexpr Program program = kAheadOfTime[kProgram];
    [&]<size_t... s>(std::index_sequence<s...>) { (run_step(Step(program.steps[s]), t), ...); }
    (std::make_index_sequence<program.num_steps>());
  }
}

using Kernel = void (*)(KernelParams);

template <size_t... i>
constexpr std::array<Kernel, sizeof...(i)> ahead_of_time_kernels(std::index_sequence<i...>) {
  return {elementwise_kernel<4, uint32_t, static_cast<int>(i)>...};
}

Kernel choose_kernel(const Program& program, bool narrow, bool aligned) {
  constexpr auto kKernels = ahead_of_time_kernels(std::make_index_sequence<kAheadOfTime.size()>());
  for (size_t i = 0; narrow && i < kAheadOfTime.size(); ++i)
    if (program == kAheadOfTime[i]) return kKernels[i];
  return narrow    ? elementwise_kernel<4, uint32_t, kInterpreted>
         : aligned ? elementwise_kernel<4, uint64_t, kInterpreted>
                   : elementwise_kernel<1, uint64_t, kInterpreted>;
}

// How the kernel reads an operand, from its strides over the index space.
Access access_of(const ElementwiseArgs& args, const Operand& operand) {
  bool scalar = true, dense = true, channel = args.rank >= 2 && args.dims[args.rank - 1] >= 4;
  int64_t stride = 1;
  for (int d = args.rank - 1; d >= 0; --d) {
    scalar = scalar && operand.strides[d] == 0;
    dense = dense && operand.strides[d] == stride;
    channel = channel && (operand.strides[d] == 0 || d == args.rank - 2);
    stride *= args.dims[d];
  }
  return dense ? Access::dense : scalar ? Access::scalar : channel ? Access::channel : Access::strided;
}

// True when the program is just `op` from one dense float32 array to another.
bool is_single(const Program& program, const KernelParams& params, Op op) {
  return program.num_steps == 2 && program.steps[0].op == op && program.steps[1].op == Op::store_output &&
         params.access[0] == Access::dense && params.args.operands[0].dtype == DType::float32 &&
         params.args.outputs[0].dtype == DType::float32;
}

}  // namespace

void elementwise_cuda(const Context& context, const Program& program, const ElementwiseArgs& args) {
  if (args.num_elems == 0) return;
  const auto is_aligned = [](const Operand& operand) {
    return reinterpret_cast<uintptr_t>(operand.data) % (4 * static_cast<size_t>(size_of(operand.dtype))) == 0;
  };
  bool aligned = true;
  KernelParams params{.program = program, .args = args};
  for (int i = 0; i < args.num_operands; ++i) {
    params.access[i] = access_of(args, args.operands[i]);
    aligned = aligned && (params.access[i] != Access::dense || is_aligned(args.operands[i]));
  }
  for (int i = 0; i < args.num_outputs; ++i) aligned = aligned && is_aligned(args.outputs[i]);

  const bool narrow = aligned && args.num_elems <= std::numeric_limits<int32_t>::max() - kThreads * kElems;
  for (int i = 0; i < args.num_operands; ++i) {
    if (params.access[i] != Access::channel) continue;
    if (narrow) {
      params.has_channels = true;
    } else {
      params.access[i] = Access::strided;
    }
  }
  if (params.has_channels) {
    params.row_length = static_cast<uint32_t>(args.dims[args.rank - 1]);
    params.num_channels = static_cast<uint32_t>(args.dims[args.rank - 2]);
    params.by_row_length = FastDivisor(params.row_length);
    params.by_num_channels = FastDivisor(params.num_channels);
  }

  const auto* x = static_cast<const float*>(args.operands[0].data);
  auto* y = static_cast<float*>(args.outputs[0].data);
  if (is_single(program, params, Op::mish)) return mish_cuda(context, x, y, args.num_elems);
  if (is_single(program, params, Op::double_mish)) return double_mish_cuda(context, x, y, args.num_elems);

  const int64_t num_tiles = (args.num_elems + kThreads * kElems - 1) / (kThreads * kElems);
  SOLDER_REQUIRE(num_tiles <= std::numeric_limits<int32_t>::max(), unsupported, args.num_elems,
                 " elements are more than one elementwise launch takes");
  const LaunchConfig config{static_cast<unsigned>(num_tiles), kThreads,
                            int64_t{program.num_slots} * kElems * kThreads * int64_t{sizeof(float)}};
  launch(context, "elementwise_kernel", choose_kernel(program, narrow, aligned), config, params);
}

}  // namespace solder
