#include <algorithm>
#include <numeric>

#include "graph/nodes/node_def.h"
#include "runtime/check.h"

namespace solder {
namespace {

const std::vector<int>& axes_of(const Node& node) {
  return std::get<PermuteAttributes>(node.attributes).axes;
}

std::vector<TensorType> infer(const Node& node, std::span<const TensorType> inputs) {
  const Shape& x = inputs[0].shape;
  std::vector<int> all(x.size());
  std::iota(all.begin(), all.end(), 0);
  SOLDER_REQUIRE(std::is_permutation(all.begin(), all.end(), axes_of(node).begin(), axes_of(node).end()),
                 invalid_argument, node.name, ": axes ", to_string(Shape(axes_of(node))),
                 " do not name each axis of ", to_string(x), " once");
  TensorType result{{}, inputs[0].dtype};
  for (const int axis : axes_of(node)) result.shape.push_back(x[static_cast<size_t>(axis)]);
  return {result};
}

std::string attributes(const Node& node) {
  std::string text;
  for (const int axis : axes_of(node)) text += str(text.empty() ? " axes=" : ",", axis);
  return text;
}

bool view(const Node& node, const TensorView& input, TensorView* result, int64_t* offset_elems) {
  *result = {input.data, input.dtype, {}, {}};
  for (const int axis : axes_of(node)) {
    result->shape.push_back(input.shape[static_cast<size_t>(axis)]);
    result->strides.push_back(input.strides[static_cast<size_t>(axis)]);
  }
  *offset_elems = 0;
  return true;
}

}  // namespace

extern const NodeDef kPermuteNode;
constexpr NodeDef kPermuteNode{.kind = NodeKind::permute,
                               .name = "permute",
                               .num_inputs = 1,
                               .attributes_index = index_of<PermuteAttributes>(),
                               .takes = Strides::any,
                               .infer = infer,
                               .attributes = attributes,
                               .view = view};

Value Graph::permute(Value x, std::vector<int> axes) {
  const std::string name = next_name("permute");
  const int rank = static_cast<int>(checked_type(x, "permute").shape.size());
  for (int& axis : axes) axis = checked_axis(axis, rank, name);
  return add_node({.kind = NodeKind::permute,
                   .name = name,
                   .inputs = {x},
                   .attributes = PermuteAttributes{std::move(axes)}});
}

}  // namespace solder
