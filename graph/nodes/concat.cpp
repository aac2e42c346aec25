#include "graph/lower.h"
#include "graph/nodes/batch_change.h"
#include "graph/nodes/node_def.h"
#include "ops/elementwise/pass.h"
#include "runtime/check.h"

namespace solder {
namespace {

size_t axis_of(const Node& node) {
  return static_cast<size_t>(std::get<ConcatAttributes>(node.attributes).axis);
}

std::vector<TensorType> infer(const Node& node, std::span<const TensorType> inputs) {
  TensorType result = inputs[0];
  const size_t axis = axis_of(node);
  SOLDER_REQUIRE(axis < result.shape.size(), invalid_argument, node.name, ": ", to_string(result.shape),
                 " has no axis ", axis);
  result.shape[axis] = 0;
  for (const TensorType& input : inputs) {
    TensorType rest = input;
    if (axis < rest.shape.size()) rest.shape[axis] = 0;
    SOLDER_REQUIRE(rest == result, shape_mismatch, node.name, ": ", to_string(inputs[0]), " and ",
                   to_string(input), " differ in more than axis ", axis);
  }
  for (const TensorType& input : inputs)
    SOLDER_REQUIRE(!__builtin_add_overflow(result.shape[axis], input.shape[axis], &result.shape[axis]),
                   invalid_argument, node.name, ": axis ", axis, " has more than 2^63 elements");
  return {result};
}

std::vector<ScaledChannels> pass_scaled(const Node& node, std::span<const TensorType> inputs,
                                        std::span<const std::vector<ScaledChannels>> parts) {
  std::vector<ScaledChannels> result;
  if (axis_of(node) != 1) return result;
  int64_t start = 0;
  for (size_t i = 0; i < inputs.size(); start += inputs[i++].shape[1])
    for (const ScaledChannels& part : parts[i])
      result.push_back({start + part.end, part.first, part.is_measured});
  return result;
}

// The part of `whole` that begins at `start` of the axis and has the input's shape.
TensorView part_of(const TensorView& whole, size_t axis, int64_t start, const TensorView& input) {
  TensorView part = whole;
  part.shape = input.shape;
  if (part.data != nullptr)
    part.data = static_cast<char*>(whole.data) + start * whole.strides[axis] * size_of(whole.dtype);
  return part;
}

// A copy of each input that was not computed in its part.
class ConcatRun final : public NodeRun {
 public:
  explicit ConcatRun(const PlanRequest& request) : axis_(axis_of(request.node)) {
    const Program copy = lower({1, {}, {Arg::operand(0)}}, false, request.node.outputs);
    int64_t start = 0;
    for (size_t i = 0; i < request.inputs.size(); ++i) {
      const TensorView& input = request.inputs[i];
      const TensorView part = part_of(request.outputs[0], axis_, start, input);
      const bool is_there = input.strides == part.strides && request.lies_at(i, start * part.strides[axis_]);
      if (!is_there && num_elements(input.shape) > 0) {
        copies_.push_back({i, start, ElementwisePass(copy, {&input, 1}, {&part, 1}, request.device)});
      }
      start += input.shape[axis_];
    }
    plan.path = copies_.empty() ? "in place" : str(copies_.size(), " of ", request.inputs.size(), " copied");
  }

  void prepare(const Context& context, ElementwiseKernels& kernels, void*) override {
    for (Copy& copy : copies_) copy.pass.prepare(context, kernels, nullptr);
  }

  Launch bind(const BoundNode& node, const Context* context) const override {
    std::vector<Launch> launches;
    for (const Copy& copy : copies_) {
      const TensorView part = part_of(node.outputs[0], axis_, copy.start, node.inputs[copy.input]);
      launches.push_back(
          copy.pass.bind(context, {&node.inputs[copy.input], 1}, {&part, 1}, nullptr, node.pool));
    }
    return in_order(std::move(launches));
  }

 private:
  struct Copy {
    size_t input;
    int64_t start;
    ElementwisePass pass;
  };

  size_t axis_;
  std::vector<Copy> copies_;
};

}  // namespace

extern const NodeDef kConcatNode;
constexpr NodeDef kConcatNode{
    .kind = NodeKind::concat,
    .name = "concat",
    .num_inputs = kAnyNumber,
    .attributes_index = index_of<ConcatAttributes>(),
    .takes = Strides::any,
    .takes_others = Strides::any,
    .stores = Strides::any,
    .infer = infer,
    .attributes = [](const Node& node) -> std::string { return str(" axis=", axis_of(node)); },
    .selects = [](const Node&) { return true; },
    .passes_scaled = pass_scaled,
    .rebatch =
        [](Node* node, BatchChange* change) {
          const int rank = static_cast<int>(change->before[0].shape.size());
          for (size_t i = 0; i < node->inputs.size(); ++i)
            if (change->changes(*node, i, axis_of(*node))) change->outer = 0;
          follow_together(node, rank, static_cast<int>(axis_of(*node)), change);
        },
    .plan = planned<ConcatRun>};

Value Graph::concat(const std::vector<Value>& values, int axis) {
  const std::string name = next_name("concat");
  SOLDER_REQUIRE(!values.empty(), invalid_argument, name, ": of no values");
  for (const Value& value : values) checked_type(value, "concat");
  axis = checked_axis(axis, static_cast<int>(type(values[0]).shape.size()), name);
  return add_node(
      {.kind = NodeKind::concat, .name = name, .inputs = values, .attributes = ConcatAttributes{axis}});
}

}  // namespace solder
