#include "ops/gather/gather.h"

#include "graph/nodes/batch_change.h"
#include "graph/nodes/node_def.h"
#include "runtime/check.h"
#include "runtime/context.h"

namespace solder {
namespace {

const GatherAttributes& attributes_of(const Node& node) {
  return std::get<GatherAttributes>(node.attributes);
}

std::vector<TensorType> infer(const Node& node, std::span<const TensorType> inputs) {
  const auto& [axis, indices] = attributes_of(node);
  TensorType result = inputs[0];
  SOLDER_REQUIRE(axis >= 0 && static_cast<size_t>(axis) < result.shape.size(), invalid_argument, node.name,
                 ": ", to_string(result.shape), " has no axis ", axis);
  int64_t& extent = result.shape[static_cast<size_t>(axis)];
  const std::string range = extent > 0 ? str("; it must be from ", -extent, " to ", extent - 1) : "";
  for (const int64_t index : indices) {
    const bool is_there = index >= 0 && index < extent;
    SOLDER_REQUIRE(is_there, invalid_argument, node.name, ": index ", index, " of axis ", axis, " of ",
                   to_string(inputs[0].shape), range);
  }
  extent = static_cast<int64_t>(indices.size());
  return {result};
}

std::string attributes(const Node& node) {
  const auto& [axis, indices] = attributes_of(node);
  std::string text = str(" axis=", axis, " indices=");
  for (size_t i = 0; i < indices.size(); ++i) text += str(i > 0 ? "," : "", indices[i]);
  return text;
}

// The indices are the node's constants, on the device that it runs on.
std::unique_ptr<NodeRun> plan(const PlanRequest& request) {
  const auto& [axis, indices] = attributes_of(request.node);
  gather_of(request.inputs[0], request.outputs[0], axis);  // throws where it cannot be bound
  auto run = bound_by(request.device != nullptr ? "one kernel" : "loops, CPU",
                      [axis = axis](const BoundNode& node, const Context* context) -> Launch {
                        return [gather = gather_of(node.inputs[0], node.outputs[0], axis), context,
                                x = node.inputs[0].data, y = node.outputs[0].data,
                                indices = static_cast<const int64_t*>(node.constants), pool = node.pool] {
                          if constexpr (kWithCuda)
                            if (context != nullptr) return gather_cuda(*context, gather, x, y, indices);
                          gather_cpu(gather, x, y, indices, pool);
                        };
                      });
  run->constants = constants_of(std::as_bytes(std::span(indices)));
  return run;
}

void rebatch(Node* node, BatchChange* change) {
  const int axis = attributes_of(*node).axis;
  if (change->changes(*node, 0, static_cast<size_t>(axis)))
    fail_fixed(*node, str("takes indices of axis ", axis, " of ", to_string(change->before[0].shape),
                          ", which follows the batch"));
}

}  // namespace

extern const NodeDef kGatherNode;
constexpr NodeDef kGatherNode{.kind = NodeKind::gather,
                              .name = "gather",
                              .num_inputs = 1,
                              .attributes_index = index_of<GatherAttributes>(),
                              .takes = Strides::any,
                              .stores = Strides::any,
                              .infer = infer,
                              .attributes = attributes,
                              .selects = [](const Node&) { return true; },
                              .rebatch = rebatch,
                              .plan = plan};

Value Graph::gather(Value x, int axis, std::vector<int64_t> indices) {
  const std::string name = next_name("gather");
  const Shape& shape = checked_type(x, "gather").shape;
  axis = checked_axis(axis, static_cast<int>(shape.size()), name);
  const int64_t extent = shape[static_cast<size_t>(axis)];
  for (int64_t& index : indices)
    if (index < 0 && index >= -extent) index += extent;
  return add_node({.kind = NodeKind::gather,
                   .name = name,
                   .inputs = {x},
                   .attributes = GatherAttributes{axis, std::move(indices)}});
}

}  // namespace solder
