#include "ops/elementwise/program.h"

#include <algorithm>
#include <cstdlib>

#include "ops/collapse.h"
#include "runtime/check.h"

namespace solder {
namespace {

// Strides with which `view` is read over the index space `space`: its own where the extents agree, 0 where it
// repeats. False when it does not broadcast.
bool broadcast_strides(const TensorView& view, const Shape& space, Shape* strides) {
  if (view.shape.size() > space.size()) return false;
  strides->assign(space.size(), 0);
  const size_t first = space.size() - view.shape.size();
  for (size_t i = 0; i < view.shape.size(); ++i) {
    const int64_t extent = view.shape[i];
    if (extent != 1 && extent != space[first + i]) return false;
    (*strides)[first + i] = extent == 1 ? 0 : view.strides[i];
  }
  return true;
}

// The axes of the index space, as far apart as they lie in `order`, innermost first, as few as all strides allow.
std::vector<StridedAxis> collapsed(const Shape& space, const std::vector<Shape>& strides,
                                   const Shape& order) {
  std::vector<size_t> innermost_first;
  for (size_t axis = space.size(); axis-- > 0;)
    if (space[axis] != 1) innermost_first.push_back(axis);
  std::stable_sort(innermost_first.begin(), innermost_first.end(),
                   [&](size_t a, size_t b) { return std::abs(order[a]) < std::abs(order[b]); });
  std::vector<StridedAxis> axes;
  for (const size_t axis : innermost_first) {
    StridedAxis next{space[axis], {}};
    for (const Shape& s : strides) next.strides.push_back(s[axis]);
    put_around(&axes, std::move(next));
  }
  const int64_t num_elems = num_elements(space);
  if (axes.empty() || num_elems == 0) axes.assign(1, {num_elems, Shape(strides.size(), 1)});
  return axes;
}

}  // namespace

void Program::push(const Step& step) {
  SOLDER_REQUIRE(num_steps < kMaxSteps, unsupported, "an elementwise program holds at most ", kMaxSteps,
                 " steps");
  steps[static_cast<size_t>(num_steps++)] = step;
}

std::string params_text(Op op, float p, float q, const char* separator) {
  const int count = op_info(op).num_params();
  return (count > 0 ? str(separator, p) : "") + (count > 1 ? str(separator, q) : "");
}

std::string to_string(const Program& program) {
  std::string text;
  for (const Step& step : program.view()) {
    if (!text.empty()) text += ", ";
    text += to_string(step.op);
    if (step.swapped) text += " swapped";
    text += params_text(step.op, step.p, step.q, " ");
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

Program as_pass(const Program& epilogue) {
  Program pass = epilogue;
  pass.from_result = false;
  ++pass.num_operands;
  for (Step& step : pass.steps)
    if (step.source == Source::operand) ++step.index;
  return pass;
}

ElementwiseArgs bind_elementwise(std::span<const TensorView> operands, std::span<const TensorView> outputs) {
  SOLDER_REQUIRE(operands.size() <= kMaxOperands && !outputs.empty() && outputs.size() <= kMaxOutputs,
                 unsupported, "an elementwise program takes at most ", kMaxOperands, " operands and ",
                 kMaxOutputs, " outputs");
  const Shape& shape = outputs[0].shape;
  const int64_t num_elems = num_elements(shape);
  std::vector<Shape> strides(operands.size() + outputs.size());  // of the operands, then of the outputs
  for (size_t i = 0; i < outputs.size(); ++i) {
    const TensorView& output = outputs[i];
    bool is_free = output.shape == shape;  // each element has a place of its own, as far as one axis can tell
    for (size_t axis = 0; is_free && axis < shape.size() && num_elems > 0; ++axis)
      is_free = shape[axis] == 1 || output.strides[axis] != 0;
    SOLDER_REQUIRE(is_free, shape_mismatch, "an elementwise output has shape ", to_string(output.shape),
                   " and strides ", to_string(output.strides), "; it must have the index space ",
                   to_string(shape), " and repeat no element");
    strides[operands.size() + i] = output.strides;
  }
  for (size_t i = 0; i < operands.size(); ++i) {
    SOLDER_REQUIRE(broadcast_strides(operands[i], shape, &strides[i]), shape_mismatch, "operand ", i,
                   " of shape ", to_string(operands[i].shape), " does not broadcast to ", to_string(shape));
  }
  const std::vector<StridedAxis> axes = collapsed(shape, strides, outputs[0].strides);
  SOLDER_REQUIRE(axes.size() <= kMaxDims, unsupported, "broadcasting over ", to_string(shape), " needs ",
                 axes.size(), " axes after collapsing; at most ", kMaxDims, " are supported");

  ElementwiseArgs args;
  args.num_elems = num_elems;
  args.num_operands = static_cast<int>(operands.size());
  args.num_outputs = static_cast<int>(outputs.size());
  args.rank = static_cast<int>(axes.size());
  const auto bind = [&](const TensorView& view, size_t tensor) {
    Operand bound{view.data, view.dtype, {}};
    for (size_t inner = 0; inner < axes.size(); ++inner)
      bound.strides[axes.size() - 1 - inner] = axes[inner].strides[tensor];
    return bound;
  };
  for (size_t i = 0; i < operands.size(); ++i) args.operands[i] = bind(operands[i], i);
  for (size_t i = 0; i < outputs.size(); ++i) args.outputs[i] = bind(outputs[i], operands.size() + i);
  for (size_t inner = 0; inner < axes.size(); ++inner)
    args.dims[axes.size() - 1 - inner] = axes[inner].extent;
  return args;
}

bool fits_elementwise(const Shape& space, std::span<const TensorView> operands) {
  std::vector<Shape> strides(operands.size());
  for (size_t i = 0; i < operands.size(); ++i)
    if (!broadcast_strides(operands[i], space, &strides[i])) return false;
  return operands.size() <= kMaxOperands &&
         collapsed(space, strides, dense_strides(space)).size() <= kMaxDims;
}

}  // namespace solder
