// Rows of Resize and Upsample: up to two axes of any tensor, which solder's resize takes as rows and columns.

#include <algorithm>
#include <cmath>
#include <numeric>

#include "graph/onnx/arguments.h"
#include "runtime/check.h"

namespace solder {
namespace {

// What an axis becomes.
struct Target {
  int64_t size = 0;
  double scale = 0;  // by which coordinates are worked out; 0: that of the extents
};

// floor(extent * scale) as exporters and other runtimes work it out, in float32: 3 times 1.6666666 is 5. Where it is a
// whole number, coordinates are those of the extents: 0.33333334 is meant to be a third.
Target scaled(int64_t extent, double scale) {
  const float size = static_cast<float>(extent) * static_cast<float>(scale);
  SOLDER_REQUIRE(size < 0x1p31f, io, extent, " times ", scale, " is too large");
  return {static_cast<int64_t>(size), std::floor(size) == size ? 0 : scale};
}

// x's `axes`, one or two that ascend, as rows and columns of one image.
Value resize_axes(OnnxCall& call, const std::vector<Target>& targets, ResizeOptions options) {
  Graph& graph = call.graph();
  const Shape x = call.shape(0);
  std::vector<int> axes, order;
  for (size_t axis = 0; axis < x.size(); ++axis) {
    const bool changes = targets[axis].size != x[axis] || targets[axis].scale != 0;
    (changes ? axes : order).push_back(static_cast<int>(axis));
  }
  if (axes.empty()) return call.value(0);
  ONNX_REQUIRE(axes.size() <= 2, "of ", axes.size(), " axes; solder resizes one or two");
  // Images as they are, where their rows or columns alone change.
  if (x.size() == 4 && axes[0] >= 2) axes = {2, 3}, order = {0, 1};
  order.insert(order.end(), axes.begin(), axes.end());
  const Target rows = axes.size() == 2 ? targets[static_cast<size_t>(axes[0])] : Target{1, 0};
  const Target columns = targets[static_cast<size_t>(axes.back())];
  const bool is_image = x.size() == 4 && axes.size() == 2;
  options.size = {rows.size, columns.size};
  options.scale = {rows.scale, columns.scale};
  const bool is_ordered = std::ranges::is_sorted(order);
  Value image = is_ordered ? call.value(0) : graph.permute(call.value(0), order);
  const Shape moved = graph.type(image).shape;
  if (!is_image) {
    const auto middle = moved.end() - static_cast<std::ptrdiff_t>(axes.size());
    image = call.reshape(
        image, {1, num_elements(Shape(moved.begin(), middle)), axes.size() == 2 ? *middle : 1, moved.back()});
  }
  Value y = graph.resize(image, options);
  if (!is_image) {
    Shape shape = moved;
    shape.back() = graph.type(y).shape[3];
    if (axes.size() == 2) shape[shape.size() - 2] = graph.type(y).shape[2];
    y = call.reshape(y, shape);
  }
  if (is_ordered) return y;
  std::vector<int> back(order.size());
  for (size_t i = 0; i < order.size(); ++i) back[static_cast<size_t>(order[i])] = static_cast<int>(i);
  return graph.permute(y, back);
}

std::vector<double> scales_at(OnnxCall& call, size_t i) {
  if (!call.has(i) || num_elements(call.shape(i)) == 0) return {};
  const OnnxConstant& known = call.constant(i);
  SOLDER_REQUIRE(known.is_real(), io, "the scales are ", to_string(known.type));
  for (const double each : known.reals)
    SOLDER_REQUIRE(each > 0 && std::isfinite(each), io, "a scale is ", each);
  return known.reals;
}

ResizeMode mode_of(OnnxCall& call) {
  const std::string mode = call.text("mode", "nearest");
  ONNX_REQUIRE(mode == "nearest" || mode == "linear" || mode == "bilinear", "mode = ", mode);
  return mode == "nearest" ? ResizeMode::nearest : ResizeMode::bilinear;
}

ResizeCoordinates coordinates_of(OnnxCall& call) {
  if (call.opset() < 11) return ResizeCoordinates::asymmetric;
  const std::string name = call.text("coordinate_transformation_mode", "half_pixel");
  if (name == "half_pixel") return ResizeCoordinates::half_pixel;
  if (name == "half_pixel_symmetric") return ResizeCoordinates::half_pixel_symmetric;
  if (name == "pytorch_half_pixel") return ResizeCoordinates::pytorch_half_pixel;
  if (name == "align_corners") return ResizeCoordinates::align_corners;
  if (name == "asymmetric") return ResizeCoordinates::asymmetric;
  ONNX_REQUIRE(false, "coordinate_transformation_mode = ", name);
  return {};
}

ResizeRounding rounding_of(OnnxCall& call) {
  if (call.opset() < 11) return ResizeRounding::floor;
  const std::string name = call.text("nearest_mode", "round_prefer_floor");
  if (name == "round_prefer_floor") return ResizeRounding::round_prefer_floor;
  if (name == "round_prefer_ceil") return ResizeRounding::round_prefer_ceil;
  if (name == "floor") return ResizeRounding::floor;
  if (name == "ceil") return ResizeRounding::ceil;
  ONNX_REQUIRE(false, "nearest_mode = ", name);
  return {};
}

// Sizes under keep_aspect_ratio_policy: one scale for all axes.
void keep_aspect_ratio(const Shape& x, const std::vector<int>& axes, const std::string& policy,
                       std::vector<Target>* targets) {
  ONNX_REQUIRE(policy == "not_larger" || policy == "not_smaller", "keep_aspect_ratio_policy = ", policy);
  double scale = policy == "not_larger" ? INFINITY : 0;
  for (const int axis : axes) {
    const auto i = static_cast<size_t>(axis);
    const double each = static_cast<double>((*targets)[i].size) / static_cast<double>(x[i]);
    scale = policy == "not_larger" ? std::min(scale, each) : std::max(scale, each);
  }
  for (const int axis : axes) {
    Target& target = (*targets)[static_cast<size_t>(axis)];
    target.scale = scale;
    const double size = std::floor(scale * static_cast<double>(x[static_cast<size_t>(axis)]) + 0.5);
    SOLDER_REQUIRE(size < 0x1p31, io, "a size is ", size);
    target.size = static_cast<int64_t>(size);
  }
}

// The standard aligns corners with extent * scale, whole or not; where it is not, that is a scale from the first corner.
void align_fractions(const Shape& x, std::vector<Target>* targets, ResizeCoordinates* coordinates) {
  if (std::ranges::all_of(*targets, [](const Target& each) { return each.scale == 0; })) return;
  *coordinates = ResizeCoordinates::asymmetric;
  for (size_t axis = 0; axis < x.size(); ++axis) {
    Target& target = (*targets)[axis];
    if (target.scale == 0 && target.size == x[axis]) continue;
    const double in = static_cast<double>(x[axis]);
    const double out = target.scale == 0 ? static_cast<double>(target.size) : in * target.scale;
    target.scale = in > 1 && out > 1 ? (out - 1) / (in - 1) : 1;
  }
}

void resize(OnnxCall& call) {
  const Shape& x = call.shape(0);
  call.only("exclude_outside", 0), call.only("antialias", 0);
  std::vector<int> axes(x.size());
  std::iota(axes.begin(), axes.end(), 0);
  if (call.has_attribute("axes")) axes = as_axes(call.integers("axes"), call.rank(0));
  std::vector<Target> targets;
  for (const int64_t extent : x) targets.push_back({extent, 0});
  const std::vector<double> scales = scales_at(call, call.opset() < 11 ? 1 : 2);
  if (!scales.empty()) {
    SOLDER_REQUIRE(scales.size() == axes.size(), io, scales.size(), " scales for ", axes.size(), " axes");
    for (size_t i = 0; i < axes.size(); ++i)
      targets[static_cast<size_t>(axes[i])] = scaled(x[static_cast<size_t>(axes[i])], scales[i]);
  } else {
    const std::vector<int64_t> sizes = call.integers_at(3);
    SOLDER_REQUIRE(sizes.size() == axes.size(), io, sizes.size(), " sizes for ", axes.size(), " axes");
    for (size_t i = 0; i < axes.size(); ++i) {
      SOLDER_REQUIRE(sizes[i] > 0, io, "a size is ", sizes[i]);
      targets[static_cast<size_t>(axes[i])].size = sizes[i];
    }
  }
  const std::string policy = call.text("keep_aspect_ratio_policy", "stretch");
  if (scales.empty() && policy != "stretch") keep_aspect_ratio(x, axes, policy, &targets);
  ResizeCoordinates coordinates = coordinates_of(call);
  if (coordinates == ResizeCoordinates::align_corners) align_fractions(x, &targets, &coordinates);
  call.give(resize_axes(call, targets,
                        {.mode = mode_of(call), .coordinates = coordinates, .rounding = rounding_of(call)}));
}

void upsample(OnnxCall& call) {
  std::vector<double> scales = scales_at(call, 1);
  if (call.opset() < 9)
    for (const float each : call.reals("scales")) scales.push_back(each);
  SOLDER_REQUIRE(scales.size() == call.shape(0).size(), io, scales.size(), " scales for ",
                 to_string(call.shape(0)));
  std::vector<Target> targets;
  for (const double scale : scales) {
    SOLDER_REQUIRE(scale > 0 && std::isfinite(scale), io, "a scale is ", scale);
    targets.push_back(scaled(call.shape(0)[targets.size()], scale));
  }
  call.give(resize_axes(call, targets,
                        {.mode = mode_of(call),
                         .coordinates = ResizeCoordinates::asymmetric,
                         .rounding = ResizeRounding::floor}));
}

constexpr OnnxRow kRows[] = {
    {"Resize", "x roi?:11- scales? sizes?:11-",
     "mode coordinate_transformation_mode:11- cubic_coeff_a:11- exclude_outside:11- extrapolation_value:11- "
     "nearest_mode:11- antialias:18- axes:18- keep_aspect_ratio_policy:18-",
     resize},
    {"Upsample", "x scales:9-", "mode scales:-8", upsample}};

}  // namespace

const std::span<const OnnxRow> kResizeRows = kRows;

}  // namespace solder
