#include <algorithm>

#include "ops/elementwise/apply.h"
#include "ops/elementwise/program.h"
#include "runtime/divide.h"
#include "runtime/parallel.h"

namespace solder {
namespace {

// Values worked on at a time: small enough that accumulator, source and slots stay in the first-level cache,
// large enough that the switch over ops costs nothing.
constexpr int kBlock = 256;

// values[i] = element begin + i of the index space, as the operand shows it.
void load_block(const ElementwiseArgs& args, const Operand& operand, int64_t begin, int64_t count,
                float (&values)[kBlock]) {
  std::array<int64_t, kMaxDims> coord{};
  int64_t offset = 0, rest = begin;
  for (size_t d = static_cast<size_t>(args.rank); d-- > 0;) {
    coord[d] = rest % args.dims[d];
    rest /= args.dims[d];
    offset += coord[d] * operand.strides[d];
  }
  const size_t inner = static_cast<size_t>(args.rank) - 1;
  const int64_t stride = operand.strides[inner];
  for (int64_t i = 0; i < count;) {
    const int64_t run = std::min(count - i, args.dims[inner] - coord[inner]);
    for (int64_t j = 0; j < run; ++j)
      values[i + j] = load_as_float(operand.data, operand.dtype, offset + j * stride);
    i += run;
    coord[inner] += run;
    offset += run * stride;
    for (size_t d = inner; d > 0 && coord[d] == args.dims[d]; --d) {  // carry into the outer axes
      offset += operand.strides[d - 1] - coord[d] * operand.strides[d];
      coord[d] = 0;
      ++coord[d - 1];
    }
  }
}

// Elements [first, last) of the index space.
void run_blocks(const Program& program, const ElementwiseArgs& args, int64_t first, int64_t last) {
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
        const Operand& output = args.outputs[step.index];
        for (int64_t i = 0; i < count; ++i) store_from_float(output.data, output.dtype, begin + i, acc[i]);
      } else if (is_unary(step.op)) {
        apply_unary(step.op, step.p, step.q, acc);
      } else {
        apply_binary(step.op, step.swapped, acc, source);
      }
    }
  }
}

}  // namespace

void elementwise_cpu(const Program& program, const ElementwiseArgs& args, ThreadPool* pool) {
  constexpr int64_t kShare = 32 * kBlock;  // worth waking a thread
  parallel_for(args.num_elems > kShare ? pool : nullptr, ceil_div(args.num_elems, kShare), [&](int64_t i) {
    run_blocks(program, args, i * kShare, std::min(args.num_elems, (i + 1) * kShare));
  });
}

}  // namespace solder
