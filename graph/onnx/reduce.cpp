// Rows of operators over whole axes.

#include <functional>
#include <numeric>
#include <optional>

#include "graph/onnx/arguments.h"
#include "runtime/check.h"

namespace solder {
namespace {

enum class Kind { mean, sum, prod, max, min, l1, l2, sum_square, log_sum, log_sum_exp };

// The product over one axis, half by half: within T 2^-24 |y| of T elements.
Value product(Graph& graph, Value x, int axis) {
  std::optional<Value> odd;
  int64_t extent = graph.type(x).shape[static_cast<size_t>(axis)];
  for (; extent > 1; extent /= 2) {
    if (extent % 2 != 0) {
      const Value last = graph.slice(x, axis, extent - 1, extent);
      odd = odd ? graph.mul(*odd, last) : last;
    }
    x = graph.mul(graph.slice(x, axis, 0, extent / 2), graph.slice(x, axis, extent / 2, extent / 2 * 2));
  }
  // Of no elements it is 1: e to the power of their sum, 0.
  if (extent == 0) x = graph.exp(graph.sum(x, {axis}, true));
  return odd ? graph.mul(x, *odd) : x;
}

// log(sum(e^x)) from the largest x on, so that nothing overflows; an infinite one is not subtracted.
Value log_sum_exp(Graph& graph, Value x, const std::vector<int>& axes, bool keeps) {
  const Value most = graph.clip(graph.reduce_max(x, axes, true), -kMostFloat, kMostFloat);
  const Value rest = graph.add(graph.log(graph.sum(graph.exp(graph.sub(x, most)), axes, true)), most);
  return keeps ? rest : graph.squeeze(rest, axes);
}

Value reduced(Graph& graph, Kind kind, Value x, const std::vector<int>& axes, bool keeps) {
  switch (kind) {
    case Kind::mean: return graph.mean(x, axes, keeps);
    case Kind::max: return graph.reduce_max(x, axes, keeps);
    case Kind::min: return graph.reduce_min(x, axes, keeps);
    case Kind::log_sum_exp: return log_sum_exp(graph, x, axes, keeps);
    case Kind::prod: break;
    default: return graph.sum(x, axes, keeps);
  }
  for (const int axis : axes) x = product(graph, x, axis);
  return keeps ? x : graph.squeeze(x, axes);
}

// Without axes nothing is reduced; what comes before and after is done.
Value over_axes(Graph& graph, Kind kind, Value x, const std::vector<int>& axes, bool keeps) {
  // Squares, products and logarithms may leave the range of 16 bits on the way.
  const bool is_plain = kind == Kind::mean || kind == Kind::sum || kind == Kind::max || kind == Kind::min;
  const DType dtype = graph.type(x).dtype;
  if (!is_plain) x = graph.cast(x, DType::float32);
  if (kind == Kind::l1) x = graph.abs(x);
  if (kind == Kind::l2 || kind == Kind::sum_square) x = graph.square(x);
  if (!axes.empty()) x = reduced(graph, kind, x, axes, keeps);
  x = kind == Kind::l2 ? graph.sqrt(x) : kind == Kind::log_sum ? graph.log(x) : x;
  return graph.cast(x, dtype);
}

template <Kind kind>
void reduce(OnnxCall& call) {
  const bool keeps = call.integer("keepdims", 1) != 0;
  std::vector<int> axes = as_axes(call.list(1, "axes").value_or(std::vector<int64_t>{}), call.rank(0));
  if (axes.empty() && call.integer("noop_with_empty_axes", 0) == 0) axes = axes_from(0, call.rank(0));
  call.give_moved(over_axes(call.graph(), kind, call.value(0), axes, keeps));
}

// along(x, axis); before opset 13 over all axes from this one on, as one.
Value over_rows(OnnxCall& call, const std::function<Value(Value, int)>& along) {
  const Shape shape = call.shape(0);
  const int axis = as_axis(call.integer("axis", call.opset() >= 13 ? -1 : 1), call.rank(0));
  const bool is_last = axis + 1 == call.rank(0);
  if (call.opset() >= 13 || is_last) return along(call.value(0), axis);
  const auto middle = shape.begin() + axis;
  const Value rows = call.reshape(
      call.value(0), {num_elements(Shape(shape.begin(), middle)), num_elements(Shape(middle, shape.end()))});
  return call.reshape(along(rows, 1), shape);
}

void softmax(OnnxCall& call) {
  Graph& graph = call.graph();
  const bool is_log = call.node().op == "LogSoftmax";
  call.give(over_rows(
      call, [&](Value x, int axis) { return is_log ? graph.log_softmax(x, axis) : graph.softmax(x, axis); }));
}

// x over its norm along an axis; 0 where that is 0.
void lp_norm(OnnxCall& call) {
  Graph& graph = call.graph();
  const int64_t p = call.integer("p", 2);
  ONNX_REQUIRE(p == 1 || p == 2, "p = ", p);
  const Value x = call.value(0, DType::float32);
  const std::vector<int> axes = as_axes({call.integer("axis", -1)}, call.rank(0));
  const Value norm = over_axes(graph, p == 1 ? Kind::l1 : Kind::l2, x, axes, true);
  const Value y = graph.binary(Op::keep_if, graph.div(x, norm), norm);
  call.give(graph.cast(y, graph.type(call.value(0)).dtype));
}

// 1 at the first of the largest elements of each row and 0 elsewhere; rows as Softmax has them.
void hardmax(OnnxCall& call) {
  Graph& graph = call.graph();
  call.give(over_rows(call, [&](Value x, int axis) {
    const TensorType type = graph.type(x);
    const int64_t extent = type.shape[static_cast<size_t>(axis)];
    call.import().charge(extent);
    Tensor indices = Tensor::empty({extent});
    std::iota(indices.floats().begin(), indices.floats().end(), 0.0f);
    Shape along(type.shape.size(), 1);
    along[static_cast<size_t>(axis)] = extent;
    const Value index =
        call.reshape(call.import().parameter(call.label() + ".indices", std::move(indices)), along);
    const Value is_most = graph.cast(graph.equal(x, graph.reduce_max(x, {axis}, true)), DType::float32);
    const Value place = graph.add(graph.mul(graph.sub(1.0f, is_most), static_cast<float>(extent)), index);
    return graph.cast(graph.equal(index, graph.reduce_min(place, {axis}, true)), type.dtype);
  }));
}

constexpr const char *kInputs = "x axes?:18-", *kAttributes = "keepdims axes:-17 noop_with_empty_axes:18-";

constexpr OnnxRow kRows[] = {
    {"Hardmax", "x", "axis", hardmax},
    {"LogSoftmax", "x", "axis", softmax},
    {"LpNormalization", "x", "axis p", lp_norm},
    {"ReduceL1", kInputs, kAttributes, reduce<Kind::l1>},
    {"ReduceL2", kInputs, kAttributes, reduce<Kind::l2>},
    {"ReduceLogSum", kInputs, kAttributes, reduce<Kind::log_sum>},
    {"ReduceLogSumExp", kInputs, kAttributes, reduce<Kind::log_sum_exp>},
    {"ReduceMax", kInputs, kAttributes, reduce<Kind::max>},
    {"ReduceMean", kInputs, kAttributes, reduce<Kind::mean>},
    {"ReduceMin", kInputs, kAttributes, reduce<Kind::min>},
    {"ReduceProd", kInputs, kAttributes, reduce<Kind::prod>},
    {"ReduceSum", "x axes?:13-", "keepdims axes:-12 noop_with_empty_axes:13-", reduce<Kind::sum>},
    {"ReduceSumSquare", kInputs, kAttributes, reduce<Kind::sum_square>},
    {"Softmax", "x", "axis", softmax},
};

}  // namespace

const std::span<const OnnxRow> kReduceRows = kRows;

}  // namespace solder
