// Rows of operators over whole axes.

#include "graph/onnx/arguments.h"
#include "runtime/check.h"

namespace solder {
namespace {

enum class Kind { mean, sum, max, min, l1, l2, sum_square, log_sum, log_sum_exp };

Value over_axes(Graph& graph, Kind kind, Value x, const std::vector<int>& axes, bool keeps) {
  switch (kind) {
    case Kind::mean: return graph.mean(x, axes, keeps);
    case Kind::sum: return graph.sum(x, axes, keeps);
    case Kind::max: return graph.reduce_max(x, axes, keeps);
    case Kind::min: return graph.reduce_min(x, axes, keeps);
    case Kind::l1: return graph.sum(graph.abs(x), axes, keeps);
    case Kind::l2: return graph.sqrt(graph.sum(graph.square(x), axes, keeps));
    case Kind::sum_square: return graph.sum(graph.square(x), axes, keeps);
    case Kind::log_sum: return graph.log(graph.sum(x, axes, keeps));
    case Kind::log_sum_exp: break;
  }
  // From the largest one on, so that nothing overflows; an infinite one is not subtracted.
  const Value most =
      graph.clip(graph.reduce_max(x, axes, true), -3.4028234663852886e38f, 3.4028234663852886e38f);
  const Value rest = graph.add(graph.log(graph.sum(graph.exp(graph.sub(x, most)), axes, true)), most);
  return keeps ? rest : graph.squeeze(rest, axes);
}

// Without axes nothing is reduced; what comes before and after is done.
Value elementwise_part(Graph& graph, Kind kind, Value x) {
  switch (kind) {
    case Kind::l1:
    case Kind::l2: return graph.abs(x);
    case Kind::sum_square: return graph.square(x);
    case Kind::log_sum: return graph.log(x);
    default: return x;
  }
}

template <Kind kind>
void reduce(OnnxCall& call) {
  const bool keeps = call.integer("keepdims", 1) != 0;
  const std::vector<int> axes = as_axes(call.list(1, "axes").value_or(std::vector<int64_t>{}), call.rank(0));
  const bool is_noop = call.integer("noop_with_empty_axes", 0) != 0;
  const Value x = call.value(0);
  if (axes.empty() && (is_noop || call.rank(0) == 0))
    return call.give(elementwise_part(call.graph(), kind, x));
  std::vector<int> all;
  for (int axis = 0; axis < call.rank(0); ++axis) all.push_back(axis);
  call.give(over_axes(call.graph(), kind, x, axes.empty() ? all : axes, keeps));
}

// Before opset 13 over all axes from this one on, as one.
void softmax(OnnxCall& call) {
  Graph& graph = call.graph();
  const bool is_log = call.node().op == "LogSoftmax";
  const auto along = [&](Value x, int axis) {
    return is_log ? graph.log_softmax(x, axis) : graph.softmax(x, axis);
  };
  const Shape shape = call.shape(0);
  const int axis = as_axis(call.integer("axis", call.opset() >= 13 ? -1 : 1), call.rank(0));
  const bool is_last = axis + 1 == call.rank(0);
  if (call.opset() >= 13 || is_last) return call.give(along(call.value(0), axis));
  const auto middle = shape.begin() + axis;
  const Value rows = call.reshape(
      call.value(0), {num_elements(Shape(shape.begin(), middle)), num_elements(Shape(middle, shape.end()))});
  call.give(call.reshape(along(rows, 1), shape));
}

constexpr OnnxRow kRows[] = {
    {"LogSoftmax", "x", "axis", softmax},
    {"ReduceL1", "x axes?:18-", "keepdims axes:-17 noop_with_empty_axes:18-", reduce<Kind::l1>},
    {"ReduceL2", "x axes?:18-", "keepdims axes:-17 noop_with_empty_axes:18-", reduce<Kind::l2>},
    {"ReduceLogSum", "x axes?:18-", "keepdims axes:-17 noop_with_empty_axes:18-", reduce<Kind::log_sum>},
    {"ReduceLogSumExp", "x axes?:18-", "keepdims axes:-17 noop_with_empty_axes:18-",
     reduce<Kind::log_sum_exp>},
    {"ReduceMax", "x axes?:18-", "keepdims axes:-17 noop_with_empty_axes:18-", reduce<Kind::max>},
    {"ReduceMean", "x axes?:18-", "keepdims axes:-17 noop_with_empty_axes:18-", reduce<Kind::mean>},
    {"ReduceMin", "x axes?:18-", "keepdims axes:-17 noop_with_empty_axes:18-", reduce<Kind::min>},
    {"ReduceSum", "x axes?:13-", "keepdims axes:-12 noop_with_empty_axes:13-", reduce<Kind::sum>},
    {"ReduceSumSquare", "x axes?:18-", "keepdims axes:-17 noop_with_empty_axes:18-",
     reduce<Kind::sum_square>},
    {"Softmax", "x", "axis", softmax},
};

}  // namespace

const std::span<const OnnxRow> kReduceRows = kRows;

}  // namespace solder
