#include <algorithm>
#include <type_traits>

#include "ops/elementwise/apply.h"
#include "ops/elementwise/program.h"
#include "runtime/parallel.h"

namespace solder {
namespace {

// Values worked on at a time: small enough that accumulator, source and slots stay in the first-level cache,
// large enough that the switch over ops costs nothing.
constexpr int kBlock = 256;

// Calls body(dtype) with a constant, so that a loop in it knows its type.
template <class Body>
void with_dtype(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::float32: return body(std::integral_constant<DType, DType::float32>());
    case DType::float16: return body(std::integral_constant<DType, DType::float16>());
    case DType::bfloat16: return body(std::integral_constant<DType, DType::bfloat16>());
  }
}

// values[j] = the operand's element offset + j * stride.
inline void load_run(const Operand& operand, int64_t offset, int64_t stride, int64_t count, float* values) {
  with_dtype(operand.dtype, [=, data = operand.data](auto dtype) {
    if (stride == 1) {
      for (int64_t j = 0; j < count; ++j) values[j] = load_as_float(data, dtype, offset + j);
    } else if (stride == 0) {
      std::fill_n(values, count, load_as_float(data, dtype, offset));
    } else {
      for (int64_t j = 0; j < count; ++j) values[j] = load_as_float(data, dtype, offset + j * stride);
    }
  });
}

inline void store_run(const Operand& output, int64_t offset, int64_t stride, int64_t count,
                      const float* values) {
  with_dtype(output.dtype, [=, data = output.data](auto dtype) {
    if (stride == 1) {
      for (int64_t j = 0; j < count; ++j) store_from_float(data, dtype, offset + j, values[j]);
    } else {
      for (int64_t j = 0; j < count; ++j) store_from_float(data, dtype, offset + j * stride, values[j]);
    }
  });
}

// Calls visit(i, offset, run, stride) for each stretch of elements begin + i, ... of the index space, `run` of them,
// that lies along the innermost axis: `offset` is where the tensor has its first.
template <class Visit>
void for_stretches(const ElementwiseArgs& args, const Operand& tensor, int64_t begin, int64_t count,
                   const Visit& visit) {
  std::array<int64_t, kMaxDims> coord{};
  int64_t offset = 0, rest = begin;
  for (size_t d = static_cast<size_t>(args.rank); d-- > 0;) {
    coord[d] = rest % args.dims[d];
    rest /= args.dims[d];
    offset += coord[d] * tensor.strides[d];
  }
  const size_t inner = static_cast<size_t>(args.rank) - 1;
  const int64_t stride = tensor.strides[inner];
  for (int64_t i = 0; i < count;) {
    const int64_t run = std::min(count - i, args.dims[inner] - coord[inner]);
    visit(i, offset, run, stride);
    i += run;
    coord[inner] += run;
    offset += run * stride;
    for (size_t d = inner; d > 0 && coord[d] == args.dims[d]; --d) {  // carry into the outer axes
      offset += tensor.strides[d - 1] - coord[d] * tensor.strides[d];
      coord[d] = 0;
      ++coord[d - 1];
    }
  }
}

// values[i] = element begin + i of the index space, as the operand shows it.
void load_block(const ElementwiseArgs& args, const Operand& operand, int64_t begin, int64_t count,
                float (&values)[kBlock]) {
  for_stretches(args, operand, begin, count, [&](int64_t i, int64_t offset, int64_t run, int64_t stride) {
    load_run(operand, offset, stride, run, values + i);
  });
}

void store_block(const ElementwiseArgs& args, const Operand& output, int64_t begin, int64_t count,
                 const float (&values)[kBlock]) {
  for_stretches(args, output, begin, count, [&](int64_t i, int64_t offset, int64_t run, int64_t stride) {
    store_run(output, offset, stride, run, values + i);
  });
}

// Elements [first, last) of the index space.
inline void run_blocks(const Program& program, const ElementwiseArgs& args, int64_t first, int64_t last) {
  float slots[kMaxSlots][kBlock] = {};
  float acc[kBlock] = {};  // zeros: the tail of the last block is computed too, and never stored
  float source[kBlock] = {};
  for (int64_t begin = first; begin < last; begin += kBlock) {
    const int64_t count = std::min<int64_t>(kBlock, last - begin);
    load_block(args, args.operands[0], begin, count, acc);
    for (const Step& step : program.view()) {
      switch (step.source) {
        case Source::none: break;
        case Source::immediate: std::fill(std::begin(source), std::end(source), step.p); break;
        case Source::operand: load_block(args, args.operands[step.index], begin, count, source); break;
        case Source::slot:
          std::copy(std::begin(slots[step.index]), std::end(slots[step.index]), source);
          break;
      }
      if (step.op == Op::load) {
        std::copy(std::begin(source), std::end(source), acc);
      } else if (step.op == Op::store_slot) {
        std::copy(std::begin(acc), std::end(acc), slots[step.index]);
      } else if (step.op == Op::store_output) {
        store_block(args, args.outputs[step.index], begin, count, acc);
      } else if (is_unary(step.op)) {
        apply_unary(step.op, step.p, step.q, acc);
      } else {
        apply_binary(step.op, step.swapped, acc, source);
      }
    }
  }
}

// The same once for each level, all that it calls compiled into it. No rounding differs between them: the
// formulas name their fused multiply-adds, and nothing else is contracted.
#if defined(__x86_64__)
[[gnu::target("avx512f,avx2,fma"), gnu::flatten]] void run_avx512(const Program& program,
                                                                  const ElementwiseArgs& args, int64_t first,
                                                                  int64_t last) {
  run_blocks(program, args, first, last);
}
[[gnu::target("avx2,fma"), gnu::flatten]] void run_avx2(const Program& program, const ElementwiseArgs& args,
                                                        int64_t first, int64_t last) {
  run_blocks(program, args, first, last);
}
#endif
[[gnu::flatten]] void run_portable(const Program& program, const ElementwiseArgs& args, int64_t first,
                                   int64_t last) {
  run_blocks(program, args, first, last);
}

auto* run_of([[maybe_unused]] CpuLevel level) {
#if defined(__x86_64__)
  if (level == CpuLevel::avx512) return &run_avx512;
  if (level == CpuLevel::avx2) return &run_avx2;
#endif
  return &run_portable;
}

}  // namespace

void elementwise_cpu(const Program& program, const ElementwiseArgs& args, ThreadPool* pool, CpuLevel level) {
  constexpr int64_t kShare = 32 * kBlock;  // worth waking a thread
  auto* const run = run_of(level);
  parallel_parts(pool, args.num_elems, kShare,
                 [&](int64_t first, int64_t last) { run(program, args, first, last); });
}

}  // namespace solder
