// batch_norm against its definition in double: folded into what comes before, and where it must not be.

#include <algorithm>
#include <array>

#include "tests/cases/conv_cases.h"
#include "tests/cases/view_cases.h"
#include "tests/support/lying.h"
#include "tests/support/oracle.h"

using namespace solder;
using namespace solder::test;

namespace {

constexpr float kEps = 1e-3f;

// What each channel is normalised with, [C] each: no two channels alike, variances from 0.2 on.
struct Statistics {
  Tensor weight, bias, mean, variance;
};

Statistics draw(int64_t channels, uint64_t seed, DType dtype = DType::float32) {
  return {uniform({channels}, seed, -2, 2).to(dtype), uniform({channels}, seed + 1).to(dtype),
          uniform({channels}, seed + 2).to(dtype), uniform({channels}, seed + 3, 0.2f, 3).to(dtype)};
}

void give(const Statistics& statistics, TensorMap& tensors) {
  tensors["weight"] = statistics.weight;
  tensors["bias"] = statistics.bias;
  tensors["mean"] = statistics.mean;
  tensors["variance"] = statistics.variance;
}

Value norm(Graph& g, Value x, float eps = kEps) {
  const TensorType type{{g.type(x).shape[1]}, g.type(x).dtype};
  std::array<Value, 4> given;
  const char* const names[] = {"weight", "bias", "mean", "variance"};
  for (size_t i = 0; i < given.size(); ++i) given[i] = g.parameter(names[i], type.shape, type.dtype);
  return g.batch_norm(x, given[0], given[1], given[2], given[3], eps);
}

// Of channel c: y = x * scale + shift, each as float32 statistics say it in double.
struct Affine {
  double scale, shift;
};

Affine affine(const Statistics& s, int64_t c, float eps = kEps) {
  const double scale = value_at(s.weight, {c}) / std::sqrt(double{value_at(s.variance, {c})} + double{eps});
  return {scale, value_at(s.bias, {c}) - value_at(s.mean, {c}) * scale};
}

int count_runs(const Model& model, NodeKind kind) {
  int count = 0;
  for (size_t i = 0; i < model.nodes().size(); ++i)
    count += model.graph().nodes()[i].kind == kind && !model.nodes()[i].path.empty();
  return count;
}

// Whether the model is `kind` alone: nothing elementwise runs as a node of its own.
bool is_folded(const Model& model, NodeKind kind) {
  return count_runs(model, kind) == 1 && count_runs(model, NodeKind::elementwise) == 0;
}

// What the parameters take that are read, each at a multiple of the arena's alignment.
int64_t parameter_bytes(const std::vector<Shape>& shapes) {
  int64_t bytes = 0;
  for (const Shape& shape : shapes) bytes += (num_bytes(shape, DType::float32) + 255) / 256 * 256;
  return bytes;
}

// How far y = scale * sum + shift may lie from its exact value. Folded: the sum's bound, scaled weights rounded, shift
// and result rounded. Otherwise scale is rounded and so is the product, which is no more.
double norm_bound(const Affine& a, double sum_abs, double of_largest, double terms, double bias) {
  const double size = std::abs(a.scale) * (sum_abs + std::abs(bias)) + std::abs(a.shift);
  return (terms + 3) * 0x1p-24 * std::abs(a.scale) * sum_abs + 3 * 0x1p-24 * size +
         std::abs(a.scale) * of_largest + 0x1p-140;
}

struct ConvNormCase {
  std::string name;
  ConvShape shape;
};

std::vector<ConvNormCase> conv_norm_cases() {
  return {
      {"plain", make_shape({2, 3, 9, 11}, {5, 3, 3})},
      {"padded, stride", make_shape({2, 3, 9, 8}, {6, 3, 2}, {.stride = {2, 1}, .padding = {0, 1, 2, 1}})},
      {"grouped", make_shape({2, 8, 7, 7}, {12, 3, 3}, {.padding = 1, .groups = 4})},
      {"depthwise", make_shape({2, 6, 8, 7}, {6, 3, 3}, {.padding = 1, .groups = 6})},
      {"depthwise, multiplied", make_shape({1, 3, 8, 8}, {9, 3, 3}, {.groups = 3})},
      {"dilated", make_shape({1, 4, 12, 11}, {4, 3, 3}, {.padding = 1, .dilation = {2, 3}})},
      {"1x1, deep", make_shape({1, 160, 3, 5}, {7, 1, 1})},
      {"one channel", make_shape({2, 1, 5, 5}, {1, 3, 3})},
      {"no images", make_shape({0, 3, 5, 5}, {4, 3, 3})},
  };
}

Conv2dOptions options_of(const ConvShape& s) {
  return {.stride = {s.stride_h, s.stride_w},
          .padding = {s.pad_top, s.pad_left, s.pad_bottom, s.pad_right},
          .dilation = {s.dil_h, s.dil_w},
          .groups = s.groups};
}

}  // namespace

TEST_CASE("batch_norm: folded into a convolution it is one node, and its definition") {
  uint64_t seed = 10;
  for (const auto& [name, s] : conv_norm_cases()) {
    for (const bool has_bias : {false, true}) {
      const Tensor x = uniform({s.N, s.C, s.H, s.W}, seed += 10, -2, 2),
                   w = uniform({s.K, s.C / s.groups, s.R, s.S}, seed + 1),
                   b = uniform({s.K}, seed + 2, -2, 2);
      const Statistics statistics = draw(s.K, seed + 3);
      TensorMap weights{{"w", w}, {"b", b}};
      give(statistics, weights);
      Graph g;
      const Value xv = g.input("x", x.shape()), wv = g.parameter("w", w.shape());
      g.output("y", norm(g, has_bias ? g.conv2d(xv, wv, g.parameter("b", {s.K}), options_of(s))
                                     : g.conv2d(xv, wv, options_of(s))));
      double largest = 0;
      for (const float v : x.floats()) largest = std::max(largest, std::abs(double{v}));
      for (const Device device : devices()) {
        for (const bool fuse : {true, false}) {
          CAPTURE(name);
          CAPTURE(has_bias);
          CAPTURE(fuse);
          const Model model = compile(g, weights, {.device = device, .fuse = fuse});
          CHECK(is_folded(model, NodeKind::conv2d) == fuse);
          if (fuse && !device.is_cuda())
            CHECK(model.weights_bytes() == parameter_bytes({w.shape(), {s.K}}));  // and no others
          const Tensor y = model.session().run({{"x", x}}).at("y");
          CHECK(num_wrong(y, [&](const Shape& i) {
                  const ConvOutput exact = conv_oracle(s, x.floats(), w.floats(), i[0], i[1], i[2], i[3]);
                  const double bias = has_bias ? value_at(b, {i[1]}) : 0;
                  const Affine a = affine(statistics, i[1]);
                  return Expected{(exact.value + bias) * a.scale + a.shift,
                                  norm_bound(a, exact.sum_abs, 0x1p-32 * largest * exact.sum_w,
                                             static_cast<double>(s.gemm_k()), bias)};
                }) == 0);
        }
      }
    }
  }
}

TEST_CASE("batch_norm: folded into linear and matmul, whose weights lie by rows and by columns") {
  constexpr int64_t kRows = 5, kIn = 13, kOut = 7;
  const Tensor x = uniform({kRows, kIn}, 1, -2, 2), by_rows = uniform({kOut, kIn}, 2),
               by_columns = uniform({kIn, kOut}, 3), b = uniform({kOut}, 4);
  const Statistics statistics = draw(kOut, 5);
  for (const std::string what : {"linear", "linear, bias", "matmul", "matmul, bias"}) {
    const bool is_linear = what.starts_with("linear"), has_bias = what.ends_with("bias");
    const Tensor& w = is_linear ? by_rows : by_columns;
    Graph g;
    const Value xv = g.input("x", x.shape()), wv = g.parameter("w", w.shape());
    Value y = is_linear ? g.linear(xv, wv) : g.matmul(xv, wv);
    if (has_bias) y = g.add(y, g.parameter("b", {kOut}));
    g.output("y", norm(g, y));
    TensorMap weights{{"w", w}, {"b", b}};
    give(statistics, weights);
    for (const Device device : devices()) {
      for (const bool fuse : {true, false}) {
        CAPTURE(what);
        CAPTURE(fuse);
        const Model model = compile(g, weights, {.device = device, .fuse = fuse});
        CHECK(is_folded(model, NodeKind::matmul) == fuse);
        if (fuse) CHECK(model.weights_bytes() == parameter_bytes({w.shape(), {kOut}}));
        CHECK(num_wrong(model.session().run({{"x", x}}).at("y"), [&](const Shape& i) {
                double sum = 0, sum_abs = 0;
                for (int64_t k = 0; k < kIn; ++k) {
                  const double term = double{value_at(x, {i[0], k})} *
                                      (is_linear ? value_at(w, {i[1], k}) : value_at(w, {k, i[1]}));
                  sum += term, sum_abs += std::abs(term);
                }
                const double bias = has_bias ? value_at(b, {i[1]}) : 0;
                const Affine a = affine(statistics, i[1]);
                return Expected{(sum + bias) * a.scale + a.shift, norm_bound(a, sum_abs, 0, kIn, bias)};
              }) == 0);
      }
    }
  }
}

TEST_CASE("batch_norm: folded into the filters of a transposed convolution too") {
  const Statistics statistics = draw(4, 1);
  TensorMap weights{{"w", uniform({3, 4, 2, 2}, 6)}};
  give(statistics, weights);
  Graph g;
  g.output("y", norm(g, g.conv_transpose2d(g.input("x", {1, 3, 4, 5}), g.parameter("w", {3, 4, 2, 2}),
                                           {.stride = 2})));
  CHECK(is_folded(compile(g, weights, {.device = Device::cpu()}), NodeKind::conv2d));
  const Tensor x = uniform({1, 3, 4, 5}, 8);
  const Tensor folded = run(g, weights, {{"x", x}}, {.device = Device::cpu()});
  const Tensor plain = run(g, weights, {{"x", x}}, {.device = Device::cpu(), .fuse = false});
  CHECK(num_wrong(folded, [&](const Shape& i) { return Expected{value_at(plain, i), 0x1p-20}; }) == 0);
}

TEST_CASE("batch_norm: not folded where something else needs what comes before, or it is no sum") {
  struct Case {
    const char* name;
    Value (*build)(Graph& g, Value x, Value w, Value b);  // to what is normalised, [2, 4, 5, 5]
  };
  const Case cases[] = {
      {"two readers",
       [](Graph& g, Value x, Value w, Value b) {
         const Value y = g.conv2d(x, w, b);
         g.output("too", g.tanh(y));
         return y;
       }},
      {"given out",
       [](Graph& g, Value x, Value w, Value) {
         const Value y = g.conv2d(x, w);
         g.output("too", y);
         return y;
       }},
      {"the sum before the bias is given out",
       [](Graph& g, Value x, Value w, Value b) {
         const Value y = g.conv2d(x, w);
         g.output("too", y);
         return g.add(y, g.per_channel(b));
       }},
      {"after relu", [](Graph& g, Value x, Value w, Value b) { return g.relu(g.conv2d(x, w, b)); }},
      {"after a residual",
       [](Graph& g, Value x, Value w, Value) {
         return g.add(g.conv2d(x, w), g.input("r", {2, 4, 5, 5}));
       }},
      {"weights that are given at run time",
       [](Graph& g, Value x, Value, Value) {
         return g.conv2d(x, g.input("w_in", {4, 3, 3, 3}));
       }},
      {"a bias that is given at run time",
       [](Graph& g, Value x, Value w, Value) { return g.conv2d(x, w, g.input("b_in", {4})); }},
      {"nothing but a view before",
       [](Graph& g, Value x, Value, Value) {
         return g.reshape(g.slice(g.reshape(x, {-1}), 0, 0, 200), {2, 4, 5, 5});
       }},
  };
  const Tensor x = uniform({2, 3, 7, 7}, 20, -2, 2), w = uniform({4, 3, 3, 3}, 21), b = uniform({4}, 22);
  const Statistics statistics = draw(4, 23);
  TensorMap weights{{"w", w}, {"b", b}};
  give(statistics, weights);
  TensorMap inputs{{"x", x}, {"r", uniform({2, 4, 5, 5}, 24)}, {"w_in", w}, {"b_in", b}};
  for (const Case& c : cases) {
    Graph g;
    const Value before =
        c.build(g, g.input("x", x.shape()), g.parameter("w", w.shape()), g.parameter("b", {4}));
    g.output("before", g.mul(before, 1.0f));
    g.output("y", norm(g, before));
    Graph alone;  // of the one reader that the case speaks of
    alone.output("y", norm(alone, c.build(alone, alone.input("x", x.shape()), alone.parameter("w", w.shape()),
                                          alone.parameter("b", {4}))));
    for (const Device device : devices()) {
      CAPTURE(c.name);
      const auto given = [&](const Graph& graph) {
        TensorMap used;
        for (const Node& node : graph.nodes())
          if (node.kind == NodeKind::input) used[node.name] = inputs.at(node.name);
        return used;
      };
      const TensorMap results = compile(g, weights, {.device = device}).session().run(given(g));
      const Tensor& seen = results.at("before");
      const auto oracle = [&](const Shape& i) {
        const Affine a = affine(statistics, i[1]);
        const double v = value_at(seen, i);
        return Expected{v * a.scale + a.shift,
                        3 * 0x1p-24 * (std::abs(v * a.scale) + std::abs(a.shift)) + 0x1p-140};
      };
      CHECK(num_wrong(results.at("y"), oracle) == 0);
      // Fused or not, no fold: the bits are those of the nodes one by one.
      CHECK(same_bits(run(alone, weights, given(alone), {.device = device}),
                      run(alone, weights, given(alone), {.device = device, .fuse = false})));
    }
  }
}

namespace {

// y = batch_norm(x) of x as `view` shows it and of statistics that are given at run time or not, against x as it was
// seen.
void check_view(const Shape& shape, DType dtype, const ViewCase& view, bool at_run_time, Device device) {
  const Statistics statistics = draw(shape[1], 30, dtype);
  Graph g;
  const Value x = view.view(g, g.input("x", view.base, dtype), shape);
  TensorMap weights, inputs{{"x", with_specials(view.base, dtype, 31)}};
  give(statistics, at_run_time ? inputs : weights);
  std::vector<Value> given;
  for (const char* name : {"weight", "bias", "mean", "variance"})
    given.push_back(at_run_time ? g.input(name, {shape[1]}, dtype) : g.parameter(name, {shape[1]}, dtype));
  g.output("seen", g.mul(x, 1.0f));
  g.output("y", g.batch_norm(x, given[0], given[1], given[2], given[3], kEps));
  for (const bool fuse : {true, false}) {
    CAPTURE(view.name);
    CAPTURE(to_string(shape));
    CAPTURE(to_string(dtype));
    CAPTURE(at_run_time);
    CAPTURE(fuse);
    // Each step that runs by itself stores what it has, rounded.
    const double unit = at_run_time && dtype != DType::float32 ? 2 * rounding_of(dtype) : 8 * 0x1p-24;
    const TensorMap results = compile(g, weights, {.device = device, .fuse = fuse}).session().run(inputs);
    const Tensor &seen = results.at("seen"), &y = results.at("y");
    REQUIRE(y.shape() == shape);
    CHECK(num_wrong(y, [&](const Shape& i) {
            const Affine a = affine(statistics, i[1]);
            const double value = value_at(seen, i);
            const double size = std::abs(value * a.scale) + std::abs(value_at(statistics.bias, {i[1]})) +
                                std::abs(value_at(statistics.mean, {i[1]}) * a.scale);
            return Expected{value * a.scale + a.shift, std::isfinite(size) ? unit * size + 0x1p-140 : 0};
          }) == 0);
  }
}

}  // namespace

TEST_CASE("batch_norm: x of two to five axes, each dtype, each kind of view; statistics given at run time") {
  for (const Shape& shape : std::vector<Shape>{
           {5, 3}, {2, 3, 7}, {2, 3, 4, 5}, {2, 3, 2, 3, 4}, {3, 1, 4}, {2, 0, 3}, {0, 3}, {2, 3, 0}})
    for (const DType dtype : all_dtypes())
      for (const ViewCase& view : view_cases(shape))
        for (const bool at_run_time : {false, true})
          for (const Device device : devices()) check_view(shape, dtype, view, at_run_time, device);
}

TEST_CASE("batch_norm: of 16 bits it stays a multiplication and addition behind a sum, rounded once") {
  const ConvShape s = make_shape({2, 6, 7, 6}, {5, 3, 3}, {.padding = 1});
  for (const DType dtype : {DType::float16, DType::bfloat16}) {
    const Tensor x = uniform({s.N, s.C, s.H, s.W}, 40, -2, 2).to(dtype),
                 w = uniform({s.K, s.C, s.R, s.S}, 41).to(dtype);
    const Statistics statistics = draw(s.K, 42, dtype);
    TensorMap weights{{"w", w}};
    give(statistics, weights);
    Graph g;
    g.output("y", norm(g, g.conv2d(g.input("x", x.shape(), dtype), g.parameter("w", w.shape(), dtype),
                                   options_of(s))));
    const Tensor wide_x = x.to(DType::float32), wide_w = w.to(DType::float32);
    for (const Device device : devices()) {
      const Tensor y = run(g, weights, {{"x", x}}, {.device = device});
      CHECK(y.dtype() == dtype);
      CHECK(num_wrong(y, [&](const Shape& i) {
              const ConvOutput exact =
                  conv_oracle(s, wide_x.floats(), wide_w.floats(), i[0], i[1], i[2], i[3]);
              const Affine a = affine(statistics, i[1]);
              return Expected{exact.value * a.scale + a.shift,
                              norm_bound(a, exact.sum_abs, 0, static_cast<double>(s.gemm_k()), 0)};
            }) == 0);
    }
  }
}

TEST_CASE("batch_norm: statistics without a finite scale are not folded, and give what one by one gives") {
  const Tensor x = uniform({1, 2, 4, 4}, 50), w = uniform({3, 2, 3, 3}, 51);
  for (const float variance : {-kEps, -1.0f, NAN, 0x1p127f}) {
    Statistics statistics = draw(3, 52);
    statistics.variance.floats()[1] = variance;
    if (variance == 0x1p127f) statistics.weight.floats()[1] = INFINITY;
    TensorMap weights{{"w", w}};
    give(statistics, weights);
    Graph g;
    g.output("y", norm(g, g.conv2d(g.input("x", x.shape()), g.parameter("w", w.shape()))));
    for (const Device device : devices()) {
      CAPTURE(variance);
      const Model model = compile(g, weights, {.device = device});
      const Tensor y = model.session().run({{"x", x}}).at("y");
      CHECK(same_bits(y, run(g, weights, {{"x", x}}, {.device = device, .fuse = false})));
      for_each_index(y.shape(), [&](const Shape& i) { CHECK(std::isfinite(value_at(y, i)) == (i[1] != 1)); });
    }
  }
  // A finite scale by which a weight overflows.
  Statistics statistics = draw(3, 53);
  Tensor large = Tensor::from(w.shape(), w.floats());
  large.floats()[0] = 0x1p120f;
  statistics.weight.floats()[0] = 0x1p20f;
  TensorMap weights{{"w", large}};
  give(statistics, weights);
  Graph g;
  g.output("y", norm(g, g.conv2d(g.input("x", x.shape()), g.parameter("w", w.shape()))));
  const Tensor zeros = Tensor::from(x.shape(), std::vector<float>(32, 0.0f));
  const Tensor y = run(g, weights, {{"x", zeros}}, {.device = Device::cpu()});
  for_each_index(y.shape(), [&](const Shape& i) { CHECK(std::isfinite(value_at(y, i))); });
}

TEST_CASE("batch_norm: behind batch_norm, and of one convolution's weights twice") {
  const Tensor x = uniform({1, 2, 5, 5}, 60), w = uniform({2, 2, 3, 3}, 61);
  const Statistics statistics = draw(2, 62);
  TensorMap weights{{"w", w}};
  give(statistics, weights);
  Graph g;
  const Value wv = g.parameter("w", w.shape());
  const Value once = norm(g, g.conv2d(g.input("x", x.shape()), wv));
  std::vector<Value> given;
  for (int i = 0; i < 4; ++i) given.push_back({once.node - 4 + i, 0});
  const Value twice = g.batch_norm(once, given[0], given[1], given[2], given[3], kEps);
  g.output("twice", twice);
  g.output("y", g.batch_norm(g.conv2d(twice, wv), given[1], given[0], given[2], given[3], kEps));
  for (const Device device : devices()) {
    const TensorMap y = compile(g, weights, {.device = device}).session().run({{"x", x}});
    const TensorMap plain = compile(g, weights, {.device = device, .fuse = false}).session().run({{"x", x}});
    const ConvShape s = make_shape({1, 2, 5, 5}, {2, 3, 3});
    CHECK(num_wrong(y.at("twice"), [&](const Shape& i) {
            const ConvOutput exact = conv_oracle(s, x.floats(), w.floats(), 0, i[1], i[2], i[3]);
            const Affine a = affine(statistics, i[1]);
            return Expected{(exact.value * a.scale + a.shift) * a.scale + a.shift, 0x1p-16};
          }) == 0);
    CHECK(num_wrong(y.at("y"), [&](const Shape& i) {
            return Expected{value_at(plain.at("y"), i), 0x1p-14};
          }) == 0);
  }
}

TEST_CASE("batch_norm: refused where it means nothing") {
  Graph g;
  const Value x = g.input("x", {2, 3, 4}), c = g.parameter("c", {3}), other = g.parameter("other", {4}),
              half = g.parameter("half", {3}, DType::float16), flat = g.input("flat", {3});
  CHECK_ERROR(g.batch_norm(x, c, other, c, c), shape_mismatch, "batch_norm_5", "bias", "[3]", "[4]",
              "[2, 3, 4]");
  CHECK_ERROR(g.batch_norm(x, c, c, c, half), shape_mismatch, "variance", "float16");
  CHECK_ERROR(g.batch_norm(flat, c, c, c, c), shape_mismatch, "[N, C, ...]", "[3]");
  CHECK_ERROR(g.batch_norm(x, c, c, Value{}, c), invalid_argument, "batch_norm", "not of this graph");
  CHECK(g.nodes().size() == 5);
}
