#include "ops/softmax/softmax.h"

#include "graph/nodes/batch_change.h"
#include "graph/nodes/node_def.h"
#include "runtime/check.h"
#include "runtime/context.h"

namespace solder {
namespace {

const SoftmaxAttributes& attributes_of(const Node& node) {
  return std::get<SoftmaxAttributes>(node.attributes);
}

std::vector<TensorType> infer(const Node& node, std::span<const TensorType> inputs) {
  const int axis = attributes_of(node).axis;
  SOLDER_REQUIRE(axis >= 0 && static_cast<size_t>(axis) < inputs[0].shape.size(), invalid_argument, node.name,
                 ": ", to_string(inputs[0].shape), " has no axis ", axis);
  return {inputs[0]};
}

std::unique_ptr<NodeRun> plan(const PlanRequest& request) {
  const SoftmaxAttributes attributes = attributes_of(request.node);
  const auto softmax_of = [attributes](const TensorView& x, const TensorView& y) {
    return Softmax{attributes.log, rows_of(x, y, {attributes.axis}), x.dtype};
  };
  const bool columns = softmax_of(request.inputs[0], request.outputs[0]).rows.are_columns();
  return bound_by(request.device == nullptr ? "loops, CPU"
                  : columns                 ? "columns"
                                            : "rows",
                  [softmax_of](const BoundNode& node, const Context* context) -> Launch {
                    return [softmax = softmax_of(node.inputs[0], node.outputs[0]), context,
                            x = node.inputs[0].data, y = node.outputs[0].data, pool = node.pool] {
                      if constexpr (kWithCuda)
                        if (context != nullptr) return softmax_cuda(*context, softmax, x, y);
                      softmax_cpu(softmax, x, y, pool);
                    };
                  });
}

}  // namespace

extern const NodeDef kSoftmaxNode;
constexpr NodeDef kSoftmaxNode{
    .kind = NodeKind::softmax,
    .name = "softmax",
    .num_inputs = 1,
    .attributes_index = index_of<SoftmaxAttributes>(),
    .takes = Strides::any,
    .stores = Strides::any,
    .infer = infer,
    .attributes = [](const Node& node) -> std::string {
      const SoftmaxAttributes& softmax = attributes_of(node);
      return str(softmax.log ? " log" : "", " axis=", softmax.axis);
    },
    .rebatch = [](Node* node,
                  BatchChange* change) { require_own_axis(*node, attributes_of(*node).axis, *change); },
    .plan = plan};

Value Graph::softmax_node(Value x, int axis, bool log, const char* op) {
  const std::string name = next_name(op);
  axis = checked_axis(axis, static_cast<int>(checked_type(x, op).shape.size()), name);
  return add_node(
      {.kind = NodeKind::softmax, .name = name, .inputs = {x}, .attributes = SoftmaxAttributes{axis, log}});
}

Value Graph::softmax(Value x, int axis) { return softmax_node(x, axis, false, "softmax"); }
Value Graph::log_softmax(Value x, int axis) { return softmax_node(x, axis, true, "log_softmax"); }

}  // namespace solder
