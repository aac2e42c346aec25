// What is computed where a concat wants it: never over what is still read, and wherever it can be.

#include "tests/support/lying.h"

using namespace solder;
using namespace solder::test;

namespace {

struct PlacingCase {
  const char* name;
  void (*build)(Graph& g,
                Value x);  // x [4,5], computed; its rows are shown backwards where an overlap must not work
  std::string paths;       // of the concats, in order
};

Value rows(Graph& g, Value x, int64_t start, int64_t stop) { return g.slice(x, 0, start, stop); }
Value last_rows_backwards(Graph& g, Value x) { return g.slice(x, 0, -1, 1, -1); }

const std::vector<PlacingCase> kCases = {
    {"a half stays, the other is computed behind its last reader",
     [](Graph& g, Value x) {
       const Value worked = g.softmax(g.softmax(last_rows_backwards(g, x)));
       g.output("y", g.softmax(g.concat({rows(g, x, 0, 2), worked}, 0)));
     },
     "in place"},
    {"the last to read the half is what is written over it",
     [](Graph& g, Value x) {
       const Value worked = g.relu(last_rows_backwards(g, x));
       g.output("y", g.softmax(g.concat({rows(g, x, 0, 2), worked}, 0)));
     },
     "1 of 2 copied"},
    {"the half is read once more, through views of a view",
     [](Graph& g, Value x) {
       const Value worked = g.softmax(g.softmax(last_rows_backwards(g, x)));
       g.output("late", g.sum(g.permute(last_rows_backwards(g, x), {1, 0}), {0}));
       g.output("y", g.softmax(g.concat({rows(g, x, 0, 2), worked}, 0)));
     },
     "1 of 2 copied"},
    {"and behind the concat",
     [](Graph& g, Value x) {
       const Value worked = g.softmax(g.softmax(last_rows_backwards(g, x)));
       const Value joined = g.concat({rows(g, x, 0, 2), worked}, 0);
       g.output("late", g.sum(last_rows_backwards(g, x), {0}));
       g.output("y", g.softmax(joined));
     },
     "1 of 2 copied"},
    {"both halves are of one tensor",
     [](Graph& g, Value x) {
       g.output("y", g.softmax(g.concat({rows(g, x, 0, 2), last_rows_backwards(g, x)}, 0)));
     },
     "2 of 2 copied"},
    {"the other half is a concat, written from when its first part is",
     [](Graph& g, Value x) {
       const Value first = g.exp(g.input("first", {1, 5}));
       const Value second = g.softmax(g.slice(x, 0, 3, 4));
       g.output("y", g.softmax(g.concat({rows(g, x, 0, 2), g.concat({first, second}, 0)}, 0)));
     },
     "in place, 1 of 2 copied"},
    {"a half that is given out",
     [](Graph& g, Value x) {
       const Value half = rows(g, x, 0, 2);
       g.output("half", half);
       g.output("y", g.softmax(g.concat({half, g.softmax(g.softmax(last_rows_backwards(g, x)))}, 0)));
     },
     "1 of 2 copied"},
    {"cut into rows and joined again",
     [](Graph& g, Value x) {
       g.output("y", g.softmax(g.concat(g.split(x, 0, {1, 1, 1, 1}), 0)));
     },
     "4 of 4 copied"},
    {"in two concats, the later of which its reader would not take",
     [](Graph& g, Value x) {
       const Value image = g.tanh(g.reshape(x, {1, 2, 2, 5})), other = g.input("other", {1, 2, 2, 5});
       g.output("conv", g.conv2d(image, g.input("w", {2, 2, 2, 2})));
       g.output("first", g.softmax(g.concat({g.exp(other), image}, 1)));
       g.output("second", g.softmax(g.concat({g.neg(other), image}, 2)));
     },
     "in place, 1 of 2 copied"},
    {"in two concats that want it differently, and both could have it",
     [](Graph& g, Value x) {
       const Value y = g.softmax(x), other = g.input("other", {4, 5});
       g.output("first", g.softmax(g.concat({g.exp(other), y}, 1)));
       g.output("second", g.softmax(g.concat({g.neg(other), y}, 0)));
     },
     "1 of 2 copied, in place"},
    {"nested: parts of parts",
     [](Graph& g, Value x) {
       const Value inner = g.concat({g.softmax(x), g.relu(g.input("other", {4, 2}))}, 1);
       g.output("y", g.softmax(g.concat({g.exp(g.input("third", {1, 7})), inner}, 0)));
     },
     "in place, in place"},
};

std::string paths_of_concats(const Model& model) {
  std::string paths;
  for (size_t i = 0; i < model.nodes().size(); ++i)
    if (model.graph().nodes()[i].kind == NodeKind::concat)
      paths += (paths.empty() ? "" : ", ") + model.nodes()[i].path;
  return paths;
}

}  // namespace

TEST_CASE("placing: wherever it can be, and nothing over what is still read") {
  for (const PlacingCase& c : kCases) {
    for (const Device device : devices()) {
      CAPTURE(c.name);
      Graph g;
      c.build(g, g.tanh(g.input("x", {4, 5})));
      TensorMap inputs;
      for (const Node& node : g.nodes())
        if (node.kind == NodeKind::input)
          inputs[node.name] = uniform(node.outputs[0].shape, inputs.size() + 1, -3, 3);
      const Model model = compile(g, {}, {.device = device});
      CHECK(paths_of_concats(model) == c.paths);
      const TensorMap y = model.session().run(inputs);
      // Given out, every value has memory of its own.
      for (size_t i = 0; i < g.nodes().size(); ++i) g.output(str("value ", i), {static_cast<int>(i), 0});
      const TensorMap all = compile(g, {}, {.device = device, .fuse = false}).session().run(inputs);
      for (const auto& [name, tensor] : y) {
        CAPTURE(name);
        CHECK(same_bits(tensor, all.at(name)));
      }
    }
  }
}

TEST_CASE("placing: one tensor in thousands of rows, concats and views of views") {
  constexpr int kMany = 4000;
  Graph g;
  const Value x = g.tanh(g.input("x", {kMany, 2}));
  const std::vector<Value> parts = g.split(x, 0, std::vector<int64_t>(kMany, 1));
  g.output("rows", g.softmax(g.concat(parts, 0)));
  Value y = rows(g, x, 0, 1), turned = g.softmax(x);
  for (int i = 0; i < kMany; ++i) y = rows(g, g.concat({rows(g, x, 1, 2), g.softmax(y)}, 0), 1, 2);
  g.output("many", y);
  for (int i = 0; i < kMany; ++i) turned = g.permute(turned, {1, 0});
  g.output("turned", g.concat({g.softmax(x), turned}, 0));
  const Tensor xt = uniform({kMany, 2}, 1);
  const TensorMap result = compile(g, {}, {.device = Device::cpu()}).session().run({{"x", xt}});
  Graph plain;
  const Value px = plain.tanh(plain.input("x", {kMany, 2}));
  plain.output("rows", plain.softmax(px));
  const TensorMap expected = compile(plain, {}, {.device = Device::cpu()}).session().run({{"x", xt}});
  CHECK(same_bits(result.at("rows"), expected.at("rows")));
  CHECK(value_at(result.at("many"), {0, 0}) == doctest::Approx(0.5).epsilon(1e-6));
  const Tensor& turned_rows = result.at("turned");
  CHECK(std::memcmp(turned_rows.data(), expected.at("rows").data(), kMany * 8) == 0);
  CHECK(std::memcmp(turned_rows.floats().data() + 2 * kMany, expected.at("rows").data(), kMany * 8) == 0);
}
