#include "graph/onnx/arguments.h"

#include <algorithm>
#include <numeric>

#include "runtime/check.h"

namespace solder {

std::vector<int> as_axes(const std::vector<int64_t>& axes, int rank) {
  std::vector<int> result;
  for (const int64_t axis : axes) {
    SOLDER_REQUIRE(axis >= -rank && axis < rank, io, "axis ", axis, " of a tensor of rank ", rank);
    result.push_back(static_cast<int>(axis < 0 ? axis + rank : axis));
  }
  return result;
}

std::vector<int> axes_from(int axis, int rank) {
  std::vector<int> axes(static_cast<size_t>(rank - axis));
  std::iota(axes.begin(), axes.end(), axis);
  return axes;
}

int as_axis(int64_t axis, int rank) { return as_axes({axis}, rank)[0]; }

std::vector<OnnxSlice> slices_of(OnnxCall& call) {
  const std::vector<int64_t> none, starts = call.list(1, "starts").value_or(none),
                                   stops = call.list(2, "ends").value_or(none);
  std::vector<int64_t> named(starts.size());
  std::iota(named.begin(), named.end(), 0);
  if (const auto given = call.list(3, "axes")) named = *given;
  std::vector<int64_t> steps(starts.size(), 1);
  if (call.has(4)) steps = call.integers_at(4);
  SOLDER_REQUIRE(
      stops.size() == starts.size() && named.size() == starts.size() && steps.size() == starts.size(), io,
      "starts, ends, axes and steps differ in number");
  const std::vector<int> axes = as_axes(named, call.rank(0));
  std::vector<OnnxSlice> slices;
  for (size_t i = 0; i < starts.size(); ++i) {
    SOLDER_REQUIRE(steps[i] != 0 && steps[i] != INT64_MIN, io, "a step of ", steps[i]);
    slices.push_back({axes[i], starts[i], stops[i], steps[i]});
  }
  return slices;
}

OnnxGather gather_of(OnnxCall& call) {
  const Shape x = call.shape(0);
  const OnnxConstant& indices = call.constant(1);
  SOLDER_REQUIRE(!indices.is_real(), io, "the indices are ", to_string(indices.type));
  OnnxGather gather{as_axis(call.integer("axis", 0), call.rank(0)), indices.ints, x};
  const int64_t extent = x[static_cast<size_t>(gather.axis)];
  for (int64_t& each : gather.indices) {
    SOLDER_REQUIRE(each >= -extent && each < extent, io, "index ", each, " of axis ", gather.axis, " of ",
                   to_string(x));
    if (each < 0) each += extent;
  }
  const auto place = gather.shape.erase(gather.shape.begin() + gather.axis);
  gather.shape.insert(place, indices.shape.begin(), indices.shape.end());
  return gather;
}

std::vector<int64_t> split_sizes(OnnxCall& call, int axis) {
  if (const auto given = call.list(1, "split"); given && !given->empty()) {
    SOLDER_REQUIRE(given->size() == call.num_outputs(), io, "split has ", given->size(), " sizes for ",
                   call.num_outputs(), " outputs");
    return *given;
  }
  const auto count = static_cast<int64_t>(call.num_outputs());
  const int64_t parts = call.integer("num_outputs", count);
  const int64_t extent = call.shape(0)[static_cast<size_t>(axis)];
  SOLDER_REQUIRE(parts == count && parts > 0, io, "num_outputs is ", parts, "; there are ", count);
  const int64_t size = extent / parts + (extent % parts != 0);
  SOLDER_REQUIRE(call.opset() >= 18 || extent % parts == 0, io, "axis ", axis, " of ",
                 to_string(call.shape(0)), " has no ", parts, " equal parts");
  std::vector<int64_t> sizes(static_cast<size_t>(parts), size);
  int64_t left = extent;
  for (int64_t& each : sizes) each = std::clamp<int64_t>(left, 0, size), left -= each;
  return sizes;
}

std::vector<int> permutation(OnnxCall& call) {
  std::vector<int> axes = as_axes(call.integers("perm"), call.rank(0));
  if (axes.empty()) {
    axes.resize(call.shape(0).size());
    std::iota(axes.rbegin(), axes.rend(), 0);
  }
  std::vector<int> sorted = axes;
  std::ranges::sort(sorted);
  SOLDER_REQUIRE(axes.size() == call.shape(0).size() && std::ranges::adjacent_find(sorted) == sorted.end(),
                 io, "perm does not name every axis of ", to_string(call.shape(0)), " once");
  return axes;
}

namespace {

constexpr int64_t kMostStep = int64_t{1} << 31;

Pair as_pair(const std::vector<int64_t>& numbers) {
  return numbers.size() == 1 ? Pair(1, numbers[0]) : Pair(numbers[0], numbers[1]);
}

}  // namespace

std::vector<int64_t> numbers_of(std::vector<int64_t> given, size_t count, int64_t fallback, int64_t least,
                                const char* what) {
  if (given.empty()) given.assign(count, fallback);
  SOLDER_REQUIRE(given.size() == count, io, what, " has ", given.size(), " numbers; x needs ", count);
  for (const int64_t each : given) SOLDER_REQUIRE(each >= least && each < kMostStep, io, what, " has ", each);
  return given;
}

OnnxWindow window_of(OnnxCall& call, bool has_filters) {
  const Shape& x = call.shape(0);
  ONNX_REQUIRE(x.size() == 3 || x.size() == 4, "of ", to_string(x),
               "; solder has windows of one and two axes");
  const size_t count = x.size() - 2;
  for (const int64_t extent : x)
    ONNX_REQUIRE(extent < kMostStep, "of ", to_string(x), "; extents are below 2^31");
  std::vector<int64_t> kernel;
  if (has_filters) {
    const Shape& w = call.shape(1);
    SOLDER_REQUIRE(w.size() == x.size(), shape_mismatch, "of ", to_string(x), " by filters ", to_string(w));
    kernel.assign(w.begin() + 2, w.end());
  }
  const std::vector<int64_t> said = call.integers("kernel_shape");
  SOLDER_REQUIRE(kernel.empty() || said.empty() || said == kernel, io, "kernel_shape ",
                 to_string(Shape(said)), " is not that of the weights, ", to_string(Shape(kernel)));
  if (kernel.empty()) kernel = said;
  SOLDER_REQUIRE(!kernel.empty(), io, "kernel_shape is missing");
  kernel = numbers_of(kernel, count, 1, 1, "kernel_shape");
  const std::vector<int64_t> strides = numbers_of(call.integers("strides"), count, 1, 1, "strides");
  const std::vector<int64_t> dilations = numbers_of(call.integers("dilations"), count, 1, 1, "dilations");
  std::vector<int64_t> pads = numbers_of(call.integers("pads"), 2 * count, 0, -kMostStep, "pads");
  const std::string rule = call.text("auto_pad", "NOTSET");
  ONNX_REQUIRE(rule == "NOTSET" || rule == "VALID" || rule == "SAME_UPPER" || rule == "SAME_LOWER",
               "auto_pad = ", rule);
  OnnxWindow window{as_pair(kernel), as_pair(strides), as_pair(dilations)};
  if (rule != "NOTSET") pads.assign(2 * count, 0);
  window.is_same = rule.starts_with("SAME");
  for (size_t i = 0; i < count && window.is_same; ++i) {
    const int64_t outputs = x[i + 2] / strides[i] + (x[i + 2] % strides[i] != 0);
    const int64_t reach = (kernel[i] - 1) * dilations[i] + 1;
    const int64_t total = std::max<int64_t>((outputs - 1) * strides[i] + reach - x[i + 2], 0);
    pads[i] = rule == "SAME_UPPER" ? total / 2 : total - total / 2;
    pads[i + count] = total - pads[i];
  }
  window.padding = count == 1 ? Padding(0, pads[0], 0, pads[1]) : Padding(pads[0], pads[1], pads[2], pads[3]);
  return window;
}

}  // namespace solder
