#include "ops/elementwise/pass.h"

#include <algorithm>
#include <bit>

#include "ops/elementwise/generated.h"
#include "ops/elementwise/table.h"
#include "ops/elementwise/walk.h"
#include "runtime/check.h"
#include "runtime/context.h"

namespace solder {
namespace {

// Issue slots, but for the first measured on an H100: what the interpreter takes an element at all (of 16-bit types a
// thread has few bytes in flight, too), for a step, for a unary function and for an operand or output that is read
// element by element; what the GPU issues in the time a byte moves; and, of the whole GPU, in 3 microseconds.
constexpr int64_t kElemSlots = 24, kStepSlots = 16, kFunctionSlots = 40, kSpreadSlots = 40, kSlotsPerByte = 9;
constexpr double kWorthSlots = 1e8;

ElementwisePath choose_path(const Program& program, const ElementwiseArgs& args) {
  using elementwise::Access;
  const elementwise::Walk walk = walk_of(args);
  const bool is_map = program.num_operands == 1 && program.num_outputs == 1 && !walk.by_rows &&
                      access_of(args, walk, args.operands[0]) == Access::dense;
  const int64_t in_size = size_of(args.operands[0].dtype), out_size = size_of(args.outputs[0].dtype);
  const Op first = program.steps[0].op;
  if (is_map && in_size == 4 && out_size == 4 && program.num_steps == 2 &&
      (first == Op::mish || first == Op::double_mish))
    return ElementwisePath::hand_written;

  // What the interpreter issues while memory moves the bytes costs nothing.
  int64_t slots = kElemSlots, bytes = 0;
  for (const Step& step : program.view()) slots += is_unary(step.op) ? kFunctionSlots : kStepSlots;
  for (int i = 0; i < args.num_operands; ++i) {
    const Operand& operand = args.operands[i];
    const Access access = access_of(args, walk, operand);
    const bool repeats =
        std::find(operand.strides, operand.strides + args.rank, 0) != operand.strides + args.rank;
    if (!repeats) bytes += size_of(operand.dtype);
    if (access == Access::channel || access == Access::strided) slots += kSpreadSlots;
  }
  for (int i = 0; i < args.num_outputs; ++i) {
    bytes += size_of(args.outputs[i].dtype);
    if (walk.by_rows && walk.length == 1) slots += kSpreadSlots;
  }
  if (static_cast<double>(args.num_elems) * static_cast<double>(slots - kSlotsPerByte * bytes) < kWorthSlots)
    return ElementwisePath::interpreted;
  const bool is_function = is_map && in_size == 2 && out_size == 2 && program.num_steps > 1;
  return is_function ? ElementwisePath::table : ElementwisePath::generated;
}

ElementwiseArgs without_addresses(ElementwiseArgs args) {
  for (Operand& operand : args.operands) operand.data = nullptr;
  for (Operand& output : args.outputs) output.data = nullptr;
  return args;
}

}  // namespace

ElementwisePass::ElementwisePass(const Program& program, std::span<const TensorView> operands,
                                 std::span<const TensorView> outputs, const DeviceInfo* device)
    : program_(program),
      layout_(without_addresses(bind_elementwise(operands, outputs))),
      words_("loops, CPU") {
  if (device == nullptr) return;
  path_ = choose_path(program, layout_);
  constexpr const char* kWords[] = {"hand-written", "table", "generated", "interpreted"};
  words_ = kWords[static_cast<int>(path_)];
}

std::vector<std::byte> ElementwisePass::constants() const {
  if (path_ != ElementwisePath::table) return {};
  // Every bit pattern: the program itself makes the table of them, in place.
  std::vector<std::byte> patterns;
  for (int i = 0; i < kTableElems; ++i)
    patterns.push_back(std::byte(i % 256)), patterns.push_back(std::byte(i / 256));
  return patterns;
}

std::string ElementwisePass::constants_key() const {
  if (path_ != ElementwisePath::table) return {};
  std::string key =
      str("table of ", to_string(layout_.operands[0].dtype), " to ", to_string(layout_.outputs[0].dtype));
  for (const Step& step : program_.view())  // numbers by their bits
    key += str(";", to_string(step.op), step.swapped, static_cast<int>(step.source), ",",
               static_cast<int>(step.index), ",", std::bit_cast<uint32_t>(step.p), ",",
               std::bit_cast<uint32_t>(step.q));
  return key;
}

void ElementwisePass::prepare(const Context& context, ElementwiseKernels& kernels, void* constants) {
  if constexpr (kWithCuda) {
    if (path_ == ElementwisePath::generated)
      kernel_ = kernels.get(elementwise_source(program_, layout_), context.device(), &words_);
    if (path_ != ElementwisePath::table || constants == nullptr) return;
    const TensorView from = dense_view(constants, layout_.operands[0].dtype, {kTableElems}),
                     to = dense_view(constants, layout_.outputs[0].dtype, {kTableElems});
    bind_elementwise_cuda(context, ElementwisePath::interpreted, program_,
                          bind_elementwise({&from, 1}, {&to, 1}), nullptr, nullptr)();
  }
}

Launch ElementwisePass::bind(const Context* context, std::span<const TensorView> operands,
                             std::span<const TensorView> outputs, const void* constants,
                             ThreadPool* pool) const {
  const ElementwiseArgs args = bind_elementwise(operands, outputs);
  SOLDER_REQUIRE(without_addresses(args) == layout_, invalid_argument,
                 "an elementwise pass is bound to tensors unlike those that it was planned for");
  if constexpr (kWithCuda) {
    if (context != nullptr) return bind_elementwise_cuda(*context, path_, program_, args, kernel_, constants);
  }
  return [program = program_, args, pool] { elementwise_cpu(program, args, pool); };
}

}  // namespace solder
