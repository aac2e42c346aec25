// Rows of convolutions, products, pools and normalisations.

#include <algorithm>
#include <numeric>

#include "graph/onnx/arguments.h"
#include "runtime/check.h"

namespace solder {
namespace {

void conv(OnnxCall& call) {
  Graph& graph = call.graph();
  const OnnxWindow window = window_of(call, true);
  const Conv2dOptions options{window.stride, window.padding, window.dilation, call.integer("group", 1),
                              call.label()};
  const Value x = call.value(0), filters = call.value(1);
  call.give(call.has(2) ? graph.conv2d(x, filters, call.value(2), options)
                        : graph.conv2d(x, filters, options));
}

// What output_shape asks for, as paddings: the sum is given out as the standard has it.
void pad_to(const std::vector<int64_t>& wanted, const Shape& x, const Pair& extra, bool is_upper,
            OnnxWindow* window) {
  const auto split = [&](int64_t extent, int64_t size, int64_t stride, int64_t reach, int64_t more,
                         int64_t* before, int64_t* after) {
    const int64_t total = stride * (extent - 1) + more + reach - size;
    // What is missing comes behind.
    *before = total < 0 ? 0 : is_upper ? total / 2 : total - total / 2;
    *after = total - *before;
  };
  Padding& padding = window->padding;
  split(x.back(), wanted.back(), window->stride.w, (window->kernel.w - 1) * window->dilation.w + 1, extra.w,
        &padding.left, &padding.right);
  if (wanted.size() == 2)
    split(x[2], wanted[0], window->stride.h, (window->kernel.h - 1) * window->dilation.h + 1, extra.h,
          &padding.top, &padding.bottom);
}

void conv_transpose(OnnxCall& call) {
  Graph& graph = call.graph();
  const Shape x_shape = call.shape(0);
  OnnxWindow window = window_of(call, true);
  const size_t count = x_shape.size() - 2;
  const std::vector<int64_t> extra =
      numbers_of(call.integers("output_padding"), count, 0, 0, "output_padding");
  std::vector<int64_t> wanted = call.integers("output_shape");
  if (wanted.size() == x_shape.size()) wanted.erase(wanted.begin(), wanted.begin() + 2);
  if (wanted.empty() && window.is_same)
    for (size_t i = 0; i < count; ++i)
      wanted.push_back(x_shape[i + 2] * (count == 1 || i == 1 ? window.stride.w : window.stride.h));
  const Pair more = count == 1 ? Pair(0, extra[0]) : Pair(extra[0], extra[1]);
  if (!wanted.empty()) {
    wanted = numbers_of(wanted, count, 0, 0, "output_shape");
    pad_to(wanted, x_shape, more, call.text("auto_pad", "NOTSET") == "SAME_UPPER", &window);
  }
  ConvTranspose2dOptions options{window.stride, window.padding, more, window.dilation,
                                 call.integer("group", 1)};
  Value x = call.value(0), w = call.value(1);
  if (count == 1) x = graph.unsqueeze(x, {2}), w = graph.unsqueeze(w, {2});
  Value y = call.has(2) ? graph.conv_transpose2d(x, w, call.value(2), options)
                        : graph.conv_transpose2d(x, w, options);
  call.give(count == 1 ? graph.squeeze(y, {2}) : y);
}

// numpy.matmul: vectors are rows or columns, leading axes broadcast.
void matmul(OnnxCall& call) {
  Graph& graph = call.graph();
  Value a = call.value(0), b = call.value(1);
  const bool is_row = call.rank(0) == 1, is_column = call.rank(1) == 1;
  ONNX_REQUIRE(call.rank(0) > 0 && call.rank(1) > 0, "of a scalar");
  if (is_row) a = graph.unsqueeze(a, {0});
  if (is_column) b = graph.unsqueeze(b, {1});
  const Shape as = graph.type(a).shape, bs = graph.type(b).shape;
  if (bs.size() > 2) {
    const Shape a_lead(as.begin(), as.end() - 2), b_lead(bs.begin(), bs.end() - 2);
    Shape lead;
    SOLDER_REQUIRE(broadcast(a_lead, b_lead, &lead), shape_mismatch, to_string(as), " and ", to_string(bs),
                   " do not broadcast");
    const auto expanded = [&](Value x, const Shape& from) {
      Shape to = lead;
      to.insert(to.end(), from.end() - 2, from.end());
      return to == from ? x : graph.expand(x, to);
    };
    a = expanded(a, as), b = expanded(b, bs);
  }
  Value y = graph.matmul(a, b);
  if (is_row) y = graph.squeeze(y, {static_cast<int>(graph.type(y).shape.size()) - 2});
  if (is_column) y = graph.squeeze(y, {static_cast<int>(graph.type(y).shape.size()) - 1});
  call.give(y);
}

void gemm(OnnxCall& call) {
  Graph& graph = call.graph();
  SOLDER_REQUIRE(call.rank(0) == 2 && call.rank(1) == 2, shape_mismatch, "of ", to_string(call.shape(0)),
                 " and ", to_string(call.shape(1)), "; both must be matrices");
  const float alpha = call.real("alpha", 1.0f), beta = call.real("beta", 1.0f);
  Value a = call.value(0);
  const Value b = call.value(1);
  if (call.integer("transA", 0) != 0) a = graph.permute(a, {1, 0});
  Value y = call.integer("transB", 0) != 0 ? graph.linear(a, b) : graph.matmul(a, b);
  if (alpha != 1) y = graph.mul(y, alpha);
  if (call.has(2) && beta != 0) {
    Shape result;
    SOLDER_REQUIRE(broadcast(graph.type(y).shape, call.shape(2), &result) && result == graph.type(y).shape,
                   shape_mismatch, "C ", to_string(call.shape(2)), " does not broadcast to ",
                   to_string(graph.type(y).shape));
    const Value c = call.value(2);
    y = graph.add(y, beta == 1 ? c : graph.mul(c, beta));
  }
  call.give(y);
}

void pool(OnnxCall& call) {
  const bool is_max = call.node().op == "MaxPool";
  if (is_max) call.only("storage_order", 0);
  Graph& graph = call.graph();
  const OnnxWindow window = window_of(call);
  Pool2dOptions options{.kernel = window.kernel,
                        .stride = window.stride,
                        .padding = window.padding,
                        .dilation = window.dilation,
                        .ceil_mode = call.integer("ceil_mode", 0) != 0 && !window.is_same};
  if (!is_max) options.count_include_pad = call.integer("count_include_pad", 0) != 0;
  const bool is_row = call.rank(0) == 3;
  const Value x = is_row ? graph.unsqueeze(call.value(0), {2}) : call.value(0);
  const Value y = is_max ? graph.max_pool2d(x, options) : graph.avg_pool2d(x, options);
  call.give(is_row ? graph.squeeze(y, {2}) : y);
}

void global_pool(OnnxCall& call) {
  const Value x = call.value(0);
  call.give(call.node().op == "GlobalMaxPool" ? call.graph().global_max_pool(x)
                                              : call.graph().global_avg_pool(x));
}

DType dtype_at(OnnxCall& call, size_t i) { return call.graph().type(call.value(i)).dtype; }

// In training by the mean and variance of x itself; what they are mixed into are results beside y.
void batch_norm(OnnxCall& call) {
  call.only("spatial", 1);
  Graph& graph = call.graph();
  // A 16-bit x often has float32 statistics, which may not fit its type, nor may the squares of x itself.
  const bool trains = call.integer("training_mode", 0) != 0;
  DType dtype = trains ? DType::float32 : dtype_at(call, 0);
  for (size_t i = 1; i < 5; ++i)
    if (dtype_at(call, i) != dtype) dtype = DType::float32;
  const Value x = call.value(0, dtype);
  Value mean = call.value(3, dtype), variance = call.value(4, dtype);
  if (trains) {
    SOLDER_REQUIRE(call.rank(0) >= 2, shape_mismatch, "of ", to_string(call.shape(0)));
    std::vector<int> axes(call.shape(0).size() - 1);
    std::iota(axes.begin(), axes.end(), 1);
    axes[0] = 0;
    const float kept = call.real("momentum", 0.9f);
    const auto mixed = [&](Value before, Value now) {
      return graph.add(graph.mul(before, kept), graph.mul(now, 1 - kept));
    };
    const Value centred = graph.sub(x, graph.mean(x, axes, true));
    const Value own_mean = graph.mean(x, axes), own_variance = graph.mean(graph.square(centred), axes);
    call.give(graph.cast(mixed(mean, own_mean), dtype_at(call, 3)), 1);
    call.give(graph.cast(mixed(variance, own_variance), dtype_at(call, 4)), 2);
    mean = own_mean, variance = own_variance;
  }
  const Value y = graph.batch_norm(x, call.value(1, dtype), call.value(2, dtype), mean, variance,
                                   call.real("epsilon", 1e-5f));
  call.give(graph.cast(y, dtype_at(call, 0)));
}

void instance_norm(OnnxCall& call) {
  SOLDER_REQUIRE(call.rank(0) >= 2, shape_mismatch, "of ", to_string(call.shape(0)));
  call.give(call.graph().group_norm(call.value(0), call.value(1), call.value(2), call.shape(0)[1],
                                    call.real("epsilon", 1e-5f)));
}

void group_norm(OnnxCall& call) {
  Graph& graph = call.graph();
  const int64_t groups = call.integer("num_groups");
  call.only("stash_type", 1);
  SOLDER_REQUIRE(call.rank(0) >= 2 && groups > 0 && call.shape(0)[1] % groups == 0, shape_mismatch, groups,
                 " groups of ", to_string(call.shape(0)));
  const int64_t channels = call.shape(0)[1];
  // Until opset 21 a number a group, then a number a channel.
  const auto a_channel = [&](size_t i) {
    const Value given = call.value(i, dtype_at(call, 0));
    if (call.opset() >= 21 || groups == channels) return given;
    const Value column = call.reshape(given, {groups, 1});
    return call.reshape(graph.expand(column, {groups, channels / groups}), {channels});
  };
  call.give(graph.group_norm(call.value(0), a_channel(1), a_channel(2), groups, call.real("epsilon", 1e-5f)));
}

void layer_norm(OnnxCall& call) {
  Graph& graph = call.graph();
  call.only("stash_type", 1);
  const int axis = as_axis(call.integer("axis", -1), call.rank(0));
  const Shape& x = call.shape(0);
  const Shape over(x.begin() + axis, x.end());
  const DType dtype = dtype_at(call, 0);
  const auto expanded = [&](size_t i) {
    const Value given = call.value(i, dtype);
    return graph.type(given).shape == over ? given : graph.expand(given, over);
  };
  const Value bias = call.has(2) ? expanded(2) : call.import().filled(call.label(), over, dtype, 0);
  const float epsilon = call.real("epsilon", 1e-5f);
  call.give(graph.layer_norm(call.value(0), expanded(1), bias, static_cast<int>(over.size()), epsilon));
  // Mean and 1 / standard deviation, of which training is fond.
  if (call.num_outputs() < 2) return;
  const std::vector<int> axes = axes_from(axis, call.rank(0));
  const Value wide = call.value(0, DType::float32), mean = graph.mean(wide, axes, true);
  call.give(mean, 1);
  const Value variance = graph.mean(graph.square(graph.sub(wide, mean)), axes, true);
  call.give(graph.rsqrt(graph.add(variance, epsilon)), 2);
}

void rms_norm(OnnxCall& call) {
  Graph& graph = call.graph();
  call.only("stash_type", 1);
  const int rank = call.rank(0), axis = as_axis(call.integer("axis", -1), rank);
  const Value x = call.value(0, DType::float32);
  const Value square = graph.mean(graph.square(x), axes_from(axis, rank), true);
  const Value unit = graph.mul(x, graph.rsqrt(graph.add(square, call.real("epsilon", 1e-5f))));
  const DType dtype = dtype_at(call, 0);
  call.give(graph.mul(graph.cast(unit, dtype), call.value(1, dtype)));
}

void mean_variance_norm(OnnxCall& call) {
  Graph& graph = call.graph();
  const std::vector<int64_t> given =
      call.has_attribute("axes") ? call.integers("axes") : std::vector<int64_t>{0, 2, 3};
  const std::vector<int> axes = as_axes(given, call.rank(0));
  const Value x = call.value(0, DType::float32), centered = graph.sub(x, graph.mean(x, axes, true));
  const Value deviation = graph.sqrt(graph.mean(graph.square(centered), axes, true));
  call.give(graph.cast(graph.div(centered, graph.add(deviation, 1e-9f)), dtype_at(call, 0)));
}

void lrn(OnnxCall& call) {
  const int64_t size = call.integer("size");
  ONNX_REQUIRE(size > 0 && size % 2 == 1, "size = ", size, "; solder has odd ones");
  call.give(call.graph().lrn(call.value(0), size, call.real("alpha", 1e-4f), call.real("beta", 0.75f),
                             call.real("bias", 1.0f)));
}

constexpr OnnxRow kRows[] = {
    {"AveragePool", "x", "auto_pad kernel_shape pads strides count_include_pad ceil_mode:10- dilations:19-",
     pool},
    {"BatchNormalization", "x scale bias mean variance", "epsilon momentum spatial:-8 training_mode:14-",
     batch_norm},
    {"Conv", "x w bias?", "auto_pad dilations group kernel_shape pads strides", conv},
    {"ConvTranspose", "x w bias?",
     "auto_pad dilations group kernel_shape output_padding output_shape pads strides", conv_transpose},
    {"Gemm", "a b c?", "alpha beta transA transB", gemm},
    {"GlobalAveragePool", "x", "", global_pool},
    {"GlobalMaxPool", "x", "", global_pool},
    {"GroupNormalization", "x scale bias", "epsilon num_groups stash_type:21-", group_norm},
    {"InstanceNormalization", "x scale bias", "epsilon", instance_norm},
    {"LRN", "x", "alpha beta bias size", lrn},
    {"LayerNormalization", "x scale bias?", "axis epsilon stash_type", layer_norm},
    {"MatMul", "a b", "", matmul},
    {"MeanVarianceNormalization", "x", "axes", mean_variance_norm},
    {"RMSNormalization", "x scale", "axis epsilon stash_type", rms_norm},
    {"MaxPool", "x", "auto_pad kernel_shape pads strides storage_order:8- ceil_mode:10- dilations:10-", pool},
};

}  // namespace

const std::span<const OnnxRow> kLayerRows = kRows;

}  // namespace solder
