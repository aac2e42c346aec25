#include "text_calls.h"

#include <algorithm>
#include <climits>

namespace solder_run {

using solder::Graph;
using solder::Value;

solder::DType parse_dtype(std::string_view text) {
  for (const solder::DType dtype : {solder::DType::float32, solder::DType::float16, solder::DType::bfloat16})
    if (text == to_string(dtype)) return dtype;
  syntax_error(in_quotes(text) + " is not a dtype: float32, float16 or bfloat16");
}

namespace {

// What an int cannot hold is no axis either.
int as_axis(int64_t number) { return static_cast<int>(std::clamp<int64_t>(number, INT_MIN, INT_MAX)); }

std::vector<int> as_axes(const std::vector<int64_t>& numbers) {
  std::vector<int> axes;
  for (const int64_t number : numbers) axes.push_back(as_axis(number));
  return axes;
}

// One number for both, or rows and columns.
solder::Pair take_pair(Call& call, std::string_view key, std::optional<int64_t> fallback) {
  const std::vector<int64_t> v = call.take_integers(key, fallback, {1, 2});
  return {v.front(), v.back()};
}

// One number, rows and columns, or top, left, bottom and right.
solder::Padding take_padding(Call& call) {
  const std::vector<int64_t> p = call.take_integers("padding", 0, {1, 2, 4});
  return p.size() == 4 ? solder::Padding(p[0], p[1], p[2], p[3]) : solder::Padding(p.front(), p.back());
}

Value conv2d(CallSite& s) {
  solder::Conv2dOptions options{.name = std::string(s.call.name())};
  options.stride = take_pair(s.call, "stride", 1);
  options.dilation = take_pair(s.call, "dilation", 1);
  options.groups = s.call.take_integer("groups", 1);
  options.padding = take_padding(s.call);
  return s.x.size() == 3 ? s.graph.conv2d(s.x[0], s.x[1], s.x[2], options)
                         : s.graph.conv2d(s.x[0], s.x[1], options);
}

Value conv_transpose2d(CallSite& s) {
  solder::ConvTranspose2dOptions options;
  options.stride = take_pair(s.call, "stride", 1);
  options.dilation = take_pair(s.call, "dilation", 1);
  options.output_padding = take_pair(s.call, "output_padding", 0);
  options.groups = s.call.take_integer("groups", 1);
  options.padding = take_padding(s.call);
  return s.x.size() == 3 ? s.graph.conv_transpose2d(s.x[0], s.x[1], s.x[2], options)
                         : s.graph.conv_transpose2d(s.x[0], s.x[1], options);
}

Value slice(CallSite& s) {
  const int64_t step = s.call.take_integer("step", 1), axis = s.call.take_integer("axis", {});
  const int64_t start = s.call.take_integer("start", step > 0 ? 0 : -1);
  const int64_t stop = s.call.take_integer("stop", step > 0 ? INT64_MAX : INT64_MIN);
  return s.graph.slice(s.x[0], as_axis(axis), start, stop, step);
}

solder::Pool2dOptions take_pool(Call& call) {
  solder::Pool2dOptions options;
  options.kernel = take_pair(call, "kernel", {});
  options.stride = take_pair(call, "stride", 0);
  options.dilation = take_pair(call, "dilation", 1);
  options.padding = take_padding(call);
  options.ceil_mode = call.take_flag("ceil_mode", false);
  return options;
}

Value avg_pool2d(CallSite& s) {
  solder::Pool2dOptions options = take_pool(s.call);
  options.count_include_pad = s.call.take_flag("count_include_pad", true);
  return s.graph.avg_pool2d(s.x[0], options);
}

template <Value (Graph::*kReduce)(Value, const std::vector<int>&, bool)>
Value reduce(CallSite& s) {
  const std::vector<int> axes = as_axes(s.call.take_list("axes", std::vector<int64_t>{}));
  return (s.graph.*kReduce)(s.x[0], axes, s.call.take_flag("keep_dims", false));
}

template <Value (Graph::*kSoftmax)(Value, int)>
Value softmax(CallSite& s) {
  return (s.graph.*kSoftmax)(s.x[0], as_axis(s.call.take_integer("axis", -1)));
}

Value resize(CallSite& s) {
  using enum solder::ResizeCoordinates;
  using enum solder::ResizeRounding;
  solder::ResizeOptions options;
  options.size = take_pair(s.call, "size", 0);
  const std::vector<double> scale = s.call.take_doubles("scale", 0, 2);
  options.scale = {scale.front(), scale.back()};
  options.mode = s.call.take_word<solder::ResizeMode>(
      "mode", options.mode,
      {{"nearest", solder::ResizeMode::nearest}, {"bilinear", solder::ResizeMode::bilinear}});
  options.coordinates = s.call.take_word<std::optional<solder::ResizeCoordinates>>(
      "coordinates", {},
      {{"half_pixel", half_pixel},
       {"half_pixel_symmetric", half_pixel_symmetric},
       {"pytorch_half_pixel", pytorch_half_pixel},
       {"align_corners", align_corners},
       {"asymmetric", asymmetric}});
  options.rounding = s.call.take_word<solder::ResizeRounding>("rounding", floor,
                                                              {{"floor", floor},
                                                               {"ceil", ceil},
                                                               {"round_prefer_floor", round_prefer_floor},
                                                               {"round_prefer_ceil", round_prefer_ceil}});
  return s.graph.resize(s.x[0], options);
}

Value pad(CallSite& s) {
  const std::vector<int64_t> before = s.call.take_list("before", {}), after = s.call.take_list("after", {});
  const auto mode = s.call.take_word<solder::PadMode>("mode", solder::PadMode::constant,
                                                      {{"constant", solder::PadMode::constant},
                                                       {"reflect", solder::PadMode::reflect},
                                                       {"edge", solder::PadMode::edge}});
  const float value = s.call.take_float("value", 0.0f);
  const std::vector<int64_t> interior = s.call.take_list("interior", std::vector<int64_t>{});
  if (interior.empty()) return s.graph.pad(s.x[0], before, after, mode, value);
  return s.graph.add_node({.kind = solder::NodeKind::pad,
                           .name = std::string(s.call.name()),
                           .inputs = {s.x[0]},
                           .attributes = solder::PadAttributes{before, after, interior, mode, value}});
}

Value lrn(CallSite& s) {
  const int64_t size = s.call.take_integer("size", {});
  const float alpha = s.call.take_float("alpha", 1e-4f), beta = s.call.take_float("beta", 0.75f);
  return s.graph.lrn(s.x[0], size, alpha, beta, s.call.take_float("bias", 1.0f));
}

float take_eps(CallSite& s) { return s.call.take_float("eps", 1e-5f); }

constexpr BuilderCall kCalls[] = {
    {"conv2d", 2, 3, conv2d},
    {"conv_transpose2d", 2, 3, conv_transpose2d},
    {"matmul", 2, 2, [](CallSite& s) { return s.graph.matmul(s.x[0], s.x[1]); }},
    {"linear", 2, 3,
     [](CallSite& s) {
       return s.x.size() == 3 ? s.graph.linear(s.x[0], s.x[1], s.x[2]) : s.graph.linear(s.x[0], s.x[1]);
     }},
    {"reshape", 1, 1, [](CallSite& s) { return s.graph.reshape(s.x[0], s.call.take_list("shape", {})); }},
    {"flatten", 1, 1,
     [](CallSite& s) { return s.graph.flatten(s.x[0], as_axis(s.call.take_integer("from_axis", 1))); }},
    {"squeeze", 1, 1,
     [](CallSite& s) {
       return s.graph.squeeze(s.x[0], as_axes(s.call.take_list("axes", std::vector<int64_t>{})));
     }},
    {"unsqueeze", 1, 1,
     [](CallSite& s) { return s.graph.unsqueeze(s.x[0], as_axes(s.call.take_list("axes", {}))); }},
    {"permute", 1, 1,
     [](CallSite& s) { return s.graph.permute(s.x[0], as_axes(s.call.take_list("axes", {}))); }},
    {"expand", 1, 1, [](CallSite& s) { return s.graph.expand(s.x[0], s.call.take_list("shape", {})); }},
    {"tile", 1, 1, [](CallSite& s) { return s.graph.tile(s.x[0], s.call.take_list("repeats", {})); }},
    {"per_channel", 1, 1, [](CallSite& s) { return s.graph.per_channel(s.x[0]); }},
    {"slice", 1, 1, slice},
    {"concat", 1, SIZE_MAX,
     [](CallSite& s) { return s.graph.concat(s.x, as_axis(s.call.take_integer("axis", {}))); }},
    {"max_pool2d", 1, 1, [](CallSite& s) { return s.graph.max_pool2d(s.x[0], take_pool(s.call)); }},
    {"avg_pool2d", 1, 1, avg_pool2d},
    {"global_avg_pool", 1, 1, [](CallSite& s) { return s.graph.global_avg_pool(s.x[0]); }},
    {"global_max_pool", 1, 1, [](CallSite& s) { return s.graph.global_max_pool(s.x[0]); }},
    {"mean", 1, 1, reduce<&Graph::mean>},
    {"sum", 1, 1, reduce<&Graph::sum>},
    {"reduce_max", 1, 1, reduce<&Graph::reduce_max>},
    {"reduce_min", 1, 1, reduce<&Graph::reduce_min>},
    {"softmax", 1, 1, softmax<&Graph::softmax>},
    {"log_softmax", 1, 1, softmax<&Graph::log_softmax>},
    {"gather", 1, 1,
     [](CallSite& s) {
       const int axis = as_axis(s.call.take_integer("axis", {}));
       return s.graph.gather(s.x[0], axis, s.call.take_list("indices", {}));
     }},
    {"resize", 1, 1, resize},
    {"pad", 1, 1, pad},
    {"depth_to_space", 1, 1,
     [](CallSite& s) {
       const int64_t block = s.call.take_integer("block", {});
       return s.graph.depth_to_space(s.x[0], block, s.call.take_flag("crd", false));
     }},
    {"space_to_depth", 1, 1,
     [](CallSite& s) { return s.graph.space_to_depth(s.x[0], s.call.take_integer("block", {})); }},
    {"batch_norm", 5, 5,
     [](CallSite& s) { return s.graph.batch_norm(s.x[0], s.x[1], s.x[2], s.x[3], s.x[4], take_eps(s)); }},
    {"layer_norm", 3, 3,
     [](CallSite& s) {
       const int num_axes = as_axis(s.call.take_integer("num_axes", 1));
       return s.graph.layer_norm(s.x[0], s.x[1], s.x[2], num_axes, take_eps(s));
     }},
    {"group_norm", 3, 3,
     [](CallSite& s) {
       const int64_t groups = s.call.take_integer("groups", {});
       return s.graph.group_norm(s.x[0], s.x[1], s.x[2], groups, take_eps(s));
     }},
    {"lrn", 1, 1, lrn},
    {"where", 3, 3, [](CallSite& s) { return s.graph.where(s.x[0], s.x[1], s.x[2]); }},
    {"cast", 1, 1, [](CallSite& s) {
       const auto dtype = s.call.take("dtype");
       if (!dtype) syntax_error("cast needs dtype=float32, float16 or bfloat16");
       return s.graph.cast(s.x[0], parse_dtype(*dtype));
     }}};

}  // namespace

const BuilderCall* builder_call(std::string_view name) {
  for (const BuilderCall& call : kCalls)
    if (name == call.name) return &call;
  return nullptr;
}

std::vector<std::string> builder_call_names() {
  std::vector<std::string> names;
  for (const BuilderCall& call : kCalls) names.emplace_back(call.name);
  return names;
}

}  // namespace solder_run
