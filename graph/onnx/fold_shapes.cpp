// The folder's other half: constants, and operators that move elements of known tensors about.

#include <algorithm>
#include <cmath>
#include <numeric>

#include "graph/onnx/arguments.h"
#include "runtime/check.h"

namespace solder {
namespace {

int64_t extent(const Shape& shape, int axis) { return shape[static_cast<size_t>(axis)]; }

// A tensor of `shape` whose elements are x's at the places that next() says, in row-major order.
template <class Next>
OnnxConstant taken(const OnnxConstant& x, const Shape& shape, Next next) {
  require_foldable(shape, x.type);
  OnnxConstant result{.type = x.type, .shape = shape};
  for (int64_t i = 0, count = num_elements(shape); i < count; ++i) {
    const auto from = static_cast<size_t>(next(i));
    if (x.is_real())
      result.reals.push_back(x.reals[from]);
    else
      result.ints.push_back(x.ints[from]);
  }
  return result;
}

// Indices of one axis of x, the others whole.
OnnxConstant taken_along(const OnnxConstant& x, int axis, const std::vector<int64_t>& indices) {
  Shape shape = x.shape;
  shape[static_cast<size_t>(axis)] = std::ssize(indices);
  const int64_t inner = num_elements(Shape(shape.begin() + axis + 1, shape.end()));
  return taken(x, shape, [&](int64_t i) {
    const int64_t outer = i / inner / std::ssize(indices), which = i / inner % std::ssize(indices);
    return (outer * extent(x.shape, axis) + indices[static_cast<size_t>(which)]) * inner + i % inner;
  });
}

// Element i of `shape` read in x by these strides.
OnnxConstant strided(const OnnxConstant& x, const Shape& shape, const std::vector<int64_t>& strides) {
  return taken(x, shape, [&](int64_t i) {
    int64_t from = 0;
    for (size_t axis = shape.size(); axis-- > 0; i /= shape[axis]) from += i % shape[axis] * strides[axis];
    return from;
  });
}

std::vector<int64_t> strides_of(const Shape& shape) {
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
  return strides;
}

void constant_of_shape(OnnxCall& call) {
  const Shape shape(call.integers_at(0));
  call.give(taken(fill_value(call), shape, [](int64_t) { return 0; }));
}

void gather(OnnxCall& call) {
  const OnnxGather gather = gather_of(call);
  OnnxConstant result = taken_along(call.constant(0), gather.axis, gather.indices);
  result.shape = gather.shape;
  call.give(std::move(result));
}

void slice(OnnxCall& call) {
  OnnxConstant x = call.constant(0);
  for (const OnnxSlice& each : slices_of(call)) {
    const int64_t length = extent(x.shape, each.axis);
    const int64_t low = each.step > 0 ? 0 : -1, high = each.step > 0 ? length : length - 1;
    const auto cut = [&](int64_t index) {
      return std::clamp(index < 0 ? (index < -length ? low : index + length) : index, low, high);
    };
    std::vector<int64_t> places;
    const int64_t stop = cut(each.stop);
    for (int64_t i = cut(each.start); each.step > 0 ? i < stop : i > stop; i += each.step) {
      places.push_back(i);
      if (each.step > length || each.step < -length) break;
    }
    x = taken_along(x, each.axis, places);
  }
  call.give(std::move(x));
}

void concat(OnnxCall& call) {
  SOLDER_REQUIRE(call.num_inputs() > 0, io, "it has no inputs");
  const int axis = as_axis(call.integer("axis"), call.rank(0));
  OnnxConstant result{.type = call.type(0), .shape = call.shape(0)};
  result.shape[static_cast<size_t>(axis)] = 0;
  for (size_t i = 0; i < call.num_inputs(); ++i) {
    Shape rest = call.shape(i);
    SOLDER_REQUIRE(rest.size() == result.shape.size() && call.type(i) == result.type, io,
                   "its inputs differ in rank or type");
    result.shape[static_cast<size_t>(axis)] += extent(rest, axis);
    rest[static_cast<size_t>(axis)] = extent(result.shape, axis);
    SOLDER_REQUIRE(rest == result.shape, shape_mismatch, "its inputs differ in more than axis ", axis);
  }
  require_foldable(result.shape, result.type);
  const int64_t outer = num_elements(Shape(result.shape.begin(), result.shape.begin() + axis));
  for (int64_t row = 0; row < outer; ++row)
    for (size_t i = 0; i < call.num_inputs(); ++i) {
      const OnnxConstant& part = call.constant(i);
      const int64_t count = part.size() / outer;
      if (part.is_real())
        result.reals.insert(result.reals.end(), part.reals.begin() + row * count,
                            part.reals.begin() + (row + 1) * count);
      else
        result.ints.insert(result.ints.end(), part.ints.begin() + row * count,
                           part.ints.begin() + (row + 1) * count);
    }
  call.give(std::move(result));
}

void split(OnnxCall& call) {
  const OnnxConstant x = call.constant(0);
  const int axis = as_axis(call.integer("axis", 0), call.rank(0));
  const std::vector<int64_t> sizes = split_sizes(call, axis);
  int64_t start = 0;
  require_foldable(x.shape, x.type);  // before any part is given
  for (size_t i = 0; i < sizes.size(); ++i) {
    SOLDER_REQUIRE(sizes[i] >= 0 && sizes[i] <= extent(x.shape, axis) - start, io, "sizes exceed axis ",
                   axis);
    std::vector<int64_t> places(static_cast<size_t>(sizes[i]));
    std::iota(places.begin(), places.end(), start);
    call.give(taken_along(x, axis, places), i);
    start += sizes[i];
  }
}

void transpose(OnnxCall& call) {
  const OnnxConstant& x = call.constant(0);
  const std::vector<int64_t> strides = strides_of(x.shape);
  Shape shape;
  std::vector<int64_t> moved;
  for (const int axis : permutation(call)) {
    shape.push_back(extent(x.shape, axis));
    moved.push_back(strides[static_cast<size_t>(axis)]);
  }
  call.give(strided(x, shape, moved));
}

void expand(OnnxCall& call) {
  const OnnxConstant& x = call.constant(0);
  const Shape wanted(call.integers_at(1));
  Shape shape;
  SOLDER_REQUIRE(broadcast(x.shape, wanted, &shape), shape_mismatch, to_string(x.shape),
                 " does not broadcast to ", to_string(wanted));
  std::vector<int64_t> own = strides_of(x.shape), strides(shape.size() - x.shape.size(), 0);
  for (size_t i = 0; i < own.size(); ++i) strides.push_back(x.shape[i] == 1 ? 0 : own[i]);
  call.give(strided(x, shape, strides));
}

void tile(OnnxCall& call) {
  OnnxConstant x = call.constant(0);
  const std::vector<int64_t> repeats = call.integers_at(1);
  SOLDER_REQUIRE(repeats.size() == x.shape.size(), io, repeats.size(), " repeats for ", to_string(x.shape));
  for (size_t axis = 0; axis < repeats.size(); ++axis) {
    SOLDER_REQUIRE(repeats[axis] >= 0 && repeats[axis] <= kMostFoldedElems, io, "repeats has ",
                   repeats[axis]);
    std::vector<int64_t> places;
    for (int64_t i = 0; i < repeats[axis]; ++i)
      for (int64_t j = 0; j < x.shape[axis]; ++j) places.push_back(j);
    x = taken_along(x, static_cast<int>(axis), places);
  }
  call.give(std::move(x));
}

// Over one axis: products and sums of extents.
template <bool is_product>
void reduce(OnnxCall& call) {
  const OnnxConstant x = call.constant(0);
  const bool keeps = call.integer("keepdims", 1) != 0;
  const auto axes = call.list(1, "axes");
  if ((!axes || axes->empty()) && call.integer("noop_with_empty_axes", 0) != 0)
    return call.give(call.item(0));
  if (x.shape.size() > 1)
    throw OnnxNotFolded(ErrorKind::unsupported, str("of a known tensor ", to_string(x.shape)));
  if (axes) as_axes(*axes, call.rank(0));
  OnnxConstant result{.type = x.type, .shape = Shape(keeps ? x.shape.size() : 0, 1)};
  uint64_t whole = is_product;
  double real = is_product;
  for (const int64_t each : x.ints)
    is_product ? whole *= static_cast<uint64_t>(each) : whole += static_cast<uint64_t>(each);
  for (const double each : x.reals) is_product ? real *= each : real += each;
  if (x.is_real())
    result.reals = {real};
  else
    result.ints = {static_cast<int64_t>(whole)};
  call.give(std::move(result));
}

constexpr OnnxFold kRows[] = {
    {"Concat", concat},
    {"ConstantOfShape", constant_of_shape},
    {"Expand", expand},
    {"Gather", gather},
    {"ReduceProd", reduce<true>},
    {"ReduceSum", reduce<false>},
    {"Slice", slice},
    {"Split", split},
    {"Tile", tile},
    {"Transpose", transpose},
};

}  // namespace

const std::span<const OnnxFold> kFoldedShapes = kRows;

OnnxConstant fill_value(OnnxCall& call) {
  if (!call.has_attribute("value")) return {.type = OnnxType::float32, .shape = {1}, .reals = {0}};
  OnnxConstant value = call.known("value");
  SOLDER_REQUIRE(value.size() == 1, io, "value has ", value.size(), " elements, not one");
  return value;
}

}  // namespace solder
