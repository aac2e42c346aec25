// Math::fp16 and Math::bf16: what is rounded, when, and what is not.

#include <algorithm>
#include <functional>

#include "tests/cases/conv_cases.h"
#include "tests/support/oracle.h"
#include "tests/support/support.h"

using namespace solder;
using namespace solder::test;

namespace {

struct Mode {
  Math math;
  DType dtype;
  int significand_bits, smallest_exponent;  // of the least step, in powers of two
};

const Mode kModes[] = {{Math::fp16, DType::float16, 11, -24}, {Math::bf16, DType::bfloat16, 8, -133}};

// To nearest even among the mode's numbers times 2^-shift, without an upper end.
double rounded(double value, const Mode& mode, int shift = 0) {
  if (value == 0 || !std::isfinite(value)) return value;
  const int step = std::max(std::ilogb(value) + shift - mode.significand_bits + 1, mode.smallest_exponent);
  return std::ldexp(std::nearbyint(std::ldexp(value, shift - step)), step - shift);
}

Tensor rounded(const Tensor& tensor, const Mode& mode) {
  Tensor result = Tensor::empty(tensor.shape());
  std::ranges::transform(tensor.floats(), result.floats().begin(),
                         [&](float value) { return static_cast<float>(rounded(value, mode)); });
  return result;
}

// The weights of a convolution, a power of two for each output channel apart in fp16.
Tensor rounded_weights(const Tensor& w, const Mode& mode) {
  Tensor result = Tensor::empty(w.shape());
  const size_t row = w.floats().size() / static_cast<size_t>(w.shape()[0]);
  for (size_t i = 0; i < w.floats().size(); ++i) {
    const auto channel = w.floats().subspan(i / row * row, row);
    float largest = 0;
    for (const float value : channel) largest = std::max(largest, std::abs(value));
    const int shift = mode.math == Math::fp16 && largest > 0 ? 14 - std::ilogb(largest) : 0;
    result.floats()[i] = static_cast<float>(rounded(w.floats()[i], mode, shift));
  }
  return result;
}

bool holds_mode_values(const Tensor& tensor, const Mode& mode) {
  return std::ranges::all_of(tensor.floats(), [&](float value) { return rounded(value, mode) == value; });
}

TensorMap run_with(const Graph& g, const TensorMap& weights, const TensorMap& inputs, Math math,
                   Device device, bool fuse = true) {
  return compile(g, weights, {.device = device, .math = math, .fuse = fuse}).session().run(inputs);
}

// Nodes that the passes left, of a kind.
int64_t count(const Graph& g, NodeKind kind) {
  return std::ranges::count_if(g.nodes(), [&](const Node& node) { return node.kind == kind; });
}

}  // namespace

TEST_CASE("math modes: a convolution multiplies rounded images by weights scaled channel by channel") {
  const ConvShape s = make_shape({2, 5, 7, 6}, {4, 3, 3}, {.padding = 1});
  Tensor x = uniform({2, 5, 7, 6}, 1, -3, 3), w = uniform({4, 5, 3, 3}, 2), b = uniform({4}, 3);
  const float scales[] = {1, 1e-30f, 1e30f, 3e-6f};
  for (size_t i = 0; i < w.floats().size(); ++i) w.floats()[i] *= scales[i / 45];
  w.floats()[0] = 1e-7f;  // beside weights of 1 still no zero
  Graph g;
  g.output("y", g.conv2d(g.input("x", x.shape()), g.parameter("w", w.shape()), g.parameter("b", {4}),
                         {.padding = 1}));
  for (const Mode& mode : kModes) {
    CAPTURE(to_string(mode.math));
    const Tensor x16 = rounded(x, mode), w16 = rounded_weights(w, mode);
    CHECK(w16.floats()[0] != 0);
    for (const Device device : devices()) {
      const Tensor y = run_with(g, {{"w", w}, {"b", b}}, {{"x", x}}, mode.math, device).at("y");
      CHECK(worst_conv_error(Math::fp32, s, x16.floats(), w16.floats(), b.floats(), y.floats()) <= 1);
      CHECK(worst_conv_error(Math::fp32, s, x.floats(), w.floats(), b.floats(), y.floats()) > 1);
    }
  }
}

TEST_CASE("math modes: bits are those of a graph that says where it rounds") {
  const Tensor x = uniform({2, 8, 9, 9}, 1), w = uniform({8, 8, 3, 3}, 2), v = uniform({8, 6}, 3);
  for (const Mode& mode : kModes) {
    for (const bool fuse : {true, false}) {
      CAPTURE(to_string(mode.math));
      CAPTURE(fuse);
      const auto build = [&](bool says) {
        Graph g;
        const auto round = [&](Value value) {
          return says ? g.cast(g.cast(value, mode.dtype), DType::float32) : value;
        };
        const Value in = g.input("x", x.shape()), weights = g.parameter("w", w.shape());
        const Value first = g.conv2d(round(in), weights, {.padding = 1});
        // Fused, mish and the sum are no nodes: what lies between two convolutions is rounded once.
        const Value active = g.mish(fuse ? first : round(first));
        const Value h = round(g.add(fuse ? active : round(active), in));
        const Value second =
            g.relu(fuse ? g.conv2d(h, weights, {.padding = 1}) : round(g.conv2d(h, weights, {.padding = 1})));
        const Value pooled = g.max_pool2d(round(second), {.kernel = 3, .stride = 2});
        const Value mean = g.mean(g.concat({pooled, pooled}, 0), {2, 3});  // a statistic
        g.output("h", h);
        g.output("y", g.matmul(g.slice(mean, 0, 0, 2), g.parameter("v", v.shape())));
        return g;
      };
      Tensor v16 = Tensor::empty(v.shape());  // a column is an output channel
      for (size_t i = 0; i < v.floats().size(); ++i) {
        float largest = 0;
        for (size_t k = i % 6; k < v.floats().size(); k += 6)
          largest = std::max(largest, std::abs(v.floats()[k]));
        const int shift = mode.math == Math::fp16 ? 14 - std::ilogb(largest) : 0;
        v16.floats()[i] = static_cast<float>(rounded(v.floats()[i], mode, shift));
      }
      const TensorMap got =
          run_with(build(false), {{"w", w}, {"v", v}}, {{"x", x}}, mode.math, Device::cpu(), fuse);
      const TensorMap want = run_with(build(true), {{"w", rounded_weights(w, mode)}, {"v", v16}}, {{"x", x}},
                                      Math::fp32, Device::cpu(), fuse);
      CHECK(holds_mode_values(got.at("h"), mode));
      CHECK(same_bits(got.at("h"), want.at("h")));
      CHECK(same_bits(got.at("y"), want.at("y")));
      CHECK_FALSE(holds_mode_values(got.at("y"), mode));  // given out as it was computed
    }
  }
}

TEST_CASE("math modes: without a sum of products nothing is rounded that is only read and given out") {
  const Tensor x = uniform({3, 40}, 1, -9, 9);
  Graph g;
  g.output("y", g.mish(g.add(g.square(g.input("x", x.shape())), 1.0f)));
  for (const Device device : devices()) {
    const Tensor want = run_with(g, {}, {{"x", x}}, Math::fp32, device).at("y");
    for (const Mode& mode : kModes)
      CHECK(same_bits(run_with(g, {}, {{"x", x}}, mode.math, device).at("y"), want));
  }
}

TEST_CASE("math modes: what is only given out is not rounded, through views either") {
  const Tensor x = uniform({2, 3, 4, 4}, 1), w = uniform({4, 3, 1, 1}, 2);
  Graph g;
  const Value y = g.conv2d(g.input("x", x.shape()), g.parameter("w", w.shape()));
  g.output("y", y);
  g.output("turned", g.permute(y, {0, 2, 3, 1}));
  Graph read = g;
  read.output("r", read.relu(y));
  for (const Mode& mode : kModes)
    for (const Device device : devices()) {
      const TensorMap given = run_with(g, {{"w", w}}, {{"x", x}}, mode.math, device, false);
      CHECK_FALSE(holds_mode_values(given.at("y"), mode));
      CHECK_FALSE(holds_mode_values(given.at("turned"), mode));
      CHECK(
          holds_mode_values(run_with(read, {{"w", w}}, {{"x", x}}, mode.math, device, false).at("y"), mode));
    }
}

TEST_CASE("math modes: an operand that a region passes on is read there as it is stored") {
  for (const Mode& mode : kModes) {
    const DType other = mode.math == Math::fp16 ? DType::bfloat16 : DType::float16;
    const auto build = [&](bool says) {
      Graph g;
      Value wide = g.cast(g.input("x", {1, 2, 4, 4}, other), DType::float32);
      if (says) wide = g.cast(g.cast(wide, mode.dtype), DType::float32);
      g.output("mish", g.mish(wide));
      g.output("y", g.conv2d(wide, g.parameter("w", {2, 2, 1, 1})));
      return g;
    };
    const TensorMap inputs{{"x", uniform({1, 2, 4, 4}, 1, -3e-5f, 3e-5f).to(other)}};
    const Tensor w = uniform({2, 2, 1, 1}, 2);
    const TensorMap got = run_with(build(false), {{"w", w}}, inputs, mode.math, Device::cpu()),
                    want = run_with(build(true), {{"w", rounded_weights(w, mode)}}, inputs, Math::fp32,
                                    Device::cpu());
    for (const char* name : {"mish", "y"}) CHECK(same_bits(got.at(name), want.at(name)));
  }
}

TEST_CASE("math modes: beyond 65504 float16 is infinite, bfloat16 is not") {
  Graph g;
  const Value x = g.input("x", {1, 2}), w = g.parameter("w", {2, 2});
  const Value h = g.matmul(x, w);
  g.output("h", h);
  g.output("y", g.matmul(h, w));
  const Tensor tensor = Tensor::from({1, 2}, std::vector<float>{300, 0}),
               weights = Tensor::from({2, 2}, std::vector<float>{300, 1, 0, 1});
  for (const Device device : devices()) {
    const auto run = [&](Math math) { return run_with(g, {{"w", weights}}, {{"x", tensor}}, math, device); };
    CHECK(run(Math::fp16).at("h").floats()[0] == INFINITY);
    CHECK(run(Math::fp16).at("h").floats()[1] == 300);
    CHECK(run(Math::fp16).at("y").floats()[0] == INFINITY);
    CHECK(run(Math::bf16).at("h").floats()[0] == static_cast<float>(rounded(90000, kModes[1])));
  }
}

TEST_CASE(
    "math modes: rounding is part of what computes a value, and only the image is rounded by a node of its "
    "own") {
  const auto pads = [](float value) {
    return [value](Graph& g, Value v) {
      return g.pad(v, {0, 0, 1, 1}, {0, 0, 1, 1}, PadMode::constant, value);
    };
  };
  const struct {
    const char* name;
    std::function<Value(Graph&, Value)> build;
    bool is_statistic = false, is_fused = false;
    bool turns_back = false;  // needs rows of images in a copy
  } cases[] = {
      {"nothing", [](Graph&, Value v) { return v; }},
      {"mish", [](Graph& g, Value v) { return g.mish(v); }, false, true},
      {"max_pool2d", [](Graph& g, Value v) { return g.max_pool2d(v, {.kernel = 2}); }},
      {"avg_pool2d", [](Graph& g, Value v) { return g.avg_pool2d(v, {.kernel = 2}); }},
      {"nearest", [](Graph& g, Value v) { return g.resize(v, {.scale = 2}); }},
      {"bilinear", [](Graph& g, Value v) { return g.resize(v, {.scale = 2, .mode = ResizeMode::bilinear}); }},
      {"concat",
       [](Graph& g, Value v) {
         return g.slice(g.concat({v, v}, 1), 1, 2, 6);
       }},
      {"gather",
       [](Graph& g, Value v) {
         return g.gather(v, 1, {3, 0, 0, 1});
       }},
      {"pad 0", pads(0)},
      {"pad 0.1", pads(0.1f)},
      {"reduce_max", [](Graph& g, Value v) { return g.reduce_max(v, {3}, true); }, true},
      {"mean", [](Graph& g, Value v) { return g.mean(v, {3}, true); }, true},
      {"softmax", [](Graph& g, Value v) { return g.softmax(v, 1); }},
      {"flatten",
       [](Graph& g, Value v) {
         return g.reshape(g.flatten(v), {0, 4, 8, -1});
       },
       false, false, true},
  };
  for (const auto& c : cases) {
    CAPTURE(std::string(c.name));
    Graph g;
    const Value w = g.parameter("w", {4, 4, 1, 1});
    g.output("y", g.conv2d(c.build(g, g.conv2d(g.input("x", {1, 4, 8, 8}), w)), w));
    const Tensor filters = uniform({4, 4, 1, 1}, 1), x = uniform({1, 4, 8, 8}, 2);
    const Model plain = compile(g, {{"w", filters}}, {.device = Device::cpu()});
    for (const Mode& mode : kModes) {
      const Model model = compile(g, {{"w", filters}}, {.device = Device::cpu(), .math = mode.math});
      CHECK(count(model.graph(), NodeKind::elementwise) - count(plain.graph(), NodeKind::elementwise) ==
            1 + c.turns_back);  // one rounds the image
      // All is stored in 16 bits but what is given and given out, and statistics.
      for (const Node& node : model.graph().nodes()) {
        CAPTURE(node.name);
        const bool is_wide = node.is_given() || node.name == g.nodes().back().name || c.is_statistic;
        if (!is_wide) CHECK(node.outputs[0].dtype == mode.dtype);
      }
      CHECK(model.graph().type(model.graph().outputs()[0].second).dtype == DType::float32);

      Graph says;
      const auto round = [&](Value value) { return says.cast(says.cast(value, mode.dtype), DType::float32); };
      const Value v = says.parameter("w", {4, 4, 1, 1});
      const Value sum = says.conv2d(round(says.input("x", {1, 4, 8, 8})), v);
      const Value built = c.build(says, c.is_fused ? sum : round(sum));
      says.output("y", says.conv2d(c.is_statistic ? built : round(built), v));
      for (const Device device : devices()) {
        if (device.is_cuda()) continue;  // other kernels add in another order
        CHECK(same_bits(
            run_with(g, {{"w", filters}}, {{"x", x}}, mode.math, device).at("y"),
            run_with(says, {{"w", rounded_weights(filters, mode)}}, {{"x", x}}, Math::fp32, device).at("y")));
      }
    }
  }
}

TEST_CASE(
    "math modes: a value that is read and given out is stored in 16 bits and given out in its own type") {
  Graph g;
  const Value x = g.input("x", {2, 4, 6, 6}), w = g.parameter("w", {4, 4, 1, 1});
  const Value sum = g.add(g.conv2d(x, w), x), active = g.mish(sum);
  g.output("sum", sum);
  g.output("flat", g.flatten(active));
  g.output("soft", g.softmax(active, 1));
  g.output("turned", g.permute(active, {0, 2, 3, 1}));
  g.output("y", g.conv2d(g.concat({active, x}, 1), g.parameter("v", {3, 8, 3, 3})));
  const TensorMap weights{{"w", uniform({4, 4, 1, 1}, 1)}, {"v", uniform({3, 8, 3, 3}, 2)}};
  const Tensor image = uniform({2, 4, 6, 6}, 3);
  for (const Mode& mode : kModes) {
    const Model model = compile(g, weights, {.device = Device::cpu(), .math = mode.math});
    const TensorMap got = model.session().run({{"x", image}});
    for (const auto& [name, tensor] : got) CHECK(tensor.dtype() == DType::float32);
    for (const char* name : {"sum", "flat", "turned"}) CHECK(holds_mode_values(got.at(name), mode));
    CHECK_FALSE(holds_mode_values(got.at("soft"), mode));
    // The activation is a pass of its own: a convolution's kernels store one result.
    const Node& node = model.graph().nodes()[static_cast<size_t>(
        std::ranges::find_if(model.graph().nodes(),
                             [](const Node& n) { return n.kind == NodeKind::conv2d; }) -
        model.graph().nodes().begin())];
    REQUIRE(node.outputs.size() == 1);
    CHECK(node.outputs[0].dtype == mode.dtype);

    Graph says;
    const auto round = [&](Value value) { return says.cast(says.cast(value, mode.dtype), DType::float32); };
    const Value sx = says.input("x", {2, 4, 6, 6});
    const Value ssum = round(says.add(says.conv2d(round(sx), says.parameter("w", {4, 4, 1, 1})), sx));
    const Value sactive = round(says.mish(ssum));
    says.output("sum", ssum);
    says.output("flat", says.flatten(sactive));
    says.output("soft", says.softmax(sactive, 1));
    says.output("turned", says.permute(sactive, {0, 2, 3, 1}));
    says.output("y", says.conv2d(round(says.concat({sactive, sx}, 1)), says.parameter("v", {3, 8, 3, 3})));
    const TensorMap want = run_with(
        says, {{"w", rounded_weights(weights.at("w"), mode)}, {"v", rounded_weights(weights.at("v"), mode)}},
        {{"x", image}}, Math::fp32, Device::cpu());
    for (const auto& [name, tensor] : want) {
      CAPTURE(name);
      CHECK(same_bits(got.at(name), tensor));
    }
  }
}

TEST_CASE("math modes: graphs declared in 16 bits are computed in those, in any mode") {
  for (const DType dtype : {DType::float16, DType::bfloat16}) {
    Graph g;
    const Value x = g.input("x", {1, 4, 6, 6}, dtype), w = g.parameter("w", {4, 4, 3, 3}, dtype);
    g.output("y", g.conv2d(g.mish(g.conv2d(x, w)), w));
    const TensorMap weights{{"w", uniform({4, 4, 3, 3}, 1).to(dtype)}},
        inputs{{"x", uniform({1, 4, 6, 6}, 2).to(dtype)}};
    for (const bool fuse : {true, false}) {
      const auto run = [&](Math math) {
        return run_with(g, weights, inputs, math, Device::cpu(), fuse).at("y").to(DType::float32);
      };
      for (const Math math : kMathModes) CHECK(same_bits(run(math), run(Math::fp32)));
    }
  }
}

TEST_CASE("math modes: a chain as long as a program can hold keeps room for its rounding") {
  Graph g;
  Value v = g.input("x", {1, 3, 2, 2});
  const Value w = g.parameter("w", {3, 3, 1, 1});
  v = g.conv2d(v, w);
  for (int i = 0; i < 200; ++i) v = g.add(g.tanh(v), 0.125f);
  g.output("y", g.conv2d(v, w));
  const Tensor weights = uniform({3, 3, 1, 1}, 1), x = uniform({1, 3, 2, 2}, 2);
  for (const Mode& mode : kModes)
    for (const Device device : devices()) {
      const Tensor y = run_with(g, {{"w", weights}}, {{"x", x}}, mode.math, device).at("y");
      const Tensor exact = run_with(g, {{"w", weights}}, {{"x", x}}, Math::fp32, device).at("y");
      for (size_t i = 0; i < y.floats().size(); ++i)
        CHECK(std::abs(y.floats()[i] - exact.floats()[i]) < 4 * std::ldexp(1, -mode.significand_bits));
    }
}

TEST_CASE(
    "math modes: statistics times weights given at run time, or declared in 16 bits, are whole numbers "
    "still") {
  const Tensor x = Tensor::from({1, 2, 1, 2}, {1, 2, -3, 5}),
               w = Tensor::from({3, 2, 1, 1}, {1, 2, -1, 1, 2, -2}),
               v = Tensor::from({2, 3}, {1, 0, -1, 1, 2, 1});
  for (const Mode& mode : kModes) {
    Graph g;
    const Value sums = g.sum(g.input("x", x.shape()), {3}, true);
    const Value images = g.conv2d(sums, g.input("w", w.shape()));  // stored in 16 bits, one pixel each
    g.output("y", g.linear(g.flatten(g.relu(images)), g.parameter("v", v.shape())));
    const Value narrow = g.sum(g.input("narrow", x.shape(), mode.dtype), {2, 3});
    g.output("z", g.linear(g.cast(narrow, DType::float32), g.parameter("u", {1, 2})));
    const Value filters = g.mean(g.input("filters", {1, 2, 1, 2}), {3}, true);
    g.output("p", g.conv2d(g.parameter("image", x.shape()), filters));
    const TensorMap weights{{"v", v}, {"u", Tensor::from({1, 2}, {2, -1})}, {"image", x}},
        inputs{{"x", x}, {"w", w}, {"narrow", x.to(mode.dtype)}, {"filters", x}};
    for (const Device device : devices()) {
      for (const bool fuse : {true, false}) {
        const TensorMap got = run_with(g, weights, inputs, mode.math, device, fuse);
        CHECK(same_bits(got.at("y"), Tensor::from({1, 2}, {5, 9})));
        CHECK(same_bits(got.at("z"), Tensor::from({1, 1}, {4})));
        CHECK(same_bits(got.at("p"), Tensor::from({1, 1, 1, 2}, {-1.5f, 8})));
      }
    }
  }
}
