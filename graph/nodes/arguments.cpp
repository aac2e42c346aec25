#include <algorithm>
#include <numeric>

#include "graph/nodes/node_def.h"
#include "runtime/check.h"

namespace solder {

void require_form(const Node& node) {
  const NodeDef& def = node_def(node.kind);
  const size_t num_operands = node.epilogue.operand_shapes.size();
  SOLDER_REQUIRE(num_operands <= node.inputs.size() &&
                     (def.num_inputs == kAnyNumber ? node.num_own_inputs() > 0 && num_operands == 0
                                                   : node.num_own_inputs() == def.num_inputs),
                 invalid_argument, node.name, ": a ", def.name, " has ",
                 def.num_inputs == kAnyNumber ? "one or more" : std::to_string(def.num_inputs),
                 " inputs besides its epilogue's");
  SOLDER_REQUIRE(node.attributes.index() == def.attributes_index, invalid_argument, node.name,
                 ": the attributes are another kind's");
}

int checked_axis(int axis, int rank, const std::string& node) {
  SOLDER_REQUIRE(axis >= -rank && axis < rank, invalid_argument, node, ": axis ", axis,
                 " of a tensor of rank ", rank,
                 rank == 0 ? "" : str("; it must be from ", -rank, " to ", rank - 1));
  return axis < 0 ? axis + rank : axis;
}

std::vector<int> checked_axes(std::vector<int> axes, int rank, const std::string& node) {
  if (axes.empty()) {
    axes.resize(static_cast<size_t>(rank));
    std::iota(axes.begin(), axes.end(), 0);
  }
  for (int& axis : axes) axis = checked_axis(axis, rank, node);
  std::ranges::sort(axes);
  const auto twice = std::ranges::adjacent_find(axes);
  SOLDER_REQUIRE(twice == axes.end(), invalid_argument, node, ": axis ", *twice, " is named twice");
  return axes;
}

void require_bias(const TensorType& w, const TensorType& bias, const std::string& node) {
  if (w.shape.empty()) return;  // w is wrong itself
  const TensorType right{{w.shape[0]}, w.dtype};
  SOLDER_REQUIRE(bias == right, shape_mismatch, node, ": bias must be ", to_string(right),
                 ", one value an output channel of w ", to_string(w.shape), "; it is ", to_string(bias));
}

void require_same_dtype(const Node& node, std::span<const TensorType> inputs, bool is_narrow) {
  SOLDER_REQUIRE(is_narrow || inputs[0].dtype == inputs[1].dtype, invalid_argument, node.name, ": ",
                 to_string(inputs[0]), " and ", to_string(inputs[1]), " differ in dtype: cast one of them");
}

void require_size(const TensorType& type, const std::string& what) try {
  num_bytes(type.shape, type.dtype);
} catch (const Error& error) {
  fail(error.kind(), str(what, ": ", error.message()));
}

void require_layout(const Shape& shape, Layout layout, const std::string& what) {
  SOLDER_REQUIRE(layout <= Layout::channels_last, invalid_argument, what, ": may lie ",
                 to_string(Layout::nchw), " or ", to_string(Layout::channels_last));
  SOLDER_REQUIRE(layout == Layout::nchw || shape.size() == 4, invalid_argument, what, ": ", to_string(shape),
                 " has ", shape.size(), " extents; tensors that lie ", to_string(layout),
                 " have four, [N, C, H, W]");
}

Shape channel_shape(const Shape& space) {
  Shape shape(space.size() - 1, 1);
  shape[0] = space[1];
  return shape;
}

Node copy_of(Value from, const Shape& shape, DType dtype, std::string name) {
  Node node{
      .kind = NodeKind::elementwise, .name = std::move(name), .inputs = {from}, .outputs = {{shape, dtype}}};
  node.epilogue.operand_shapes = {shape};
  node.epilogue.region.outputs = {Arg::operand(0)};
  return node;
}

}  // namespace solder
