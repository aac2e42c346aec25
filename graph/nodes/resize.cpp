#include <algorithm>
#include <cmath>

#include "graph/nodes/node_def.h"
#include "ops/resize/resize.h"
#include "runtime/check.h"
#include "runtime/context.h"

namespace solder {
namespace {

constexpr int64_t kMostExtent = (int64_t{1} << 31) - 1;  // of a tap's index

const ResizeAttributes& attributes_of(const Node& node) {
  return std::get<ResizeAttributes>(node.attributes);
}

const char* to_string(ResizeMode mode) { return mode == ResizeMode::nearest ? "nearest" : "bilinear"; }

const char* to_string(ResizeCoordinates coordinates) {
  switch (coordinates) {
    case ResizeCoordinates::half_pixel: return "half_pixel";
    case ResizeCoordinates::half_pixel_symmetric: return "half_pixel_symmetric";
    case ResizeCoordinates::pytorch_half_pixel: return "pytorch_half_pixel";
    case ResizeCoordinates::align_corners: return "align_corners";
    case ResizeCoordinates::asymmetric: return "asymmetric";
  }
  return "?";
}

const char* to_string(ResizeRounding rounding) {
  switch (rounding) {
    case ResizeRounding::floor: return "floor";
    case ResizeRounding::ceil: return "ceil";
    case ResizeRounding::round_prefer_floor: return "round_prefer_floor";
    case ResizeRounding::round_prefer_ceil: return "round_prefer_ceil";
  }
  return "?";
}

// One axis of a resize.
struct Axis {
  int64_t in, out;
  double scale;

  // Where index i of `out` reads, in indices of `in`; not cut to them. With the scale that the extents have, in whole
  // numbers but for one division: ties and whole numbers are met exactly.
  double coordinate(int64_t i, ResizeCoordinates coordinates) const {
    const bool is_exact = static_cast<double>(out) / static_cast<double>(in) == scale;
    const auto ratio = [](int64_t a, int64_t b) { return static_cast<double>(a) / static_cast<double>(b); };
    const auto half_pixel = [&] {
      return is_exact ? ratio((2 * i + 1) * in - out, 2 * out) : (static_cast<double>(i) + 0.5) / scale - 0.5;
    };
    switch (coordinates) {
      case ResizeCoordinates::half_pixel: return half_pixel();
      case ResizeCoordinates::half_pixel_symmetric:  // as far from the middle of x as i is from the result's
        return is_exact ? half_pixel() : ratio(2 * i + 1 - out, 2) / scale + ratio(in - 1, 2);
      case ResizeCoordinates::pytorch_half_pixel: return out > 1 ? half_pixel() : 0;
      case ResizeCoordinates::align_corners: return out > 1 ? ratio(i * (in - 1), out - 1) : 0;
      case ResizeCoordinates::asymmetric:
        return is_exact ? ratio(i * in, out) : static_cast<double>(i) / scale;
    }
    return 0;
  }

  ResizeTap tap(int64_t i, const ResizeAttributes& options) const {
    const double last = static_cast<double>(in - 1), at = coordinate(i, options.coordinates);
    if (options.mode == ResizeMode::bilinear) {
      const double inside = std::clamp(at, 0.0, last), low = std::floor(inside);
      const float weight = static_cast<float>(inside - low);
      if (weight < 1) return {static_cast<int32_t>(low), weight};
      return {static_cast<int32_t>(low) + 1, 0};
    }
    double index = 0;
    switch (options.rounding) {
      case ResizeRounding::floor: index = std::floor(at); break;
      case ResizeRounding::ceil: index = std::ceil(at); break;
      case ResizeRounding::round_prefer_floor: index = std::ceil(at - 0.5); break;
      case ResizeRounding::round_prefer_ceil: index = std::floor(at + 0.5); break;
    }
    return {static_cast<int32_t>(std::clamp(index, 0.0, last)), 0};
  }

  std::vector<ResizeTap> taps(const ResizeAttributes& options) const {
    std::vector<ResizeTap> taps;
    taps.reserve(static_cast<size_t>(out));
    for (int64_t i = 0; i < out; ++i) taps.push_back(tap(i, options));
    return taps;
  }
};

// The output's extents say what the result's are.
std::vector<TensorType> infer(const Node& node, std::span<const TensorType> inputs) {
  const Scale scale = attributes_of(node).scale;
  TensorType result = inputs[0];
  const Shape x = result.shape;
  SOLDER_REQUIRE(x.size() == 4, shape_mismatch, node.name, ": x must be [N, C, H, W], not ", to_string(x));
  SOLDER_REQUIRE(node.outputs.size() == 1 && node.outputs[0].shape.size() == 4, invalid_argument, node.name,
                 ": its result has no size");
  for (size_t axis : {2, 3}) {
    const int64_t extent = node.outputs[0].shape[axis];
    const double factor = axis == 2 ? scale.h : scale.w;
    const char* of = axis == 2 ? " rows" : " columns";
    SOLDER_REQUIRE(extent >= 0 && std::max(extent, x[axis]) <= kMostExtent, invalid_argument, node.name, ": ",
                   x[axis], of, " to ", extent, "; there may be from 0 to ", kMostExtent);
    SOLDER_REQUIRE((extent == 0) == (x[axis] == 0), shape_mismatch, node.name, ": ", x[axis], of, " of ",
                   to_string(x), " cannot become ", extent);
    SOLDER_REQUIRE(std::isfinite(factor) && factor > 0, invalid_argument, node.name, ": scale ", factor,
                   " of", of, " must be positive and finite");
    result.shape[axis] = extent;
  }
  return {result};
}

std::string attributes(const Node& node) {
  const auto& [scale, mode, coordinates, rounding] = attributes_of(node);
  const Shape& y = node.outputs[0].shape;
  return str(" size=", y[2], ",", y[3], " scale=", scale.h, ",", scale.w, " mode=", to_string(mode),
             " coordinates=", to_string(coordinates)) +
         (mode == ResizeMode::nearest ? str(" rounding=", to_string(rounding)) : "");
}

// The tables of rows and columns are constants.
class ResizeRun final : public NodeRun {
 public:
  explicit ResizeRun(const PlanRequest& request) {
    const ResizeAttributes& options = attributes_of(request.node);
    const Shape &x = request.inputs[0].shape, &y = request.outputs[0].shape;
    plan.path = request.device != nullptr ? "one kernel" : "loops, CPU";
    if (num_elements(y) == 0) return;
    std::vector<ResizeTap> taps = Axis{x[2], y[2], options.scale.h}.taps(options);
    resize_.row_repeats = equal_rows(taps);
    const std::vector<ResizeTap> columns = Axis{x[3], y[3], options.scale.w}.taps(options);
    taps.insert(taps.end(), columns.begin(), columns.end());
    resize_.is_blended = std::ranges::any_of(taps, [](ResizeTap tap) { return tap.weight != 0; });
    constants = constants_of(std::as_bytes(std::span(taps)));
  }

  Launch bind(const BoundNode& node, const Context* context) const override {
    const auto* rows = static_cast<const ResizeTap*>(node.constants);
    if (rows == nullptr) return [] {};
    return [resize = resize_, context, x = node.inputs[0], y = node.outputs[0], rows,
            columns = rows + node.outputs[0].shape[2], threads = node.pool] {
      if constexpr (kWithCuda)
        if (context != nullptr) return resize_cuda(*context, resize, x, y, rows, columns);
      resize_cpu(resize, x, y, rows, columns, threads);
    };
  }

 private:
  // How many neighbours are the same throughout, up to four: more would leave few threads.
  static int64_t equal_rows(const std::vector<ResizeTap>& rows) {
    const auto are_equal = [&](size_t count) {
      if (rows.size() % count != 0) return false;
      for (size_t p = 0; p < rows.size(); ++p)
        if (rows[p].index != rows[p - p % count].index || rows[p].weight != rows[p - p % count].weight)
          return false;
      return true;
    };
    return are_equal(4) ? 4 : are_equal(3) ? 3 : are_equal(2) ? 2 : 1;
  }

  Resize resize_;
};

// An extent from the options' size or else scale, and the scale for coordinates.
int64_t resized(int64_t extent, int64_t size, double* scale, const std::string& node) {
  SOLDER_REQUIRE(size >= 0 && *scale >= 0 && (size > 0 || *scale > 0) && std::isfinite(*scale),
                 invalid_argument, node, ": size ", size, " and scale ", *scale,
                 "; it needs a positive size or a positive scale");
  if (size == 0) {
    const double scaled = std::floor(static_cast<double>(extent) * *scale);
    SOLDER_REQUIRE(scaled <= static_cast<double>(kMostExtent), invalid_argument, node, ": ", extent,
                   " times ", *scale, " is more than ", kMostExtent);
    return static_cast<int64_t>(scaled);
  }
  if (*scale == 0) *scale = extent > 0 ? static_cast<double>(size) / static_cast<double>(extent) : 1;
  return size;
}

}  // namespace

extern const NodeDef kResizeNode;
constexpr NodeDef kResizeNode{
    .kind = NodeKind::resize,
    .name = "resize",
    .num_inputs = 1,
    .attributes_index = index_of<ResizeAttributes>(),
    .takes = Strides::any,
    .stores = Strides::any,
    .infer = infer,
    .attributes = attributes,
    .selects = [](const Node& node) { return attributes_of(node).mode == ResizeMode::nearest; },
    .plan = planned<ResizeRun>};

Value Graph::resize(Value x, const ResizeOptions& options) {
  const std::string name = next_name("resize");
  TensorType type = checked_type(x, "resize");
  SOLDER_REQUIRE(type.shape.size() == 4, shape_mismatch, name, ": x must be [N, C, H, W], not ",
                 to_string(type.shape));
  Scale scale = options.scale;
  type.shape[2] = resized(type.shape[2], options.size.h, &scale.h, name);
  type.shape[3] = resized(type.shape[3], options.size.w, &scale.w, name);
  const auto usual =
      options.mode == ResizeMode::nearest ? ResizeCoordinates::asymmetric : ResizeCoordinates::half_pixel;
  return add_node({.kind = NodeKind::resize,
                   .name = name,
                   .inputs = {x},
                   .outputs = {type},
                   .attributes = ResizeAttributes{scale, options.mode, options.coordinates.value_or(usual),
                                                  options.rounding}});
}

}  // namespace solder
