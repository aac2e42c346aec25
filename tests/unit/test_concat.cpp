// Concat: what it joins, and which of it is computed in place.

#include <algorithm>
#include <functional>
#include <numeric>

#include "tests/support/support.h"

using namespace solder;
using namespace solder::test;

namespace {

// The parts behind one another along the axis, by copying elements one at a time.
Tensor joined(const std::vector<Tensor>& parts, size_t axis) {
  Shape shape = parts[0].shape();
  shape[axis] = 0;
  for (const Tensor& part : parts) shape[axis] += part.shape()[axis];
  Tensor result = Tensor::empty(shape, parts[0].dtype());
  const auto outer = std::accumulate(shape.begin(), shape.begin() + static_cast<std::ptrdiff_t>(axis),
                                     int64_t{1}, std::multiplies<>());
  float value = 0;
  int64_t to = 0;
  for (int64_t i = 0; i < outer; ++i) {
    for (const Tensor& part : parts) {
      const int64_t count = outer > 0 ? part.num_elems() / outer : 0;
      for (int64_t e = 0; e < count; ++e) {
        value = load_as_float(part.data(), part.dtype(), i * count + e);
        store_from_float(result.data(), result.dtype(), to++, value);
      }
    }
  }
  return result;
}

std::string path_of(const Model& model, NodeKind kind) {
  std::string paths;
  for (size_t i = 0; i < model.nodes().size(); ++i)
    if (model.graph().nodes()[i].kind == kind) paths += (paths.empty() ? "" : ", ") + model.nodes()[i].path;
  return paths;
}

}  // namespace

TEST_CASE("concat: any number of inputs along any axis, empty ones too, of every dtype") {
  const std::vector<std::vector<Shape>> cases = {{{2, 3, 4}, {2, 5, 4}},
                                                 {{3}, {1}, {0}, {7}},
                                                 {{2, 3, 4, 5}},
                                                 {{1, 2, 3, 3}, {1, 6, 3, 3}, {1, 1, 3, 3}},
                                                 {{0, 4}, {0, 5}}};
  for (const Device device : devices()) {
    for (const DType dtype : {DType::float32, DType::float16, DType::bfloat16}) {
      for (const auto& shapes : cases) {
        const size_t axis = shapes[0].size() > 1 ? 1 : 0;
        Graph g;
        std::vector<Value> values, doubled;
        std::vector<Tensor> tensors, expected;
        TensorMap inputs;
        for (const Shape& shape : shapes) {
          const std::string name = str("x", values.size());
          tensors.push_back(uniform(shape, 7 + values.size()).to(dtype));
          inputs[name] = tensors.back();
          values.push_back(g.input(name, shape, dtype));
          doubled.push_back(g.mul(values.back(), 2.0f));
          Tensor twice = Tensor::empty(shape, dtype);
          for (int64_t i = 0; i < twice.num_elems(); ++i)
            store_from_float(twice.data(), dtype, i, 2 * load_as_float(tensors.back().data(), dtype, i));
          expected.push_back(twice);
        }
        g.output("plain", g.concat(values, static_cast<int>(axis) - static_cast<int>(shapes[0].size())));
        g.output("computed", g.concat(doubled, static_cast<int>(axis)));
        const TensorMap y = compile(g, {}, {.device = device}).session().run(inputs);
        CAPTURE(to_string(shapes[0]));
        CHECK(same_bits(y.at("plain"), joined(tensors, axis)));
        CHECK(same_bits(y.at("computed"), joined(expected, axis)));
      }
    }
  }
}

TEST_CASE("concat: convolutions write into their part, for one image and for several") {
  for (const Device device : devices()) {
    for (const int64_t images : {1, 3}) {
      Graph g;
      const Value x = g.input("x", {images, 4, 6, 5}), w0 = g.parameter("w0", {3, 4, 1, 1}),
                  w1 = g.parameter("w1", {5, 4, 3, 3}), w2 = g.parameter("w2", {2, 8, 3, 3});
      const Value a = g.relu(g.conv2d(x, w0)), b = g.mish(g.conv2d(x, w1, {.padding = 1}));
      const Value both = g.concat({a, b}, 1);
      g.output("y", g.conv2d(both, w2));
      g.output("a_again", g.mul(a, 1.0f));  // its readers follow it
      const TensorMap weights{{"w0", uniform({3, 4, 1, 1}, 1)},
                              {"w1", uniform({5, 4, 3, 3}, 2)},
                              {"w2", uniform({2, 8, 3, 3}, 3)}};
      const TensorMap inputs{{"x", uniform({images, 4, 6, 5}, 4)}};
      const Model model = compile(g, weights, {.device = device});
      CHECK(path_of(model, NodeKind::concat) == "in place");
      const TensorMap y = model.session().run(inputs);
      Graph apart;
      {
        const Value p = apart.input("a", {images, 3, 6, 5}), q = apart.input("b", {images, 5, 6, 5});
        apart.output("y", apart.conv2d(apart.concat({p, q}, 1), apart.parameter("w2", {2, 8, 3, 3})));
      }
      Graph first;
      {
        const Value fx = first.input("x", {images, 4, 6, 5});
        first.output("a", first.relu(first.conv2d(fx, first.parameter("w0", {3, 4, 1, 1}))));
        first.output("b", first.mish(first.conv2d(fx, first.parameter("w1", {5, 4, 3, 3}), {.padding = 1})));
      }
      const TensorMap parts = compile(first, weights, {.device = device}).session().run(inputs);
      CHECK(same_bits(y.at("a_again"), parts.at("a")));
      const TensorMap expected = compile(apart, weights, {.device = device}).session().run(parts);
      CHECK(same_bits(y.at("y"), expected.at("y")));
    }
  }
}

TEST_CASE("concat: a half that stays where it is, and what may not be written over it") {
  for (const Device device : devices()) {
    // As in a cross-stage block: one half goes on, is worked on and comes back in its own place.
    const auto run_block = [&](bool keeps_second, bool swaps, std::string* path) {
      Graph g;
      const Value x = g.input("x", {2, 6, 4, 4}), w = g.parameter("w", {8, 6, 1, 1});
      const std::vector<Value> halves = g.split(g.mish(g.conv2d(x, w)), 1, {4, 4});
      const Value worked =
          g.conv2d(g.relu(g.conv2d(halves[1], g.parameter("w1", {4, 4, 3, 3}), {.padding = 1})),
                   g.parameter("w2", {4, 4, 3, 3}), {.padding = 1});
      const Value both = swaps ? g.concat({worked, halves[0]}, 1) : g.concat({halves[0], worked}, 1);
      g.output("y", g.conv2d(both, g.parameter("w3", {3, 8, 1, 1})));
      if (keeps_second) g.output("late", g.sum(g.mul(halves[1], g.slice(both, 1, 0, 4)), {1}));
      TensorMap weights;
      for (const Node& node : g.nodes())
        if (node.kind == NodeKind::parameter)
          weights[node.name] = uniform(node.outputs[0].shape, node.name.back());
      const TensorMap inputs{{"x", uniform({2, 6, 4, 4}, 11)}};
      const Model model = compile(g, weights, {.device = device});
      *path = path_of(model, NodeKind::concat);
      const TensorMap y = model.session().run(inputs);
      // Given out, every value has memory of its own.
      for (size_t i = 0; i < g.nodes().size(); ++i) g.output(str("value ", i), {static_cast<int>(i), 0});
      const TensorMap all = compile(g, weights, {.device = device, .fuse = false}).session().run(inputs);
      for (const auto& [name, tensor] : y) CHECK(same_bits(tensor, all.at(name)));
    };
    std::string path;
    run_block(false, false, &path);
    CHECK(path == "in place");
    run_block(true, false, &path);
    CHECK(path == "1 of 2 copied");
    run_block(false, true, &path);
    CHECK(path == "1 of 2 copied");
  }
}

TEST_CASE("concat: of concats, of one value twice, of inputs and outputs") {
  for (const Device device : devices()) {
    Graph g;
    const Value x = g.input("x", {2, 2, 3, 3});
    const Value a = g.exp(x), b = g.abs(x), c = g.neg(x);
    const Value inner = g.concat({a, b}, 1);
    g.output("nested", g.mul(g.concat({inner, c}, 1), 1.0f));
    g.output("twice", g.concat({c, c}, 1));
    g.output("c", c);
    g.output("with_input", g.concat({x, a}, 0));
    const Tensor input = uniform({2, 2, 3, 3}, 5);
    const TensorMap y = compile(g, {}, {.device = device}).session().run({{"x", input}});
    Graph parts;
    const Value px = parts.input("x", {2, 2, 3, 3});
    parts.output("a", parts.exp(px));
    parts.output("b", parts.abs(px));
    parts.output("c", parts.neg(px));
    const TensorMap p = compile(parts, {}, {.device = device}).session().run({{"x", input}});
    CHECK(same_bits(y.at("nested"), joined({p.at("a"), p.at("b"), p.at("c")}, 1)));
    CHECK(same_bits(y.at("twice"), joined({p.at("c"), p.at("c")}, 1)));
    CHECK(same_bits(y.at("c"), p.at("c")));
    CHECK(same_bits(y.at("with_input"), joined({input, p.at("a")}, 0)));
  }
}

TEST_CASE("concat: refused where it means nothing") {
  Graph g;
  const Value x = g.input("x", {2, 3}), y = g.input("y", {3, 3}),
              half = g.input("half", {2, 3}, DType::float16);
  CHECK_ERROR(g.concat({}, 0), invalid_argument, "no values");
  CHECK_ERROR(g.concat({x, y}, 1), shape_mismatch, "[2, 3]", "[3, 3]", "more than axis 1");
  CHECK_ERROR(g.concat({x, half}, 0), shape_mismatch, "float16");
  CHECK_ERROR(g.concat({x, x}, 2), invalid_argument, "axis 2");
  CHECK(g.type(g.concat({x, y}, -2)).shape == Shape{5, 3});
}
