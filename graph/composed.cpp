// What the builder makes of other nodes.

#include "graph/all_or_nothing.h"
#include "graph/graph.h"
#include "graph/nodes/node_def.h"
#include "runtime/check.h"

namespace solder {

Value Graph::tile(Value x, std::vector<int64_t> repeats) {
  const AllOrNothing guard(this);
  const std::string name = next_name("tile");
  Shape shape = checked_type(x, "tile").shape;
  while (repeats.size() < shape.size()) repeats.insert(repeats.begin(), 1);
  if (repeats.size() > shape.size()) {
    shape.insert(shape.begin(), repeats.size() - shape.size(), 1);
    x = reshape_to(x, shape, "tile");
  }
  // One axis at a time: what lies inside of it is one block, repeated.
  for (size_t axis = shape.size(); axis-- > 0;) {
    SOLDER_REQUIRE(repeats[axis] >= 0, invalid_argument, name, ": ", repeats[axis], " repeats of axis ",
                   axis);
    if (repeats[axis] == 1) continue;
    const auto here = shape.begin() + static_cast<int64_t>(axis);
    const int64_t outer = num_elements({shape.begin(), here}), inner = num_elements({here, shape.end()});
    SOLDER_REQUIRE(!__builtin_mul_overflow(shape[axis], repeats[axis], &shape[axis]), invalid_argument, name,
                   ": axis ", axis, " has more than 2^63 elements");
    require_size({shape, type(x).dtype}, name);
    x = expand(reshape_to(x, {outer, 1, inner}, "tile"), {outer, repeats[axis], inner});
    x = reshape_to(x, shape, "tile");
  }
  return x;
}

Value Graph::depth_to_space(Value x, int64_t block, bool crd) {
  const AllOrNothing guard(this);
  const std::string name = next_name("depth_to_space");
  const Shape s = checked_type(x, "depth_to_space").shape;
  SOLDER_REQUIRE(s.size() == 4 && block > 0 && block < (int64_t{1} << 31) && s[1] % (block * block) == 0,
                 shape_mismatch, name, ": x must be [N, C * block^2, H, W] for a block of ", block, ", not ",
                 to_string(s));
  int64_t height = 0, width = 0;
  SOLDER_REQUIRE(
      !__builtin_mul_overflow(s[2], block, &height) && !__builtin_mul_overflow(s[3], block, &width),
      invalid_argument, name, ": an axis of ", to_string(s), " times ", block,
      " has more than 2^63 elements");
  const int64_t c = s[1] / (block * block);
  const Value parts =
      crd ? permute(reshape_to(x, {s[0], c, block, block, s[2], s[3]}, "depth_to_space"), {0, 1, 4, 2, 5, 3})
          : permute(reshape_to(x, {s[0], block, block, c, s[2], s[3]}, "depth_to_space"), {0, 3, 4, 1, 5, 2});
  return reshape_to(parts, {s[0], c, height, width}, "depth_to_space");
}

Value Graph::space_to_depth(Value x, int64_t block) {
  const AllOrNothing guard(this);
  const std::string name = next_name("space_to_depth");
  const Shape s = checked_type(x, "space_to_depth").shape;
  SOLDER_REQUIRE(
      s.size() == 4 && block > 0 && block < (int64_t{1} << 31) && s[2] % block == 0 && s[3] % block == 0,
      shape_mismatch, name, ": x must be [N, C, H * block, W * block] for a block of ", block, ", not ",
      to_string(s));
  int64_t channels = 0;
  SOLDER_REQUIRE(!__builtin_mul_overflow(s[1], block * block, &channels), invalid_argument, name,
                 ": the channels of ", to_string(s), " times ", block, "^2 are more than 2^63");
  const Shape parts{s[0], s[1], s[2] / block, block, s[3] / block, block};
  return reshape_to(permute(reshape_to(x, parts, "space_to_depth"), {0, 3, 5, 1, 2, 4}),
                    {s[0], channels, s[2] / block, s[3] / block}, "space_to_depth");
}

Value Graph::global_pool(Value x, Reduction reduction, const char* op) {
  const size_t rank = checked_type(x, op).shape.size();
  SOLDER_REQUIRE(rank >= 3, shape_mismatch, next_name(op), ": x must be [N, C, ...], not ",
                 to_string(type(x).shape));
  std::vector<int> axes;
  for (size_t axis = 2; axis < rank; ++axis) axes.push_back(static_cast<int>(axis));
  return reduce(x, axes, true, reduction, op);
}

Value Graph::global_avg_pool(Value x) { return global_pool(x, Reduction::mean, "global_avg_pool"); }
Value Graph::global_max_pool(Value x) { return global_pool(x, Reduction::max, "global_max_pool"); }

void Graph::require_affine(Value weight, Value bias, const TensorType& expected, const char* op) const {
  for (const Value value : {weight, bias})
    SOLDER_REQUIRE(checked_type(value, op) == expected, shape_mismatch, next_name(op),
                   ": weight and bias must be ", to_string(expected), "; one is ", to_string(type(value)));
}

// (x - mean) / sqrt(variance + eps) in float32, with mean and variance of x over the axes.
Value Graph::normalized(Value x, const std::vector<int>& axes, float eps) {
  const Value wide = cast(x, DType::float32);
  const Value centred = sub(wide, mean(wide, axes, true));
  return mul(centred, rsqrt(add(mean(square(centred), axes, true), eps)));
}

Value Graph::layer_norm(Value x, Value weight, Value bias, int num_axes, float eps) {
  const AllOrNothing guard(this);
  const std::string name = next_name("layer_norm");
  const TensorType x_type = checked_type(x, "layer_norm");
  const int rank = static_cast<int>(x_type.shape.size());
  SOLDER_REQUIRE(num_axes >= 1 && num_axes <= rank, invalid_argument, name, ": ", num_axes, " axes of ",
                 to_string(x_type.shape));
  require_affine(weight, bias, {{x_type.shape.end() - num_axes, x_type.shape.end()}, x_type.dtype},
                 "layer_norm");
  std::vector<int> axes;
  for (int axis = rank - num_axes; axis < rank; ++axis) axes.push_back(axis);
  const Value scaled = mul(normalized(x, axes, eps), cast(weight, DType::float32));
  return cast(add(scaled, cast(bias, DType::float32)), x_type.dtype);
}

Value Graph::group_norm(Value x, Value weight, Value bias, int64_t groups, float eps) {
  const AllOrNothing guard(this);
  const std::string name = next_name("group_norm");
  const TensorType x_type = checked_type(x, "group_norm");
  const Shape& s = x_type.shape;
  SOLDER_REQUIRE(s.size() >= 2 && groups > 0 && s[1] % groups == 0, shape_mismatch, name,
                 ": x must be [N, C, ...] with C a multiple of ", groups, " groups, not ", to_string(s));
  require_affine(weight, bias, {{s[1]}, x_type.dtype}, "group_norm");
  const Shape channel = channel_shape(s);
  const int64_t group_elems = s[1] / groups * num_elements({s.begin() + 2, s.end()});
  const Value grouped = normalized(reshape_to(x, {s[0], groups, group_elems}, "group_norm"), {2}, eps);
  const Value scaled = mul(reshape_to(grouped, s, "group_norm"),
                           reshape_to(cast(weight, DType::float32), channel, "group_norm"));
  return cast(add(scaled, reshape_to(cast(bias, DType::float32), channel, "group_norm")), x_type.dtype);
}

Value Graph::lrn(Value x, int64_t size, float alpha, float beta, float bias) {
  const AllOrNothing guard(this);
  const std::string name = next_name("lrn");
  const TensorType x_type = checked_type(x, "lrn");
  const Shape& s = x_type.shape;
  SOLDER_REQUIRE(s.size() >= 2 && size >= 1 && size < (int64_t{1} << 31), shape_mismatch, name,
                 ": x must be [N, C, ...] and size from 1 to 2^31 - 1, not ", to_string(s), " and ", size);
  if (num_elements(s) == 0) return x;
  const Value wide = cast(x, DType::float32);
  // A mean over channels that counts what lies outside as zeros is a pool along them.
  const int64_t plane = num_elements({s.begin() + 2, s.end()});
  const Value rows = reshape_to(square(wide), {s[0], 1, s[1], plane}, "lrn");
  const Value means =
      avg_pool2d(rows, {.kernel = {size, 1}, .stride = 1, .padding = {size / 2, 0, (size - 1) / 2, 0}});
  const Value base = add(mul(reshape_to(means, s, "lrn"), alpha), bias);
  return cast(div(wide, pow(base, beta)), x_type.dtype);
}

Value Graph::conv_transpose2d(Value x, Value w, const ConvTranspose2dOptions& options) {
  const AllOrNothing guard(this);
  const std::string name = next_name("conv_transpose2d");
  const Shape xs = checked_type(x, "conv_transpose2d").shape, ws = checked_type(w, "conv_transpose2d").shape;
  const auto& [stride, padding, extra, dilation, groups] = options;
  SOLDER_REQUIRE(xs.size() == 4 && ws.size() == 4 && groups > 0 && xs[1] == ws[0] && xs[1] % groups == 0 &&
                     xs[2] > 0 && xs[3] > 0,
                 shape_mismatch, name,
                 ": x must be [N, C, H, W], H and W at least 1, and w [C, K / groups, R, S] with groups ",
                 groups, ", not ", to_string(xs), " and ", to_string(ws));
  SOLDER_REQUIRE(stride.h > 0 && stride.w > 0 && dilation.h > 0 && dilation.w > 0, invalid_argument, name,
                 ": stride and dilation must be positive");
  for (const int64_t term : {stride.h, stride.w, dilation.h, dilation.w, padding.top, padding.left,
                             padding.bottom, padding.right, extra.h, extra.w, ws[2], ws[3]})
    SOLDER_REQUIRE(term > -(int64_t{1} << 31) && term < int64_t{1} << 31, unsupported, name, ": ", term,
                   ": strides, dilations, paddings and kernel extents must be below 2^31");
  // The same sums as a convolution: of x with zeros between its pixels and around it, by the filters turned by half a
  // turn, their input and output channels exchanged. Of parameters that is worked out once, by compile().
  const int64_t reach_h = dilation.h * (ws[2] - 1), reach_w = dilation.w * (ws[3] - 1);
  Node spread{.kind = NodeKind::pad, .name = name + "_spread", .inputs = {x}};
  spread.attributes =
      PadAttributes{.before = {0, 0, reach_h - padding.top, reach_w - padding.left},
                    .after = {0, 0, reach_h - padding.bottom + extra.h, reach_w - padding.right + extra.w},
                    .interior = {0, 0, stride.h - 1, stride.w - 1}};
  const Value wide = add_node(std::move(spread));
  const Shape seen = type(wide).shape;
  SOLDER_REQUIRE(seen[2] > reach_h && seen[3] > reach_w, shape_mismatch, name,
                 ": the padding leaves nothing of x ", to_string(xs), " by w ", to_string(ws));
  const int64_t c = ws[0] / groups, k = ws[1];
  Value filters = reshape_to(w, {groups, c, k, ws[2], ws[3]}, "conv_transpose2d");
  filters = slice(slice(filters, 3, -1, INT64_MIN, -1), 4, -1, INT64_MIN, -1);
  filters = reshape_to(permute(filters, {0, 2, 1, 3, 4}), {groups * k, c, ws[2], ws[3]}, "conv_transpose2d");
  return conv2d(wide, filters, {.dilation = dilation, .groups = groups, .name = name});
}

Value Graph::biased_conv_transpose2d(Value x, Value w, Value bias, const ConvTranspose2dOptions& options) {
  const AllOrNothing guard(this);
  const std::string name = next_name("conv_transpose2d");
  const Value y = conv_transpose2d(x, w, options);
  const TensorType expected{{type(y).shape[1]}, type(y).dtype};
  SOLDER_REQUIRE(checked_type(bias, "conv_transpose2d") == expected, shape_mismatch, name, ": bias must be ",
                 to_string(expected), ", one value an output channel; it is ", to_string(type(bias)));
  return add(y, per_channel(bias));
}

}  // namespace solder
