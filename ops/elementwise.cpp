#include "ops/elementwise.h"

#include <algorithm>

#include "runtime/check.h"

namespace solder {
namespace {

constexpr std::array kNames = {
    "abs",        "neg",          "exp",        "log",  "sqrt",        "rsqrt",
    "reciprocal", "square",       "erf",        "tanh", "sigmoid",     "softplus",
    "relu",       "leaky_relu",   "elu",        "selu", "gelu",        "gelu_tanh",
    "silu",       "hard_sigmoid", "hard_swish", "mish", "double_mish", "clip",
    "to_float16", "to_bfloat16",  "add",        "sub",  "mul",         "div",
    "pow",        "min",          "max",        "load", "store_slot",  "store_output"};
static_assert(kNames.size() == static_cast<size_t>(Op::store_output) + 1, "one name an op");

// Strides, in elements, with which a dense tensor of `shape` is read over the index space `space`: its own
// where the extents agree, 0 where it repeats. False when it does not broadcast.
bool broadcast_strides(const Shape& shape, const Shape& space, std::vector<int64_t>* strides) {
  if (shape.size() > space.size()) return false;
  strides->assign(space.size(), 0);
  int64_t stride = 1;
  for (size_t i = 0; i < shape.size(); ++i) {  // i counts axes from the last
    const int64_t extent = shape[shape.size() - 1 - i];
    const size_t axis = space.size() - 1 - i;
    if (extent != 1 && extent != space[axis]) return false;
    (*strides)[axis] = extent == 1 ? 0 : stride;
    stride *= extent;
  }
  return true;
}

}  // namespace

const char* to_string(Op op) { return kNames[static_cast<size_t>(op)]; }

void Program::push(const Step& step) {
  SOLDER_REQUIRE(num_steps < kMaxSteps, unsupported, "an elementwise program holds at most ", kMaxSteps,
                 " steps");
  steps[static_cast<size_t>(num_steps++)] = step;
}

std::string to_string(const Program& program) {
  std::string text;
  for (const Step& step : program.view()) {
    if (!text.empty()) text += ", ";
    text += to_string(step.op);
    if (step.swapped) text += " swapped";
    if (step.op == Op::leaky_relu || step.op == Op::elu) text += str(" ", step.p);
    if (step.op == Op::clip) text += str(" ", step.p, " ", step.q);
    if (step.op == Op::store_slot || step.op == Op::store_output) text += str(" ", int{step.index});
    switch (step.source) {
      case Source::none: break;
      case Source::immediate: text += str(" ", step.p); break;
      case Source::operand: text += str(" %", int{step.index}); break;
      case Source::slot: text += str(" slot", int{step.index}); break;
    }
  }
  return text;
}

ElementwiseArgs bind_elementwise(const Shape& shape, std::span<const ElementwiseTensor> operands,
                                 std::span<const ElementwiseTensor> outputs) {
  SOLDER_REQUIRE(operands.size() <= kMaxOperands && outputs.size() <= kMaxOutputs, unsupported,
                 "an elementwise program takes at most ", kMaxOperands, " operands and ", kMaxOutputs,
                 " outputs");
  for (const ElementwiseTensor& output : outputs) {
    SOLDER_REQUIRE(output.shape == shape, shape_mismatch, "an elementwise output has shape ",
                   to_string(output.shape), "; the index space is ", to_string(shape));
  }

  std::vector<std::vector<int64_t>> strides(operands.size());
  for (size_t i = 0; i < operands.size(); ++i) {
    SOLDER_REQUIRE(broadcast_strides(operands[i].shape, shape, &strides[i]), shape_mismatch, "operand ", i,
                   " of shape ", to_string(operands[i].shape), " does not broadcast to ", to_string(shape));
  }

  ElementwiseArgs args;
  args.num_elems = num_elements(shape);
  args.num_operands = static_cast<int>(operands.size());
  args.num_outputs = static_cast<int>(outputs.size());
  for (size_t i = 0; i < operands.size(); ++i) args.operands[i] = {operands[i].data, operands[i].dtype, {}};
  for (size_t i = 0; i < outputs.size(); ++i) args.outputs[i] = {outputs[i].data, outputs[i].dtype, {}};

  // Collapse from the innermost axis out: an axis joins the one inside it when every operand steps over both
  // with one stride.
  struct Axis {
    int64_t extent;
    std::vector<int64_t> strides;
  };
  std::vector<Axis> axes;  // innermost first
  for (size_t axis = shape.size(); axis-- > 0;) {
    if (shape[axis] == 1) continue;
    Axis next{shape[axis], {}};
    for (const auto& s : strides) next.strides.push_back(s[axis]);
    bool joins = !axes.empty();
    for (size_t i = 0; joins && i < operands.size(); ++i)
      joins = next.strides[i] == axes.back().strides[i] * axes.back().extent;
    if (joins)
      axes.back().extent *= next.extent;
    else
      axes.push_back(std::move(next));
  }
  if (axes.empty() || args.num_elems == 0)
    axes.assign(1, {args.num_elems, std::vector<int64_t>(operands.size(), 1)});
  SOLDER_REQUIRE(axes.size() <= kMaxDims, unsupported, "broadcasting over ", to_string(shape), " needs ",
                 axes.size(), " axes after collapsing; at most ", kMaxDims, " are supported");

  args.rank = static_cast<int>(axes.size());
  int64_t dense = 1;
  for (size_t d = axes.size(), inner = 0; d-- > 0; ++inner) {
    args.dims[d] = axes[inner].extent;
    for (size_t i = 0; i < operands.size(); ++i) args.operands[i].strides[d] = axes[inner].strides[i];
    for (size_t i = 0; i < outputs.size(); ++i) args.outputs[i].strides[d] = dense;
    dense *= axes[inner].extent;
  }
  return args;
}

}  // namespace solder
