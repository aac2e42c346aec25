#include <algorithm>

#include "graph/nodes/batch_change.h"
#include "graph/nodes/node_def.h"
#include "runtime/check.h"

namespace solder {
namespace {

// The shape is the one that was declared.
std::vector<TensorType> infer(const Node& node, std::span<const TensorType> inputs) {
  const TensorType& x = inputs[0];
  SOLDER_REQUIRE(node.outputs.size() == 1 && num_elements(node.outputs[0].shape) == num_elements(x.shape),
                 shape_mismatch, node.name, ": ", to_string(x.shape), " has ", num_elements(x.shape),
                 " elements; they do not fill ",
                 node.outputs.size() == 1 ? to_string(node.outputs[0].shape) : "nothing");
  return {{node.outputs[0].shape, x.dtype}};
}

bool view(const Node& node, const TensorView& input, TensorView* result, int64_t* offset_elems) {
  *offset_elems = 0;
  return view_as(input, node.outputs[0].shape, result);
}

}  // namespace

extern const NodeDef kReshapeNode;
constexpr NodeDef kReshapeNode{.kind = NodeKind::reshape,
                               .name = "reshape",
                               .num_inputs = 1,
                               .takes = Strides::any,
                               .infer = infer,
                               .view = view,
                               .rebatch = [](Node* node, BatchChange* change) {
                                 Shape& shape = node->outputs[0].shape;
                                 shape = follow_batch(*node, 0, std::move(shape), change);
                               }};

Value Graph::reshape(Value x, Shape shape) {
  const std::string name = next_name("reshape");
  const TensorType& type = checked_type(x, "reshape");
  const std::string asked = to_string(shape);
  int64_t* unknown = nullptr;
  int64_t known_elems = 1;
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    int64_t& extent = shape[axis];
    SOLDER_REQUIRE(extent >= -1 && !(extent == -1 && unknown != nullptr), invalid_argument, name, ": shape ",
                   asked, ": extents are not negative, but one may be -1");
    if (extent == -1) {
      unknown = &extent;
      continue;
    }
    if (extent == 0) {
      SOLDER_REQUIRE(axis < type.shape.size(), shape_mismatch, name, ": shape ", asked, ": ",
                     to_string(type.shape), " has no axis ", axis, " from which 0 could copy the extent");
      extent = type.shape[axis];
    }
    SOLDER_REQUIRE(!__builtin_mul_overflow(known_elems, extent, &known_elems), invalid_argument, name,
                   ": shape ", asked, " has more than 2^63 elements");
  }
  if (unknown != nullptr) {
    const int64_t elems = num_elements(type.shape);
    SOLDER_REQUIRE(known_elems > 0 && elems % known_elems == 0, shape_mismatch, name, ": ",
                   to_string(type.shape), " has ", elems, " elements; no -1 makes ", asked, " hold as many");
    *unknown = elems / known_elems;
  }
  return add_node({.kind = NodeKind::reshape, .name = name, .inputs = {x}, .outputs = {{shape, type.dtype}}});
}

Value Graph::flatten(Value x, int from_axis) {
  const Shape x_shape = checked_type(x, "flatten").shape;
  const int rank = static_cast<int>(x_shape.size());
  // One behind the last axis appends an extent of 1.
  if (from_axis != rank) from_axis = checked_axis(from_axis, rank, next_name("flatten"));
  const auto from = x_shape.begin() + from_axis;
  Shape shape(x_shape.begin(), from);
  shape.push_back(num_elements(Shape(from, x_shape.end())));
  return reshape_to(x, std::move(shape), "flatten");
}

Value Graph::squeeze(Value x, std::vector<int> axes) {
  const std::string name = next_name("squeeze");
  const Shape x_shape = checked_type(x, "squeeze").shape;
  const int rank = static_cast<int>(x_shape.size());
  const bool all = axes.empty();
  axes = checked_axes(axes, rank, name);
  Shape shape;
  for (size_t axis = 0; axis < x_shape.size(); ++axis) {
    const bool is_named = std::ranges::binary_search(axes, static_cast<int>(axis));
    SOLDER_REQUIRE(all || !is_named || x_shape[axis] == 1, shape_mismatch, name, ": axis ", axis, " of ",
                   to_string(x_shape), " is ", x_shape[axis], ", not 1");
    if (!is_named || x_shape[axis] != 1) shape.push_back(x_shape[axis]);
  }
  return reshape_to(x, std::move(shape), "squeeze");
}

Value Graph::unsqueeze(Value x, const std::vector<int>& axes) {
  Shape shape = checked_type(x, "unsqueeze").shape;
  const int rank = static_cast<int>(shape.size() + axes.size());
  const std::vector<int> places = axes.empty() ? axes : checked_axes(axes, rank, next_name("unsqueeze"));
  for (const int place : places) shape.insert(shape.begin() + place, 1);
  return reshape_to(x, std::move(shape), "unsqueeze");
}

Value Graph::per_channel(Value v) {
  const Shape shape = checked_type(v, "per_channel").shape;
  SOLDER_REQUIRE(shape.size() == 1, shape_mismatch, next_name("per_channel"), ": takes [C], not ",
                 to_string(shape));
  return reshape_to(v, {shape[0], 1, 1}, "per_channel");
}

// For shapes that are known to fit, extents of 0 included.
Value Graph::reshape_to(Value x, Shape shape, const char* op) {
  return add_node({.kind = NodeKind::reshape,
                   .name = next_name(op),
                   .inputs = {x},
                   .outputs = {{std::move(shape), checked_type(x, op).dtype}}});
}

}  // namespace solder
