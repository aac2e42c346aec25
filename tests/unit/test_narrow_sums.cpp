// Convolutions and matrix products of 16-bit tensors: float32 sums of what is stored, rounded once, with what is fused
// behind them.

#include <algorithm>

#include "tests/cases/conv_cases.h"
#include "tests/cases/view_cases.h"
#include "tests/support/lying.h"
#include "tests/support/oracle.h"

using namespace solder;
using namespace solder::test;

namespace {

const DType kNarrow[] = {DType::float16, DType::bfloat16};

// A sum of products by place of the result, exactly (to float64), and the sum of their absolute values.
struct Sum {
  double value = 0, sum_abs = 0;
};

struct SumCase {
  std::string name;
  Shape x, w;
  bool is_parameter;  // w; otherwise an input
  int64_t terms;
  size_t channel_axis;  // along which there is a bias
  std::function<Value(Graph& g, Value x, Value w)> build;
  std::function<Sum(const Tensor& x, const Tensor& w, const Shape& i)> exact;  // of float32 tensors
};

SumCase conv_case(const std::string& name, const ConvShape& s, bool is_parameter = true) {
  return {name,
          {s.N, s.C, s.H, s.W},
          {s.K, s.C / s.groups, s.R, s.S},
          is_parameter,
          s.gemm_k(),
          1,
          [s](Graph& g, Value x, Value w) {
            return g.conv2d(x, w,
                            {.stride = {s.stride_h, s.stride_w},
                             .padding = {s.pad_top, s.pad_left, s.pad_bottom, s.pad_right},
                             .dilation = {s.dil_h, s.dil_w},
                             .groups = s.groups});
          },
          [s](const Tensor& x, const Tensor& w, const Shape& i) {
            const ConvOutput exact = conv_oracle(s, x.floats(), w.floats(), i[0], i[1], i[2], i[3]);
            return Sum{exact.value, exact.sum_abs};
          }};
}

// x [..., m, k] times w [k, n], [..., k, n] or, of linear, [n, k].
SumCase product_case(const std::string& name, const Shape& x, const Shape& w, bool is_linear,
                     bool is_parameter) {
  const int64_t terms = x.back();
  return {name,
          x,
          w,
          is_parameter,
          terms,
          x.size() - 1,
          [is_linear](Graph& g, Value a, Value b) { return is_linear ? g.linear(a, b) : g.matmul(a, b); },
          [=](const Tensor& a, const Tensor& b, const Shape& i) {
            Sum sum;
            Shape from = i, to = i;
            to.erase(to.begin(), to.end() - static_cast<std::ptrdiff_t>(w.size()));
            for (int64_t k = 0; k < terms; ++k) {
              from.back() = k;
              if (is_linear)
                to = {i.back(), k};
              else
                to[to.size() - 2] = k;
              const double term = double{value_at(a, from)} * value_at(b, to);
              sum.value += term, sum.sum_abs += std::abs(term);
            }
            return sum;
          }};
}

const std::vector<SumCase> kCases = {
    conv_case("conv2d", make_shape({2, 5, 9, 8}, {7, 3, 3}, {.padding = 1})),
    conv_case("conv2d, stride, sides that differ",
              make_shape({1, 3, 10, 9}, {4, 3, 2}, {.stride = {2, 3}, .padding = {0, 1, 3, 2}})),
    conv_case("conv2d, groups, dilation", make_shape({2, 8, 9, 9}, {12, 3, 3}, {.dilation = 2, .groups = 4})),
    conv_case("conv2d, depthwise", make_shape({2, 6, 7, 6}, {6, 3, 3}, {.padding = 1, .groups = 6})),
    conv_case("conv2d, 1x1, deep", make_shape({1, 300, 3, 4}, {5, 1, 1})),
    conv_case("conv2d, w given at run time", make_shape({1, 4, 6, 6}, {3, 3, 3}), false),
    product_case("matmul", {5, 33}, {33, 6}, false, true),
    product_case("matmul of inputs, in batches", {2, 3, 4, 9}, {2, 3, 9, 5}, false, false),
    product_case("matmul by one matrix", {2, 3, 17}, {17, 4}, false, true),
    product_case("linear", {4, 40}, {6, 40}, true, true),
    product_case("linear of three axes", {2, 3, 12}, {5, 12}, true, true),
    product_case("linear, w given at run time", {3, 8}, {2, 8}, true, false),
};

// What follows the sum s: its value, and by how much an error of s may grow.
struct Tail {
  const char* name;
  bool has_bias, has_residual;
  Value (*build)(Graph& g, Value sum, Value residual);
  double (*exact)(double sum, double residual);
};

const std::vector<Tail> kTails = {
    {"alone", false, false, [](Graph&, Value s, Value) { return s; }, [](double s, double) { return s; }},
    {"bias", true, false, [](Graph&, Value s, Value) { return s; }, [](double s, double) { return s; }},
    {"bias, relu", true, false, [](Graph& g, Value s, Value) { return g.relu(s); },
     [](double s, double) { return std::max(s, 0.0); }},
    {"mish", false, false, [](Graph& g, Value s, Value) { return g.mish(s); },
     [](double s, double) { return mish_oracle(s); }},
    {"bias, residual, relu", true, true, [](Graph& g, Value s, Value r) { return g.relu(g.add(s, r)); },
     [](double s, double r) { return std::max(s + r, 0.0); }},
    {"bias, mish, residual", true, true, [](Graph& g, Value s, Value r) { return g.add(g.mish(s), r); },
     [](double s, double r) { return mish_oracle(s) + r; }},
};

void check_sum(const SumCase& c, const Tail& tail, DType dtype, Device device) {
  Graph g;
  const Value xv = g.input("x", c.x, dtype),
              wv = c.is_parameter ? g.parameter("w", c.w, dtype) : g.input("w", c.w, dtype);
  Value sum = c.build(g, xv, wv);
  const Shape shape = g.type(sum).shape;
  Shape channels(shape.size() - c.channel_axis, 1);
  channels[0] = shape[c.channel_axis];
  TensorMap tensors{{"x", uniform(c.x, 1, -2, 2).to(dtype)},
                    {"w", uniform(c.w, 2).to(dtype)},
                    {"b", uniform({channels[0]}, 3).to(dtype)},
                    {"r", uniform(shape, 4).to(dtype)}};
  if (tail.has_bias) sum = g.add(sum, g.reshape(g.parameter("b", {channels[0]}, dtype), channels));
  g.output("y", tail.build(g, sum, tail.has_residual ? g.input("r", shape, dtype) : Value{}));
  TensorMap inputs;
  for (const Node& node : g.nodes())
    if (node.kind == NodeKind::input) inputs[node.name] = tensors.at(node.name);
  CAPTURE(c.name);
  CAPTURE(tail.name);
  CAPTURE(to_string(dtype));
  const Tensor x = tensors.at("x").to(DType::float32), w = tensors.at("w").to(DType::float32);
  const Tensor y = run(g, tensors, inputs, {.device = device});
  REQUIRE(y.dtype() == dtype);
  CHECK(num_wrong(y, [&](const Shape& i) {
          const Sum exact = c.exact(x, w, i);
          const double bias = tail.has_bias ? value_at(tensors.at("b"), {i[c.channel_axis]}) : 0;
          const double residual = tail.has_residual ? value_at(tensors.at("r"), i) : 0;
          const double value = tail.exact(exact.value + bias, residual);
          const double steps = std::abs(exact.value) + std::abs(bias) + std::abs(residual);
          // Of the sum; float32 steps behind it; mish, which is at most 1.1 times as steep.
          return Expected{value,
                          1.1 * static_cast<double>(c.terms) * 0x1p-24 * exact.sum_abs + 8 * 0x1p-24 * steps};
        }) == 0);
  // The products of 16-bit values are exact in tf32, too.
  CHECK(same_bits(y, run(g, tensors, inputs, {.device = device, .math = Math::tf32})));
  const Tensor alone = run(g, tensors, inputs, {.device = Device::cpu(), .threads = 1});
  CHECK(same_bits(alone, run(g, tensors, inputs, {.device = Device::cpu(), .threads = 3})));
}

// The sum of x[i] * w[i] by conv2d, matmul or linear.
Value sum_of_products(Graph& g, int kind, const Tensor& x, DType dtype) {
  const int64_t terms = x.num_elems();
  if (kind == 0)
    return g.conv2d(g.reshape(g.input("x", {terms}, dtype), {1, terms, 1, 1}),
                    g.reshape(g.parameter("w", {terms}, dtype), {1, terms, 1, 1}));
  const Value row = g.reshape(g.input("x", {terms}, dtype), {1, terms}), w = g.parameter("w", {terms}, dtype);
  return kind == 1 ? g.matmul(row, g.reshape(w, {terms, 1})) : g.linear(row, g.reshape(w, {1, terms}));
}

float one_sum(int kind, DType dtype, Device device, const std::vector<float>& x, const std::vector<float>& w,
              bool fuse = true, float bias = 0, bool has_relu = false) {
  const Tensor xt = Tensor::from({static_cast<int64_t>(x.size())}, x).to(dtype);
  Graph g;
  Value y = sum_of_products(g, kind, xt, dtype);
  if (bias != 0) y = g.add(y, bias);
  if (has_relu) y = g.relu(y);
  g.output("y", y);
  const TensorMap weights{{"w", Tensor::from({static_cast<int64_t>(w.size())}, w).to(dtype)}};
  const Tensor result = run(g, weights, {{"x", xt}}, {.device = device, .fuse = fuse});
  return load_as_float(result.data(), dtype, 0);
}

}  // namespace

TEST_CASE(
    "16-bit sums: within u|y| + T 2^-24 sum|x w| of the exact sum of what is stored, whatever is fused "
    "behind") {
  for (const SumCase& c : kCases)
    for (const Tail& tail : kTails)
      for (const DType dtype : kNarrow)
        for (const Device device : devices()) check_sum(c, tail, dtype, device);
}

TEST_CASE(
    "16-bit sums: what overflows is infinite, NaN is NaN, and what only passes 65504 on the way is not "
    "lost") {
  for (const Device device : devices()) {
    for (const int kind : {0, 1, 2}) {
      CAPTURE(kind);
      const auto f16 = [&](const std::vector<float>& x, const std::vector<float>& w) {
        return one_sum(kind, DType::float16, device, x, w);
      };
      const auto bf16 = [&](const std::vector<float>& x, const std::vector<float>& w) {
        return one_sum(kind, DType::bfloat16, device, x, w);
      };
      CHECK(f16({300, 300}, {200, 200}) == INFINITY);
      CHECK(f16({300, 300}, {-200, -200}) == -INFINITY);
      CHECK(bf16({300, 300}, {200, 200}) == 119808);  // 120000 to 8 bits
      CHECK(f16({65504, 8}, {1, 1}) == 65504);
      CHECK(f16({65504, 16}, {1, 1}) == INFINITY);  // halfway to what would be next, and to even
      CHECK(f16({60000, 60000, -60000}, {1, 1, 1}) == 59999 + 1);
      CHECK(std::isnan(f16({1, NAN}, {1, 1})));
      CHECK(std::isnan(bf16({1, 2}, {1, NAN})));
      CHECK(std::isnan(f16({0, 1}, {INFINITY, 1})));
      CHECK(std::isnan(f16({INFINITY, -INFINITY}, {1, 1})));
      CHECK(bf16({INFINITY, 3}, {1, 1}) == INFINITY);
      CHECK(std::isnan(one_sum(kind, DType::float16, device, {NAN}, {1}, true, 0, true)));  // through relu
      CHECK(f16({0x1p-14f, 0x1p-14f}, {0x1p-10f, 0x1p-11f}) == 0x1p-23f);  // 1.5 * 2^-24, to even
      CHECK(f16({0x1p-14f}, {0x1p-11f}) == 0);                             // 2^-25
    }
  }
}

TEST_CASE("16-bit sums: fused they are rounded once, in the end; one by one each step stores what it has") {
  for (const Device device : devices()) {
    for (const int kind : {0, 1, 2}) {
      CAPTURE(kind);
      // 70000 - 10000: beyond float16 only on the way.
      CHECK(one_sum(kind, DType::float16, device, {350, 350}, {100, 100}, true, -10000) == 60000);
      CHECK(one_sum(kind, DType::float16, device, {350, 350}, {100, 100}, false, -10000) == INFINITY);
      // 2049 lies halfway between 2048 and 2050, 2048 is even; with 1 more it is 2050.
      CHECK(one_sum(kind, DType::float16, device, {2048, 1}, {1, 1}, true, 1) == 2050);
      CHECK(one_sum(kind, DType::float16, device, {2048, 1}, {1, 1}, false, 1) == 2048);
      CHECK(one_sum(kind, DType::bfloat16, device, {256, 1}, {1, 1}, true, 1, true) == 258);
      CHECK(one_sum(kind, DType::bfloat16, device, {256, 1}, {1, 1}, false, 1, true) == 256);
    }
  }
}

TEST_CASE("16-bit sums: the sum is one node, with all that is fused behind it") {
  for (const DType dtype : kNarrow) {
    Graph g;
    const Value x = g.input("x", {1, 4, 6, 6}, dtype), w = g.parameter("w", {4, 4, 3, 3}, dtype);
    g.output("y", g.add(g.mish(g.conv2d(x, w, g.parameter("b", {4}, dtype), {.padding = 1})), x));
    const TensorMap weights{{"w", uniform({4, 4, 3, 3}, 1).to(dtype)}, {"b", uniform({4}, 2).to(dtype)}};
    const Model model = compile(g, weights, {.device = Device::cpu()});
    int sums = 0, passes = 0;
    for (size_t i = 0; i < model.nodes().size(); ++i) {
      const Node& node = model.graph().nodes()[i];
      sums += node.kind == NodeKind::conv2d;
      passes += node.kind == NodeKind::elementwise;
    }
    CHECK(sums == 1);
    CHECK(passes == 0);
    CHECK(model.weights_bytes() ==
          (4 * 4 * 9 * 4 + 255) / 256 * 256 + 256);  // filters are kept in float32 alone
  }
}

TEST_CASE("narrow sums: weights and biases of 16-bit graphs are float32 constants of the same values") {
  Graph g;
  const Value x = g.input("x", {2, 8, 5, 5}, DType::bfloat16);
  const Value w = g.parameter("w", {8, 8, 3, 3}, DType::bfloat16), b = g.parameter("b", {8}, DType::bfloat16);
  const Value y = g.relu(g.conv2d(x, w, b, {.padding = 1}));
  g.output("y", g.add(y, x));
  const TensorMap weights{{"w", uniform({8, 8, 3, 3}, 1).to(DType::bfloat16)},
                          {"b", uniform({8}, 2).to(DType::bfloat16)}};
  const Model model = compile(g, weights, {.device = Device::cpu()});
  int num_convs = 0;
  for (const Node& node : model.graph().nodes()) {
    if (node.kind != NodeKind::conv2d) continue;
    ++num_convs;
    REQUIRE(node.inputs.size() == 4);
    CHECK(model.graph().type(node.inputs[0]).dtype == DType::bfloat16);
    CHECK(model.graph().type(node.inputs[1]).dtype == DType::float32);
    CHECK(model.graph().type(node.inputs[2]).dtype == DType::float32);   // the bias
    CHECK(model.graph().type(node.inputs[3]).dtype == DType::bfloat16);  // what is added is no vector
  }
  CHECK(num_convs == 1);
  const TensorMap inputs{{"x", uniform({2, 8, 5, 5}, 3).to(DType::bfloat16)}};
  const auto plain = compile(g, weights, {.device = Device::cpu(), .fuse = false}).session().run(inputs);
  const Tensor fused = model.session().run(inputs).at("y");
  for (int64_t i = 0; i < fused.num_elems(); ++i) {
    const float got = load_as_float(fused.data(), DType::bfloat16, i),
                want = load_as_float(plain.at("y").data(), DType::bfloat16, i);
    CHECK(std::abs(got - want) <= 0x1p-6f * (1 + std::abs(want)));
  }
}
