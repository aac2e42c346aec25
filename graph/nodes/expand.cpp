#include "graph/nodes/batch_change.h"
#include "graph/nodes/node_def.h"
#include "runtime/check.h"

namespace solder {
namespace {

// The shape is the one that was declared.
std::vector<TensorType> infer(const Node& node, std::span<const TensorType> inputs) {
  SOLDER_REQUIRE(node.outputs.size() == 1, invalid_argument, node.name, ": no shape is declared");
  const Shape& shape = node.outputs[0].shape;
  Shape result;
  SOLDER_REQUIRE(broadcast(inputs[0].shape, shape, &result) && result == shape, shape_mismatch, node.name,
                 ": ", to_string(inputs[0].shape), " does not broadcast to ", to_string(shape));
  return {{shape, inputs[0].dtype}};
}

bool view(const Node& node, const TensorView& input, TensorView* result, int64_t* offset_elems) {
  const Shape& shape = node.outputs[0].shape;
  *result = {input.data, input.dtype, shape, Shape(shape.size())};
  const size_t missing = shape.size() - input.shape.size();
  for (size_t axis = 0; axis < input.shape.size(); ++axis)
    if (input.shape[axis] == shape[missing + axis]) result->strides[missing + axis] = input.strides[axis];
  *offset_elems = 0;
  return true;
}

// Axes that follow the batch do so here. What does not, and becomes as many as the batch has along the first axis, is
// one for each image.
void rebatch(Node* node, BatchChange* change) {
  const Shape &before = change->before[0].shape, &after = change->after(*node, 0);
  Shape& shape = node->outputs[0].shape;
  const size_t missing = shape.size() - before.size();
  const bool is_spread = before == after && !shape.empty() && (missing > 0 || before[0] == 1);
  if (is_spread && change->from > 1 && shape[0] == change->from) shape[0] = change->to;
  for (size_t axis = 0; axis < before.size(); ++axis) {
    if (before[axis] == after[axis]) continue;
    if (shape[missing + axis] != before[axis])
      fail_fixed(*node, str("makes ", shape[missing + axis], " of a batch of 1, to ", to_string(shape)));
    shape[missing + axis] = after[axis];
  }
}

}  // namespace

extern const NodeDef kExpandNode;
constexpr NodeDef kExpandNode{.kind = NodeKind::expand,
                              .name = "expand",
                              .num_inputs = 1,
                              .takes = Strides::any,
                              .infer = infer,
                              .view = view,
                              .rebatch = rebatch};

Value Graph::expand(Value x, Shape shape) {
  const std::string name = next_name("expand");
  const TensorType& type = checked_type(x, "expand");
  const size_t rank = type.shape.size();
  for (size_t i = 0; i < std::min(rank, shape.size()); ++i)
    if (int64_t& extent = shape[shape.size() - 1 - i]; extent == -1) extent = type.shape[rank - 1 - i];
  return add_node({.kind = NodeKind::expand, .name = name, .inputs = {x}, .outputs = {{shape, type.dtype}}});
}

}  // namespace solder
