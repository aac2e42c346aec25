#include <algorithm>

#include "graph/all_or_nothing.h"
#include "graph/nodes/batch_change.h"
#include "graph/nodes/node_def.h"
#include "graph/value_view.h"
#include "runtime/check.h"

namespace solder {
namespace {

const SliceAttributes& attributes_of(const Node& node) { return std::get<SliceAttributes>(node.attributes); }

// The output's extent says how many indices are taken.
std::vector<TensorType> infer(const Node& node, std::span<const TensorType> inputs) {
  const SliceAttributes& slice = attributes_of(node);
  const Shape& x = inputs[0].shape;
  const size_t axis = static_cast<size_t>(slice.axis);
  SOLDER_REQUIRE(slice.axis >= 0 && axis < x.size() && slice.step != 0 && node.outputs.size() == 1,
                 invalid_argument, node.name, ": axis ", slice.axis, " and step ", slice.step, " of ",
                 to_string(x));
  TensorType result = inputs[0];
  const int64_t count = node.outputs[0].shape.size() > axis ? node.outputs[0].shape[axis] : -1;
  const int64_t last = slice.start + (count - 1) * slice.step;
  SOLDER_REQUIRE(
      count == 0 || (count > 0 && std::min(slice.start, last) >= 0 && std::max(slice.start, last) < x[axis]),
      invalid_argument, node.name, ": ", count, " indices from ", slice.start, " by ", slice.step,
      " leave axis ", slice.axis, " of ", to_string(x));
  result.shape[axis] = count;
  return {result};
}

std::string attributes(const Node& node) {
  const SliceAttributes& slice = attributes_of(node);
  const int64_t stop = slice.start + node.outputs[0].shape[static_cast<size_t>(slice.axis)] * slice.step;
  return str(" axis=", slice.axis, " start=", slice.start, " stop=", stop, " step=", slice.step);
}

bool view(const Node& node, const TensorView& input, TensorView* result, int64_t* offset_elems) {
  const SliceAttributes& slice = attributes_of(node);
  const size_t axis = static_cast<size_t>(slice.axis);
  *result = input;
  result->shape = node.outputs[0].shape;
  result->strides[axis] *= slice.step;
  *offset_elems = num_elements(result->shape) == 0 ? 0 : slice.start * input.strides[axis];
  return true;
}

std::vector<ScaledChannels> pass_scaled(const Node& node, std::span<const TensorType>,
                                        std::span<const std::vector<ScaledChannels>> parts) {
  const SliceAttributes& slice = attributes_of(node);
  std::vector<ScaledChannels> result = parts[0];
  const bool begins_vector = slice.axis == 0 || slice.start % kPitchElems == 0;
  if (slice.axis > 1 || slice.step != 1 || !begins_vector) return {};  // images and pixels stay in one run
  const int64_t count = node.outputs[0].shape[static_cast<size_t>(slice.axis)];
  if (slice.axis == 0) {
    for (ScaledChannels& part : result) part.first += slice.start;
    return result;
  }
  std::erase_if(result, [&](const ScaledChannels& part) { return part.end <= slice.start; });
  for (ScaledChannels& part : result) part.end = std::min(part.end - slice.start, count);
  while (result.size() > 1 && result[result.size() - 2].end == count) result.pop_back();
  return result;
}

// All of a batch stays all of it, also backwards.
void rebatch(Node* node, BatchChange* change) {
  SliceAttributes& slice = std::get<SliceAttributes>(node->attributes);
  const size_t axis = static_cast<size_t>(slice.axis);
  if (!change->changes(*node, 0, axis)) return;
  const int64_t before = change->before[0].shape[axis], after = change->after(*node, 0)[axis];
  int64_t& count = node->outputs[0].shape[axis];
  const bool is_forward = slice.start == 0 && slice.step == 1,
             is_backward = slice.start == before - 1 && slice.step == -1;
  if (count != before || !(is_forward || is_backward))
    fail_fixed(*node,
               str("takes ", count, " of the ", before, " of axis ", axis, ", which follows the batch"));
  count = after;
  if (!is_forward) slice.start = after - 1;
}

}  // namespace

extern const NodeDef kSliceNode;
constexpr NodeDef kSliceNode{.kind = NodeKind::slice,
                             .name = "slice",
                             .num_inputs = 1,
                             .attributes_index = index_of<SliceAttributes>(),
                             .takes = Strides::any,
                             .infer = infer,
                             .attributes = attributes,
                             .view = view,
                             .passes_scaled = pass_scaled,
                             .rebatch = rebatch};

Value Graph::slice(Value x, int axis, int64_t start, int64_t stop, int64_t step) {
  const std::string name = next_name("slice");
  TensorType type = checked_type(x, "slice");
  axis = checked_axis(axis, static_cast<int>(type.shape.size()), name);
  SOLDER_REQUIRE(step != 0 && step > INT64_MIN, invalid_argument, name, ": a step of ", step);
  int64_t& extent = type.shape[static_cast<size_t>(axis)];
  // Python's slice.indices(): from the end where negative, then cut to what can be reached.
  const int64_t low = step > 0 ? 0 : -1, high = step > 0 ? extent : extent - 1;
  const auto cut = [&](int64_t index) {
    if (index < 0) index = index < -extent ? low : index + extent;
    return std::clamp(index, low, high);
  };
  start = cut(start), stop = cut(stop);
  const int64_t distance = step > 0 ? stop - start : start - stop, size = step > 0 ? step : -step;
  extent = distance > 0 ? (distance - 1) / size + 1 : 0;
  return add_node({.kind = NodeKind::slice,
                   .name = name,
                   .inputs = {x},
                   .outputs = {type},
                   .attributes = SliceAttributes{axis, extent > 0 ? start : 0, extent > 1 ? step : 1}});
}

std::vector<Value> Graph::split(Value x, int axis, const std::vector<int64_t>& sizes) {
  const AllOrNothing guard(this);
  const std::string name = next_name("split");
  const Shape shape = checked_type(x, "split").shape;
  axis = checked_axis(axis, static_cast<int>(shape.size()), name);
  const int64_t extent = shape[static_cast<size_t>(axis)];
  std::vector<Value> parts;
  int64_t start = 0;
  for (const int64_t size : sizes) {
    SOLDER_REQUIRE(size >= 0 && size <= extent - start, invalid_argument, name, ": sizes ",
                   to_string(Shape(sizes)), " do not add up to axis ", axis, " of ", to_string(shape));
    parts.push_back(slice(x, axis, start, start + size));
    start += size;
  }
  SOLDER_REQUIRE(start == extent, invalid_argument, name, ": sizes ", to_string(Shape(sizes)), " leave ",
                 extent - start, " of axis ", axis, " of ", to_string(shape));
  return parts;
}

}  // namespace solder
