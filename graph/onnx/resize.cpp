// Rows of Resize and Upsample: up to two axes of any tensor, which solder's resize takes as rows and columns.

#include <algorithm>
#include <cmath>

#include "graph/onnx/arguments.h"
#include "graph/onnx/resample.h"
#include "runtime/check.h"

namespace solder {
namespace {

// floor(extent * scale) as exporters and other runtimes work it out, in float32: 3 times 1.6666666 is 5. Where it is a
// whole number, coordinates are those of the extents: 0.33333334 is meant to be a third.
OnnxTarget scaled(int64_t extent, double scale) {
  const float size = static_cast<float>(extent) * static_cast<float>(scale);
  SOLDER_REQUIRE(size < 0x1p31f, io, extent, " times ", scale, " is too large");
  return {.size = static_cast<int64_t>(size), .scale = std::floor(size) == size ? 0 : scale};
}

// One or two axes by solder's resize, which takes them as rows and columns of images.
Value resize_images(OnnxCall& call, const std::vector<OnnxTarget>& targets, std::vector<int> axes,
                    ResizeOptions options) {
  Graph& graph = call.graph();
  const Shape x = call.shape(0);
  std::vector<int> order;
  // Images as they are, where their rows or columns alone change.
  if (x.size() == 4 && axes[0] >= 2) axes = {2, 3};
  for (int axis = 0; axis < call.rank(0); ++axis)
    if (std::ranges::count(axes, axis) == 0) order.push_back(axis);
  order.insert(order.end(), axes.begin(), axes.end());
  const OnnxTarget rows = axes.size() == 2 ? targets[static_cast<size_t>(axes[0])] : OnnxTarget{.size = 1};
  const OnnxTarget columns = targets[static_cast<size_t>(axes.back())];
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

bool changes(const OnnxTarget& target, int64_t extent) {
  return target.size != extent || target.scale != 0 || target.begin != 0 || target.end != 1;
}

// x resized to `targets`, one an axis.
Value resized(OnnxCall& call, const std::vector<OnnxTarget>& targets, const OnnxResizing& rules) {
  const Shape x = call.shape(0);
  std::vector<int> axes;
  bool is_fractional = false;
  for (size_t axis = 0; axis < x.size(); ++axis) {
    if (!changes(targets[axis], x[axis])) continue;
    axes.push_back(static_cast<int>(axis));
    is_fractional |= targets[axis].scale != 0;
  }
  if (axes.empty()) return call.value(0);
  // The standard aligns corners with extent * scale, whole or not.
  const bool aligns_fractions =
      is_fractional && rules.options.coordinates == ResizeCoordinates::align_corners;
  if (axes.size() <= 2 && !rules.is_cubic && !rules.is_cropped && !rules.antialias && !aligns_fractions)
    return resize_images(call, targets, axes, rules.options);
  Value y = call.value(0);
  for (const int axis : axes) y = resample(call, y, axis, targets[static_cast<size_t>(axis)], rules);
  return y;
}

std::vector<double> scales_at(OnnxCall& call, size_t i) {
  if (!call.has(i) || num_elements(call.shape(i)) == 0) return {};
  const OnnxConstant& known = call.constant(i);
  SOLDER_REQUIRE(known.is_real(), io, "the scales are ", to_string(known.type));
  for (const double each : known.reals)
    SOLDER_REQUIRE(each > 0 && std::isfinite(each), io, "a scale is ", each);
  return known.reals;
}

OnnxResizing rules_of(OnnxCall& call) {
  OnnxResizing rules;
  const std::string mode = call.text("mode", "nearest");
  rules.is_cubic = mode == "cubic";
  rules.options.mode = call.named<ResizeMode>("mode", "nearest",
                                              {{"nearest", ResizeMode::nearest},
                                               {"linear", ResizeMode::bilinear},
                                               {"bilinear", ResizeMode::bilinear},
                                               {"cubic", ResizeMode::bilinear}});
  const std::string coordinates =
      call.text("coordinate_transformation_mode", call.opset() < 11 ? "asymmetric" : "half_pixel");
  rules.is_cropped = coordinates == "tf_crop_and_resize";
  using enum ResizeCoordinates;
  rules.options.coordinates =
      call.named<ResizeCoordinates>("coordinate_transformation_mode", coordinates.c_str(),
                                    {{"half_pixel", half_pixel},
                                     {"half_pixel_symmetric", half_pixel_symmetric},
                                     {"pytorch_half_pixel", pytorch_half_pixel},
                                     {"align_corners", align_corners},
                                     {"asymmetric", asymmetric},
                                     {"tf_crop_and_resize", asymmetric}});
  rules.options.rounding =
      call.named<ResizeRounding>("nearest_mode", call.opset() < 11 ? "floor" : "round_prefer_floor",
                                 {{"round_prefer_floor", ResizeRounding::round_prefer_floor},
                                  {"round_prefer_ceil", ResizeRounding::round_prefer_ceil},
                                  {"floor", ResizeRounding::floor},
                                  {"ceil", ResizeRounding::ceil}});
  rules.antialias = call.integer("antialias", 0) != 0 && rules.options.mode != ResizeMode::nearest;
  rules.excludes_outside = call.integer("exclude_outside", 0) != 0;
  rules.cubic_a = call.real("cubic_coeff_a", -0.75f);
  rules.extrapolation = call.real("extrapolation_value", 0);
  return rules;
}

// Sizes under keep_aspect_ratio_policy: one scale for all axes.
void keep_aspect_ratio(const Shape& x, const std::vector<int>& axes, const std::string& policy,
                       std::vector<OnnxTarget>* targets) {
  ONNX_REQUIRE(policy == "not_larger" || policy == "not_smaller", "keep_aspect_ratio_policy = ", policy);
  double scale = policy == "not_larger" ? INFINITY : 0;
  for (const int axis : axes) {
    const auto i = static_cast<size_t>(axis);
    const double each = static_cast<double>((*targets)[i].size) / static_cast<double>(x[i]);
    scale = policy == "not_larger" ? std::min(scale, each) : std::max(scale, each);
  }
  for (const int axis : axes) {
    OnnxTarget& target = (*targets)[static_cast<size_t>(axis)];
    target.scale = scale;
    const double size = std::floor(scale * static_cast<double>(x[static_cast<size_t>(axis)]) + 0.5);
    SOLDER_REQUIRE(size < 0x1p31, io, "a size is ", size);
    target.size = static_cast<int64_t>(size);
  }
}

void resize(OnnxCall& call) {
  const Shape& x = call.shape(0);
  const OnnxResizing rules = rules_of(call);
  std::vector<int> axes = axes_from(0, call.rank(0));
  if (call.has_attribute("axes")) axes = as_axes(call.integers("axes"), call.rank(0));
  std::vector<OnnxTarget> targets;
  for (const int64_t extent : x) targets.push_back({.size = extent});
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
  if (rules.is_cropped) {
    const std::vector<double> roi = call.constant(1).reals;
    SOLDER_REQUIRE(roi.size() == 2 * axes.size(), io, "roi has ", roi.size(), " numbers for ", axes.size(),
                   " axes");
    for (const double each : roi) SOLDER_REQUIRE(std::fabs(each) < 0x1p31, io, "roi has ", each);
    for (size_t i = 0; i < axes.size(); ++i) {
      targets[static_cast<size_t>(axes[i])].begin = roi[i];
      targets[static_cast<size_t>(axes[i])].end = roi[i + axes.size()];
    }
  }
  call.give(resized(call, targets, rules));
}

void upsample(OnnxCall& call) {
  std::vector<double> scales = scales_at(call, 1);
  if (call.opset() < 9)
    for (const float each : call.reals("scales")) scales.push_back(each);
  SOLDER_REQUIRE(scales.size() == call.shape(0).size(), io, scales.size(), " scales for ",
                 to_string(call.shape(0)));
  std::vector<OnnxTarget> targets;
  for (const double scale : scales) {
    SOLDER_REQUIRE(scale > 0 && std::isfinite(scale), io, "a scale is ", scale);
    targets.push_back(scaled(call.shape(0)[targets.size()], scale));
  }
  call.give(resized(call, targets, rules_of(call)));
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
