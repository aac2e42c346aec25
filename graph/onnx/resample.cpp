#include "graph/onnx/resample.h"

#include <algorithm>
#include <cmath>

#include "graph/onnx/arguments.h"
#include "runtime/check.h"

namespace solder {
namespace {

// Where element i of the result stands in an axis of `extent`, https://onnx.ai/onnx/operators/onnx__Resize.html.
double place_of(const OnnxResizing& rules, const OnnxTarget& target, int64_t extent, int64_t i) {
  const auto in = static_cast<double>(extent), at = static_cast<double>(i);
  const double scale = target.scale != 0 ? target.scale : static_cast<double>(target.size) / in;
  const double out = in * scale;
  if (rules.is_cropped) {
    const double length = (target.end - target.begin) * (in - 1);
    return target.begin * (in - 1) + (out > 1 ? at * length / (out - 1) : length / 2);
  }
  switch (*rules.options.coordinates) {
    case ResizeCoordinates::align_corners: return out > 1 ? at * (in - 1) / (out - 1) : 0;
    case ResizeCoordinates::asymmetric: return at / scale;
    case ResizeCoordinates::pytorch_half_pixel: return out > 1 ? (at + 0.5) / scale - 0.5 : 0;
    case ResizeCoordinates::half_pixel: return (at + 0.5) / scale - 0.5;
    case ResizeCoordinates::half_pixel_symmetric: break;
  }
  return in / 2 * (1 - static_cast<double>(target.size) / out) + (at + 0.5) / scale - 0.5;
}

double nearest_to(ResizeRounding rounding, double place) {
  switch (rounding) {
    case ResizeRounding::floor: return std::floor(place);
    case ResizeRounding::ceil: return std::ceil(place);
    case ResizeRounding::round_prefer_floor: return std::ceil(place - 0.5);
    case ResizeRounding::round_prefer_ceil: break;
  }
  return std::floor(place + 0.5);
}

// The share of an element that lies `distance` away: a triangle, or the cubic convolution of Keys 1981.
double share_of(const OnnxResizing& rules, double distance) {
  const double t = std::fabs(distance), a = rules.cubic_a;
  if (!rules.is_cubic) return std::max(0.0, 1 - t);
  if (t <= 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  return t < 2 ? a * (((t - 5) * t + 8) * t - 4) : 0;
}

// The shares [extent] of an axis's elements in the result's element at `place`; its border goes on outside.
std::vector<double> shares_at(const OnnxResizing& rules, double place, double scale, int64_t extent) {
  std::vector<double> shares(static_cast<size_t>(extent));
  const auto last = static_cast<double>(extent - 1);
  const auto share = [&](double idx) -> double& {
    return shares[static_cast<size_t>(std::clamp(idx, 0.0, last))];
  };
  if (rules.options.mode == ResizeMode::nearest) {
    share(nearest_to(rules.options.rounding, place)) = 1;
    return shares;
  }
  const double stretch = rules.antialias ? std::min(scale, 1.0) : 1;
  const double reach = (rules.is_cubic ? 2 : 1) / stretch;
  double sum = 0;
  for (double idx = std::floor(place - reach) + 1; idx < place + reach; ++idx) {
    if (rules.excludes_outside && (idx < 0 || idx > last)) continue;
    const double each = share_of(rules, (idx - place) * stretch);
    share(idx) += each, sum += each;
  }
  for (double& each : shares) each /= sum;
  return shares;
}

}  // namespace

Value resample(OnnxCall& call, Value x, int axis, const OnnxTarget& target, const OnnxResizing& rules) {
  Graph& graph = call.graph();
  const TensorType type = graph.type(x);
  const int64_t extent = type.shape[static_cast<size_t>(axis)], size = target.size;
  SOLDER_REQUIRE(extent > 0, shape_mismatch, "of ", to_string(type.shape));
  call.import().charge(num_elements({extent, size}));
  Tensor matrix = Tensor::empty({extent, size}), beyond = Tensor::empty({size});
  bool is_beyond = false;
  const double scale =
      target.scale != 0 ? target.scale : static_cast<double>(size) / static_cast<double>(extent);
  for (int64_t i = 0; i < size; ++i) {
    const double place = place_of(rules, target, extent, i);
    const bool is_outside = rules.is_cropped && (place < 0 || place > static_cast<double>(extent - 1));
    is_beyond |= is_outside;
    beyond.floats()[static_cast<size_t>(i)] = is_outside ? static_cast<float>(rules.extrapolation) : 0;
    const std::vector<double> shares = shares_at(rules, place, scale, extent);
    for (int64_t j = 0; j < extent; ++j)
      matrix.floats()[static_cast<size_t>(j * size + i)] =
          is_outside ? 0 : static_cast<float>(shares[static_cast<size_t>(j)]);
  }
  std::vector<int> order = axes_from(0, static_cast<int>(type.shape.size()));
  std::swap(order[static_cast<size_t>(axis)], order.back());
  Value y = graph.permute(graph.cast(x, DType::float32), order);
  Shape moved = graph.type(y).shape;
  y = call.reshape(y, {num_elements(moved) / extent, extent});
  y = graph.matmul(y, call.import().parameter(call.label() + ".shares", std::move(matrix)));
  if (is_beyond) y = graph.add(y, call.import().parameter(call.label() + ".beyond", std::move(beyond)));
  moved.back() = size;
  return graph.cast(graph.permute(call.reshape(y, moved), order), type.dtype);
}

}  // namespace solder
