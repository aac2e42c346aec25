// Rows of elementwise operators.

#include <cmath>
#include <optional>

#include "graph/onnx/import.h"
#include "runtime/check.h"

namespace solder {
namespace {

// What `value` is `op` of, where a node of its own computes that.
std::optional<Value> argument_of(const Graph& graph, Value value, Op op) {
  const Node& node = graph.nodes()[static_cast<size_t>(value.node)];
  if (node.kind != NodeKind::elementwise || node.inputs.size() != 1) return {};
  const Region& region = node.epilogue.region;
  if (region.exprs.size() != 1 || region.exprs[0].op != op) return {};
  return node.inputs[0];
}

template <Op op>
void unary(OnnxCall& call) {
  call.give(call.graph().unary(op, call.value(0)));
}

// Input i of a dtype that the others have: truth values of the graph are 1 or 0 in any.
DType common_dtype(OnnxCall& call, size_t first = 0) {
  for (size_t i = first; i < call.num_inputs(); ++i)
    if (const auto dtype = dtype_of(call.type(i)); dtype && !call.scalar(i)) return *dtype;
  for (size_t i = first; i < call.num_inputs(); ++i)
    if (const auto dtype = dtype_of(call.type(i))) return *dtype;
  for (size_t i = first; i < call.num_inputs(); ++i)
    if (!call.item(i).is_known()) return call.graph().type(call.value(i)).dtype;
  return DType::float32;
}

// op of inputs i and j, a known number of one element as such.
Value binary_of(OnnxCall& call, Op op, size_t i, size_t j) {
  Graph& graph = call.graph();
  const DType dtype = common_dtype(call);
  const auto a = call.scalar(i, call.shape(j).size()), b = call.scalar(j, call.shape(i).size());
  if (b && !call.item(i).is_known()) return graph.binary(op, call.value(i, dtype), static_cast<float>(*b));
  if (a && !call.item(j).is_known()) return graph.binary(op, static_cast<float>(*a), call.value(j, dtype));
  return graph.binary(op, call.value(i, dtype), call.value(j, dtype));
}

template <Op op>
void binary(OnnxCall& call) {
  call.give(binary_of(call, op, 0, 1));
}

template <Op op, bool swaps = false>
void compare(OnnxCall& call) {
  call.give_truth(swaps ? binary_of(call, op, 1, 0) : binary_of(call, op, 0, 1));
}

// x * sigmoid(x) and x * tanh(softplus(x)) are functions of their own.
void multiply(OnnxCall& call) {
  Graph& graph = call.graph();
  if (!call.item(0).is_known() && !call.item(1).is_known()) {
    for (const auto& [i, j] : {std::pair<size_t, size_t>{0, 1}, {1, 0}}) {
      const Value x = call.value(i), gate = call.value(j);
      if (const auto of = argument_of(graph, gate, Op::sigmoid); of && *of == x)
        return call.give(graph.silu(x));
      if (const auto of = argument_of(graph, gate, Op::hard_sigmoid); of && *of == x)
        return call.give(graph.hard_swish(x));
      const auto inner = argument_of(graph, gate, Op::tanh);
      const auto of = inner ? argument_of(graph, *inner, Op::softplus) : inner;
      if (of && *of == x) return call.give(graph.mish(x));
    }
  }
  call.give(binary_of(call, Op::mul, 0, 1));
}

// Powers are of a float tensor by numbers of any type.
void power(OnnxCall& call) {
  Graph& graph = call.graph();
  const auto exponent = call.scalar(1, call.shape(0).size());
  if (!exponent) return call.give(graph.pow(call.value(0), call.number(1, graph.type(call.value(0)).dtype)));
  if (*exponent == 2) return call.give(graph.square(call.value(0)));
  call.give(graph.pow(call.value(0), static_cast<float>(*exponent)));
}

template <Op op>
void variadic(OnnxCall& call) {
  SOLDER_REQUIRE(call.num_inputs() > 0, io, "it has no inputs");
  Value sum = call.value(0);
  for (size_t i = 1; i < call.num_inputs(); ++i) sum = call.graph().binary(op, sum, call.value(i));
  if (call.node().op == "Mean") sum = call.graph().div(sum, static_cast<float>(call.num_inputs()));
  call.give(sum);
}

void clip(OnnxCall& call) {
  Graph& graph = call.graph();
  // Attributes are finite where they are not given: infinities become that.
  const float most = call.opset() < 11 ? kMostFloat : INFINITY;
  std::optional<double> low = call.real("min", -most), high = call.real("max", most);
  if (call.has(1)) low = call.scalar(1, 1);
  if (call.has(2)) high = call.scalar(2, 1);
  Value x = call.value(0);
  if (low && high && *low <= *high)
    return call.give(graph.clip(x, static_cast<float>(*low), static_cast<float>(*high)));
  // Bounds that are computed, or in the wrong order: the upper one stands.
  if (low && !call.has(1))
    x = graph.max(x, static_cast<float>(*low));
  else if (call.has(1))
    x = graph.max(x, call.value(1));
  if (call.has(2))
    x = graph.min(x, call.value(2));
  else
    x = graph.min(x, static_cast<float>(*high));
  call.give(x);
}

void hard_sigmoid(OnnxCall& call) {
  Graph& graph = call.graph();
  const float alpha = call.real("alpha", 0.2f), beta = call.real("beta", 0.5f);
  if (alpha == 1.0f / 6 && beta == 0.5f) return call.give(graph.hard_sigmoid(call.value(0)));
  call.give(graph.clip(graph.add(graph.mul(call.value(0), alpha), beta), 0, 1));
}

void prelu(OnnxCall& call) {
  Graph& graph = call.graph();
  const Value x = call.value(0);
  Shape result;
  SOLDER_REQUIRE(broadcast(call.shape(0), call.shape(1), &result) && result == call.shape(0), shape_mismatch,
                 "slope ", to_string(call.shape(1)), " does not broadcast to ", to_string(call.shape(0)));
  call.give(graph.add(graph.relu(x), graph.mul(graph.min(x, 0.0f), call.value(1))));
}

void selu(OnnxCall& call) {
  const float alpha = call.real("alpha", 1.67326319217681884765625f),
              gamma = call.real("gamma", 1.05070102214813232421875f);
  Graph& graph = call.graph();
  if (alpha == 1.67326319217681884765625f && gamma == 1.05070102214813232421875f)
    return call.give(graph.selu(call.value(0)));
  call.give(graph.mul(graph.elu(call.value(0), alpha), gamma));
}

void celu(OnnxCall& call) {
  const float alpha = call.real("alpha", 1.0f);
  call.give(call.graph().mul(call.graph().elu(call.graph().div(call.value(0), alpha)), alpha));
}

void gelu(OnnxCall& call) {
  const bool is_tanh = call.named<bool>("approximate", "none", {{"none", false}, {"tanh", true}});
  call.give(is_tanh ? call.graph().gelu_tanh(call.value(0)) : call.graph().gelu(call.value(0)));
}

void swish(OnnxCall& call) {
  const float alpha = call.real("alpha", 1.0f);
  Graph& graph = call.graph();
  const Value x = call.value(0);
  call.give(alpha == 1.0f ? graph.silu(x) : graph.mul(x, graph.sigmoid(graph.mul(x, alpha))));
}

void thresholded_relu(OnnxCall& call) {
  const Value x = call.value(0);
  call.give(call.graph().binary(Op::keep_if, x, call.graph().greater(x, call.real("alpha", 1.0f))));
}

void softsign(OnnxCall& call) {
  const Value x = call.value(0);
  call.give(call.graph().div(x, call.graph().add(call.graph().abs(x), 1.0f)));
}

void shrink(OnnxCall& call) {
  Graph& graph = call.graph();
  const float bias = call.real("bias", 0), most = call.real("lambd", 0.5f);
  const Value x = call.value(0);
  call.give(graph.add(graph.binary(Op::keep_if, graph.sub(x, bias), graph.greater(x, most)),
                      graph.binary(Op::keep_if, graph.add(x, bias), graph.less(x, -most))));
}

void mod(OnnxCall& call) {
  ONNX_REQUIRE(call.integer("fmod", 0) != 0, "fmod = 0, of floats");
  call.give(binary_of(call, Op::fmod, 0, 1));
}

void is_inf(OnnxCall& call) {
  Graph& graph = call.graph();
  const bool below = call.integer("detect_negative", 1) != 0, above = call.integer("detect_positive", 1) != 0;
  const Value x = call.value(0);
  if (!below && !above) return call.give_truth(graph.less(x, -INFINITY));
  call.give_truth(graph.equal(below && above ? graph.abs(x) : x, above ? INFINITY : -INFINITY));
}

void is_nan(OnnxCall& call) { call.give_truth(call.graph().not_equal(call.value(0), call.value(0))); }
void logical_not(OnnxCall& call) { call.give_truth(call.graph().sub(1.0f, call.value(0))); }

void where(OnnxCall& call) {
  const DType dtype = common_dtype(call, 1);
  call.give_moved(call.graph().where(call.value(0, dtype), call.value(1, dtype), call.value(2, dtype)), 0, 1);
}

void cast_to(OnnxCall& call, OnnxType to) {
  const OnnxType from = call.type(0);
  if (to == from) return call.give(call.item(0));
  if (to == OnnxType::boolean) return call.give_truth(call.graph().not_equal(call.value(0), 0.0f));
  const auto dtype = dtype_of(to);
  ONNX_REQUIRE(dtype, "to ", to_string(to), " at run time; solder computes with float types alone");
  call.give(call.value(0, *dtype));
}

void cast(OnnxCall& call) { cast_to(call, static_cast<OnnxType>(call.integer("to"))); }

void cast_like(OnnxCall& call) { cast_to(call, call.type(1)); }

// Dropout's second result is what it kept: all.
void identity(OnnxCall& call) {
  if (call.has(2)) {
    const auto trains = call.scalar(2, 1);
    ONNX_REQUIRE(trains && *trains == 0, "training_mode may be true");
  }
  // A weight of two names is one parameter.
  if (is_real(call.type(0)) && num_elements(call.shape(0)) > kMostFoldedElems) call.value(0);
  call.give(call.item(0));
  OnnxItem mask{.type = OnnxType::boolean, .shape = call.shape(0)};
  mask.later = [&import = call.import(), shape = mask.shape, name = call.label()] {
    return import.filled(name, shape, DType::float32, 1);
  };
  call.give(std::move(mask), 1);
}

constexpr OnnxRow kRows[] = {
    {"Abs", "x", "", unary<Op::abs>},
    {"Acos", "x", "", unary<Op::acos>},
    {"Acosh", "x", "", unary<Op::acosh>},
    {"Add", "a b", "", binary<Op::add>},
    {"And", "a b", "", compare<Op::mul>},
    {"Asin", "x", "", unary<Op::asin>},
    {"Asinh", "x", "", unary<Op::asinh>},
    {"Atan", "x", "", unary<Op::atan>},
    {"Atanh", "x", "", unary<Op::atanh>},
    {"Cast", "x", "to saturate:19- round_mode:24-", cast},
    {"CastLike", "x like", "saturate:19- round_mode:24-", cast_like},
    {"Ceil", "x", "", unary<Op::ceil>},
    {"Celu", "x", "alpha", celu},
    {"Clip", "x min?:11- max?:11-", "min:-10 max:-10", clip},
    {"Cos", "x", "", unary<Op::cos>},
    {"Cosh", "x", "", unary<Op::cosh>},
    {"Div", "a b", "", binary<Op::div>},
    {"Dropout", "x ratio?:12- training_mode?:12-", "ratio:-11 seed:12-", identity},
    {"Elu", "x", "alpha",
     [](OnnxCall& call) { call.give(call.graph().elu(call.value(0), call.real("alpha", 1.0f))); }},
    {"Equal", "a b", "", compare<Op::equal>},
    {"Erf", "x", "", unary<Op::erf>},
    {"Exp", "x", "", unary<Op::exp>},
    {"Floor", "x", "", unary<Op::floor>},
    {"Gelu", "x", "approximate", gelu},
    {"Greater", "a b", "", compare<Op::less, true>},
    {"GreaterOrEqual", "a b", "", compare<Op::less_equal, true>},
    {"HardSigmoid", "x", "alpha beta", hard_sigmoid},
    {"HardSwish", "x", "", unary<Op::hard_swish>},
    {"Identity", "x", "", identity},
    {"IsInf", "x", "detect_negative detect_positive", is_inf},
    {"IsNaN", "x", "", is_nan},
    {"LeakyRelu", "x", "alpha",
     [](OnnxCall& call) { call.give(call.graph().leaky_relu(call.value(0), call.real("alpha", 0.01f))); }},
    {"Less", "a b", "", compare<Op::less>},
    {"LessOrEqual", "a b", "", compare<Op::less_equal>},
    {"Log", "x", "", unary<Op::log>},
    {"Max", "x...", "", variadic<Op::max>},
    {"Mean", "x...", "", variadic<Op::add>},
    {"Min", "x...", "", variadic<Op::min>},
    {"Mish", "x", "", unary<Op::mish>},
    {"Mod", "a b", "fmod", mod},
    {"Mul", "a b", "", multiply},
    {"Neg", "x", "", unary<Op::neg>},
    {"Not", "x", "", logical_not},
    {"Or", "a b", "", compare<Op::max>},
    {"PRelu", "x slope", "", prelu},
    {"Pow", "x exponent", "", power},
    {"Reciprocal", "x", "", unary<Op::reciprocal>},
    {"Relu", "x", "", unary<Op::relu>},
    {"Round", "x", "", unary<Op::round>},
    {"Selu", "x", "alpha gamma", selu},
    {"Sigmoid", "x", "", unary<Op::sigmoid>},
    {"Shrink", "x", "bias lambd", shrink},
    {"Sign", "x", "", unary<Op::sign>},
    {"Sin", "x", "", unary<Op::sin>},
    {"Sinh", "x", "", unary<Op::sinh>},
    {"Softplus", "x", "", unary<Op::softplus>},
    {"Softsign", "x", "", softsign},
    {"Sqrt", "x", "", unary<Op::sqrt>},
    {"Sub", "a b", "", binary<Op::sub>},
    {"Sum", "x...", "", variadic<Op::add>},
    {"Swish", "x", "alpha", swish},
    {"Tan", "x", "", unary<Op::tan>},
    {"Tanh", "x", "", unary<Op::tanh>},
    {"ThresholdedRelu", "x", "alpha", thresholded_relu},
    {"Where", "condition a b", "", where},
    {"Xor", "a b", "", compare<Op::not_equal>},
};

}  // namespace

const std::span<const OnnxRow> kElementwiseRows = kRows;

}  // namespace solder
