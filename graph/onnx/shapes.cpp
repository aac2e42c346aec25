// Rows of operators that move data or look at it under another shape.

#include <algorithm>

#include "graph/onnx/arguments.h"
#include "runtime/check.h"

namespace solder {
namespace {

void reshape(OnnxCall& call) {
  const bool copies_zeros = call.integer("allowzero", 0) == 0;
  const std::vector<int64_t> wanted = call.integers_at(1);
  const Shape& x = call.shape(0);
  Shape shape(wanted);
  int64_t* unknown = nullptr;
  int64_t known_elems = 1;
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    SOLDER_REQUIRE(shape[axis] >= -1 && !(shape[axis] == -1 && unknown != nullptr), io, "to ",
                   to_string(shape), ": one extent may be -1");
    if (shape[axis] == -1) {
      unknown = &shape[axis];
      continue;
    }
    if (shape[axis] == 0 && copies_zeros) {
      SOLDER_REQUIRE(axis < x.size(), shape_mismatch, "to ", to_string(shape), ": ", to_string(x),
                     " has no axis ", axis, " to copy");
      shape[axis] = x[axis];
    }
    SOLDER_REQUIRE(!__builtin_mul_overflow(known_elems, shape[axis], &known_elems), io, "to ",
                   to_string(shape), ": more than 2^63 elements");
  }
  const int64_t elems = num_elements(x);
  SOLDER_REQUIRE(unknown == nullptr ? known_elems == elems : known_elems > 0 && elems % known_elems == 0,
                 shape_mismatch, to_string(x), " does not fill ", to_string(Shape(wanted)));
  if (unknown != nullptr) *unknown = elems / known_elems;
  call.give_view(0, shape);
}

void flatten(OnnxCall& call) {
  const Shape& x = call.shape(0);
  const int rank = call.rank(0);
  const int64_t given = call.integer("axis", 1);
  const int axis = given == rank ? rank : as_axis(given, std::max(rank, 1));
  const auto middle = x.begin() + std::min(axis, rank);
  call.give_view(0, {num_elements(Shape(x.begin(), middle)), num_elements(Shape(middle, x.end()))});
}

void squeeze(OnnxCall& call) {
  const Shape& x = call.shape(0);
  const auto given = call.list(1, "axes");
  std::vector<int> axes = as_axes(given.value_or(std::vector<int64_t>{}), call.rank(0));
  Shape shape;
  for (size_t axis = 0; axis < x.size(); ++axis) {
    const bool is_named = std::ranges::count(axes, static_cast<int>(axis)) > 0;
    SOLDER_REQUIRE(!is_named || x[axis] == 1, shape_mismatch, "axis ", axis, " of ", to_string(x),
                   " is not 1");
    if (given ? !is_named : x[axis] != 1) shape.push_back(x[axis]);
  }
  call.give_view(0, shape);
}

void unsqueeze(OnnxCall& call) {
  const Shape& x = call.shape(0);
  const auto given = call.list(1, "axes");
  SOLDER_REQUIRE(given, io, "axes are missing");
  SOLDER_REQUIRE(given->size() + x.size() <= kMaxFileRank, io, "more than ", kMaxFileRank, " axes");
  const size_t rank = x.size() + given->size();
  const std::vector<int> axes = as_axes(*given, static_cast<int>(rank));
  Shape shape;
  size_t from = 0;
  for (size_t axis = 0; axis < rank; ++axis) {
    const bool is_new = std::ranges::count(axes, static_cast<int>(axis)) > 0;
    SOLDER_REQUIRE(is_new || from < x.size(), io, "an axis is named twice");
    shape.push_back(is_new ? 1 : x[from++]);
  }
  call.give_view(0, shape);
}

void expand(OnnxCall& call) {
  const Shape wanted(call.integers_at(1));
  Shape shape;
  SOLDER_REQUIRE(broadcast(call.shape(0), wanted, &shape), shape_mismatch, to_string(call.shape(0)),
                 " does not broadcast to ", to_string(wanted));
  if (shape == call.shape(0)) return call.give(call.item(0));
  call.give_moved(call.graph().expand(call.value(0), shape));
}

void tile(OnnxCall& call) { call.give_moved(call.graph().tile(call.value(0), call.integers_at(1))); }

void transpose(OnnxCall& call) { call.give_moved(call.graph().permute(call.value(0), permutation(call))); }

void concat(OnnxCall& call) {
  std::vector<Value> values;
  for (size_t i = 0; i < call.num_inputs(); ++i) values.push_back(call.value_beside(i, 0));
  SOLDER_REQUIRE(!values.empty(), io, "it has no inputs");
  const int axis = as_axis(call.integer("axis"), call.rank(0));
  call.give_moved(values.size() == 1 ? values[0] : call.graph().concat(values, axis));
}

void split(OnnxCall& call) {
  const int axis = as_axis(call.integer("axis", 0), call.rank(0));
  const std::vector<int64_t> sizes = split_sizes(call, axis);
  const std::vector<Value> parts = call.graph().split(call.value(0), axis, sizes);
  for (size_t i = 0; i < parts.size(); ++i) call.give_moved(parts[i], i);
}

void slice(OnnxCall& call) {
  Value x = call.value(0);
  for (const OnnxSlice& each : slices_of(call))
    x = call.graph().slice(x, each.axis, each.start, each.stop, each.step);
  call.give_moved(x);
}

void gather(OnnxCall& call) {
  const auto [axis, indices, shape] = gather_of(call);
  const Value x = call.value(0);  // of which one index is a view
  call.give_moved(call.reshape(indices.size() == 1 ? call.graph().slice(x, axis, indices[0], indices[0] + 1)
                                                   : call.graph().gather(x, axis, indices),
                               shape));
}

// Each axis goes round as often as asked for.
Value wrapped(OnnxCall& call, const std::vector<int64_t>& before, const std::vector<int64_t>& after) {
  Value x = call.value(0);
  for (size_t axis = 0; axis < before.size(); ++axis) {
    const int64_t extent = call.shape(0)[axis], size = before[axis] + extent + after[axis];
    if (before[axis] == 0 && after[axis] == 0) continue;
    SOLDER_REQUIRE(extent > 0 && size >= 0, shape_mismatch, "of ", to_string(call.shape(0)));
    call.import().charge(size);
    std::vector<int64_t> indices;
    for (int64_t i = 0; i < size; ++i) indices.push_back(((i - before[axis]) % extent + extent) % extent);
    x = call.graph().gather(x, static_cast<int>(axis), std::move(indices));
  }
  return x;
}

void pad(OnnxCall& call) {
  const auto mode = call.named<std::optional<PadMode>>("mode", "constant",
                                                       {{"constant", PadMode::constant},
                                                        {"reflect", PadMode::reflect},
                                                        {"edge", PadMode::edge},
                                                        {"wrap", std::nullopt}});
  const std::optional<double> value = call.has(2) ? call.scalar(2, 1) : call.real("value", 0.0f);
  ONNX_REQUIRE(value, call.input_name(2), " is computed at run time");
  const size_t rank = call.shape(0).size();
  std::vector<int> axes = axes_from(0, call.rank(0));
  if (call.has(3)) axes = as_axes(call.integers_at(3), call.rank(0));
  const std::vector<int64_t> pads = numbers_of(call.list(1, "pads").value_or(std::vector<int64_t>{}),
                                               2 * axes.size(), 0, INT32_MIN, "pads");
  std::vector<int64_t> before(rank), after(rank);
  for (size_t i = 0; i < axes.size(); ++i) {
    before[static_cast<size_t>(axes[i])] = pads[i];
    after[static_cast<size_t>(axes[i])] = pads[i + axes.size()];
  }
  const auto is_zero = [](int64_t count) { return count == 0; };
  if (std::ranges::all_of(before, is_zero) && std::ranges::all_of(after, is_zero))
    return call.give(call.item(0));
  call.give_moved(mode ? call.graph().pad(call.value(0), before, after, *mode, static_cast<float>(*value))
                       : wrapped(call, before, after));
}

void depth_to_space(OnnxCall& call) {
  const bool is_crd = call.named<bool>("mode", "DCR", {{"DCR", false}, {"CRD", true}});
  call.give(call.graph().depth_to_space(call.value(0), call.integer("blocksize"), is_crd));
}

void space_to_depth(OnnxCall& call) {
  call.give(call.graph().space_to_depth(call.value(0), call.integer("blocksize")));
}

// A large one of floats; small ones are worked out.
void constant_of_shape(OnnxCall& call) {
  const Shape shape(call.integers_at(0));
  num_elements(shape);
  OnnxConstant value = fill_value(call);
  ONNX_REQUIRE(value.is_real(), to_string(value.type), " ", to_string(shape),
               " is too large to be worked out");
  const DType dtype = dtype_of(value.type).value_or(DType::float32);
  call.give(call.import().filled(call.label(), shape, dtype, static_cast<float>(value.reals[0])));
}

constexpr OnnxRow kRows[] = {
    {"Concat", "x...", "axis", concat},
    {"ConstantOfShape", "shape", "value", constant_of_shape},
    {"DepthToSpace", "x", "blocksize mode:11-", depth_to_space},
    {"Expand", "x shape", "", expand},
    {"Flatten", "x", "axis", flatten},
    {"Gather", "x indices", "axis", gather},
    {"Pad", "x pads:11- value?:11- axes?:18-", "mode pads:-10 value:-10", pad},
    {"Reshape", "x shape", "allowzero:14-", reshape},
    {"Slice", "x starts:10- ends:10- axes?:10- steps?:10-", "starts:-9 ends:-9 axes:-9", slice},
    {"SpaceToDepth", "x", "blocksize", space_to_depth},
    {"Split", "x split?:13-", "axis split:-12 num_outputs:18-", split},
    {"Squeeze", "x axes?:13-", "axes:-12", squeeze},
    {"Tile", "x repeats", "", tile},
    {"Transpose", "x", "perm", transpose},
    {"Unsqueeze", "x axes:13-", "axes:-12", unsqueeze},
};

}  // namespace

const std::span<const OnnxRow> kShapeRows = kRows;

}  // namespace solder
