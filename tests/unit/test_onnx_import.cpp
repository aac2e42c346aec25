// What an importer of ONNX refuses and how it says so: operators, attributes, domains, shapes, names. What it rewrites.

#include <algorithm>
#include <cmath>

#include "graph/solder.h"
#include "tests/support/file_testing.h"
#include "tests/support/onnx_writer.h"
#include "tests/support/support.h"

namespace solder::test {
namespace {

using namespace onnx_testing;
using file_testing::as_bytes;

OnnxNet parse(const File& file, const OnnxOptions& options = {}) {
  return parse_onnx(as_bytes(file.bytes()), options, "model.onnx");
}

Tensor run_net(const OnnxNet& net, const TensorMap& inputs) {
  return compile(net.graph, net.weights, {.device = Device::cpu()}).session().run(inputs).at("y");
}

Tensor run_one(const Message& the_node, const Tensor& x) {
  return run_net(parse(one_node(the_node, x.shape())), {{"x", x}});
}

// How often the graph, before any pass, has this elementwise function.
int count_of(const Graph& graph, Op op) {
  int count = 0;
  for (const Node& node : graph.nodes())
    if (node.kind == NodeKind::elementwise)
      for (const auto& expr : node.epilogue.region.exprs) count += expr.op == op;
  return count;
}

}  // namespace

TEST_CASE("onnx import: everything unsupported is said at once, by operator, with counts and names") {
  File file{.nodes = {node("Frobnicate", {"x"}, {"a"}), node("Frobnicate", {"a"}, {"b"}),
                      node("Frobnicate", {"b"}, {"c"}), node("Relu", {"c"}, {"d"}, {{"slope", 0.5f}}),
                      node("NonZero", {"d"}, {"e"}), node("Gelu", {"e"}, {"y"}, {}, "com.microsoft")},
            .inputs = {value_info("x", {2, 3})},
            .outputs = {value_info("y", {2, 3})}};
  CHECK_ERROR(parse(file), unsupported, "model.onnx", "Frobnicate", "3", "node_a", "Relu", "slope", "node_d",
              "NonZero", "Gelu", "com.microsoft", "node_y");
}

TEST_CASE("onnx import: an attribute that an operator has not is refused, whatever the operator") {
  struct Case {
    const char* op;
    std::vector<Attribute> attributes;
  };
  const std::vector<Case> cases = {
      {"Relu", {}},
      {"Add", {}},
      {"Softmax", {{"axis", 1}}},
      {"MatMul", {}},
      {"MaxPool", {{"kernel_shape", std::vector<int64_t>{2, 2}}}},
      {"Flatten", {}},
      {"GlobalAveragePool", {}},
      {"Transpose", {}},
      {"Identity", {}},
      {"LeakyRelu", {}},
      {"Elu", {}},
      {"Concat", {{"axis", 1}}},
  };
  for (const Case& each : cases) {
    CAPTURE(std::string(each.op));
    std::vector<Attribute> attributes = each.attributes;
    attributes.emplace_back("unheard_of", 1);
    const bool two = each.op == std::string("Add") || each.op == std::string("MatMul");
    const auto inputs = two ? std::vector<std::string>{"x", "x"} : std::vector<std::string>{"x"};
    CHECK_ERROR(parse(one_node(node(each.op, inputs, {"y"}, attributes))), unsupported, each.op, "unheard_of",
                "node_y");
    (void)parse(one_node(node(each.op, inputs, {"y"}, each.attributes)));
  }
  // Of another type than the operator's own.
  CHECK_ERROR(parse(one_node(node("LeakyRelu", {"x"}, {"y"}, {{"alpha", "much"}}))), io, "alpha", "node_y");
}

TEST_CASE("onnx import: domains") {
  const Tensor x = uniform({1, 2, 4, 4}, 1);
  CHECK(same_bits(run_net(parse(one_node(node("Relu", {"x"}, {"y"}, {}, "ai.onnx"))), {{"x", x}}),
                  run_one(node("Relu", {"x"}, {"y"}), x)));
  CHECK_ERROR(parse(one_node(node("Relu", {"x"}, {"y"}, {}, "org.elsewhere"))), unsupported, "Relu",
              "org.elsewhere");
  File file = one_node(node("Relu", {"x"}, {"y"}));
  file.opset_domain = "ai.onnx";
  (void)parse(file);
  file.opset_domain = "com.microsoft";  // and none for the operators' own
  CHECK_ERROR(parse(file), io, "opset");
}

TEST_CASE("onnx import: operator sets") {
  for (const int64_t opset : {7, 9, 13, 18, 22}) {
    File file = one_node(node("Relu", {"x"}, {"y"}));
    file.opset = opset;
    (void)parse(file);
  }
  for (const int64_t opset : {1, 6}) {
    File file = one_node(node("Relu", {"x"}, {"y"}));
    file.opset = opset;
    const std::string said = std::to_string(opset);
    CHECK_ERROR(parse(file), unsupported, "opset", said.c_str(), "7");
  }
}

TEST_CASE("onnx import: names") {
  const auto refused = [](const File& file, const char* name) {
    CAPTURE(std::string(name));
    CHECK_ERROR(parse(file), io, name);
  };
  refused(one_node(node("Relu", {"nobody"}, {"y"})), "nobody");
  refused(one_node(node("Relu", {"x"}, {"z"})), "y");
  File twice = one_node(node("Relu", {"x"}, {"y"}));
  twice.nodes.push_back(node("Abs", {"x"}, {"y"}));
  refused(twice, "y");
  File late = one_node(node("Relu", {"z"}, {"y"}));
  late.nodes.push_back(node("Abs", {"x"}, {"z"}));
  refused(late, "z");
  File itself = one_node(node("Relu", {"y"}, {"y"}));
  refused(itself, "y");
  File same_inputs = one_node(node("Add", {"x", "x"}, {"y"}));
  same_inputs.inputs.push_back(value_info("x", {1, 2, 4, 4}));
  refused(same_inputs, "x");
  // Too few and too many inputs and outputs.
  CHECK_ERROR(parse(one_node(node("Add", {"x"}, {"y"}))), io, "Add", "node_y");
  CHECK_ERROR(parse(one_node(node("Relu", {"x", "x"}, {"y"}))), io, "Relu", "node_y");
  File no_outputs = one_node(node("Relu", {"x"}, {"y"}));
  no_outputs.outputs.clear();
  CHECK_ERROR(parse(no_outputs), io, "output");
}

TEST_CASE("onnx import: open extents need shapes, and the message lists the inputs") {
  File file{.nodes = {node("Add", {"left", "right"}, {"y"})},
            .inputs = {value_info("left", {-1, 3}), value_info("right", {1, -1})},
            .outputs = {value_info("y", {-1, 3})}};
  CHECK_ERROR(parse(file), invalid_argument, "left", "right", "3", "shapes");
  const OnnxNet net = parse(file, {.shapes = {{"left", {2, 3}}, {"right", {1, 3}}}});
  CHECK(net.outputs.at(0).type == TensorType{{2, 3}});
  CHECK_ERROR(parse(file, {.shapes = {{"left", {2, 3}}}}), invalid_argument, "right");
  // A contradiction of what the file fixes, a wrong rank, an extent that is none, a name that is no input.
  const OnnxOptions other{.shapes = {{"left", {2, 4}}, {"right", {1, 4}}}};
  CHECK_ERROR(parse(file, other), shape_mismatch, "left", "3", "4");
  CHECK(parse(file, {.shapes = other.shapes, .override_fixed = true}).outputs[0].type.shape == Shape{2, 4});
  CHECK_ERROR(parse(file, {.shapes = {{"left", {2, 3, 1}}, {"right", {1, 3}}}}), shape_mismatch, "left");
  CHECK_ERROR(parse(file, {.shapes = {{"left", {-2, 3}}, {"right", {1, 3}}}}), invalid_argument, "left");
  CHECK_ERROR(parse(file, {.shapes = {{"left", {2, 3}}, {"right", {1, 3}}, {"middle", {1}}}}),
              invalid_argument, "middle");
  // One name is one extent.
  file.inputs[1] = value_info("right", {-1, 3});
  CHECK(parse(file, {.shapes = {{"left", {2, 3}}}}).inputs.at(1).type.shape == Shape{2, 3});
  // dim_value -1, as some tools write it, is open too.
  Message dim, shape, tensor_type, type, info;
  shape.message(1, dim.integer(1, -1));
  type.message(1, tensor_type.integer(1, kFloat).message(2, shape));
  file = {.nodes = {node("Relu", {"x"}, {"y"})},
          .inputs = {info.text(1, "x").message(2, type)},
          .outputs = {value_info("y", {-1})}};
  CHECK_ERROR(parse(file), invalid_argument, "x");
  CHECK(parse(file, {.shapes = {{"x", {5}}}}).outputs[0].type.shape == Shape{5});
}

TEST_CASE("onnx import: inputs that become constants") {
  File file{.nodes = {node("ReduceSum", {"x", "axes"}, {"y"}, {{"keepdims", 0}})},
            .inputs = {value_info("x", {2, 3}), value_info("axes", {1}, kInt64)},
            .outputs = {value_info("y", {-1})}};
  const Tensor x = Tensor::from({2, 3}, {1, 2, 3, 4, 5, 6});
  const auto sums = [&](const OnnxOptions& options) {
    const OnnxNet net = parse(file, options);
    CHECK(net.inputs.size() == 1);
    const Tensor y = run_net(net, {{"x", x}});
    return std::vector<float>(y.floats().begin(), y.floats().end());
  };
  CHECK(sums({.values = {{"axes", Tensor::from({1}, {1})}}}) == std::vector<float>{6, 15});
  CHECK(sums({.integers = {{"axes", {{1}, {-2}}}}}) == std::vector<float>{5, 7, 9});
  CHECK_ERROR(parse(file, {.values = {{"axes", Tensor::from({1}, {0.5f})}}}), invalid_argument, "axes",
              "0.5");
  CHECK_ERROR(parse(file, {.values = {{"axis", Tensor::from({1}, {1})}}}), invalid_argument, "axis", "axes");
  CHECK_ERROR(parse(file, {.integers = {{"axes", {{2}, {1}}}}}), shape_mismatch, "axes");
  CHECK_ERROR(parse(file, {.integers = {{"axes", {{1}, {2}}}}}), io, "node_y", "2");
  // Not known: an input of integers is nothing that a graph can have.
  CHECK_ERROR(parse(file), unsupported, "axes");
}

TEST_CASE("onnx import: integer results are the integers they are") {
  File file{.nodes = {node("Shape", {"x"}, {"s"}), node("Size", {"x"}, {"n"}), node("Relu", {"x"}, {"y"})},
            .inputs = {value_info("x", {2, 3})},
            .outputs = {value_info("s", {2}, kInt64), value_info("y", {2, 3}), value_info("n", {}, kInt64)}};
  const OnnxNet net = parse(file);
  REQUIRE(net.integers.size() == 2);
  CHECK(net.integers.at("s").shape == Shape{2});
  CHECK(net.integers.at("s").elements == std::vector<int64_t>{2, 3});
  CHECK(net.integers.at("n").shape == Shape{});
  CHECK(net.integers.at("n").elements == std::vector<int64_t>{6});
  CHECK(net.outputs.size() == 1);
}

TEST_CASE("onnx import: what a file holds that is no dense tensor") {
  Message sparse;
  sparse.message(1, float_tensor("w", {1}, {1})).message(2, int_tensor("", {1}, {0})).integers(3, {4});
  const File file = one_node(node("Add", {"x", "w"}, {"y"}), {4});
  Message graph = file.graph(), model;
  graph.message(15, sparse);
  model.integer(1, 8).message(8, file.opset_import()).message(7, graph);
  CHECK_ERROR(parse_onnx(as_bytes(model.bytes())), unsupported, "sparse");

  Message sequence, type, info;
  type.message(4, sequence.message(1, Message()));
  File of_sequence = one_node(node("Relu", {"x"}, {"y"}));
  of_sequence.inputs = {info.text(1, "x").message(2, type)};
  CHECK_ERROR(parse(of_sequence), unsupported, "x");
  File of_doubles = one_node(node("Relu", {"x"}, {"y"}));
  of_doubles.inputs = {value_info("x", {1, 2, 4, 4}, kDouble)};
  CHECK_ERROR(parse(of_doubles), unsupported, "x", "float64");
}

TEST_CASE("onnx import: an If whose condition is known, and one whose is not") {
  const auto branch = [](const char* op) {
    File file{.nodes = {node(op, {"x"}, {"b"})}, .outputs = {value_info("b", {2})}};
    return file.graph();
  };
  File file{.nodes = {node("If", {"condition"}, {"y"},
                           {Attribute::graph("then_branch", branch("Relu")),
                            Attribute::graph("else_branch", branch("Neg"))})},
            .inputs = {value_info("x", {2})},
            .outputs = {value_info("y", {2})}};
  const Tensor x = Tensor::from({2}, {-3, 4});
  for (const int64_t condition : {0, 1}) {
    file.initializers = {
        tensor("condition", {}, kBool).text(9, std::string(1, static_cast<char>(condition)))};
    CHECK(run_net(parse(file), {{"x", x}}).floats()[0] == (condition != 0 ? 0 : 3));
  }
  file.initializers.clear();
  file.inputs.push_back(value_info("condition", {}, kBool));
  CHECK_ERROR(parse(file), unsupported, "condition");
}

TEST_CASE("onnx import: shape arithmetic of an exporter") {
  // y = reshape(x, concat(shape(x)[0:1], [-1]))
  File file{
      .nodes = {node("Shape", {"x"}, {"s"}), node("Slice", {"s", "zero", "one"}, {"n"}),
                node("Concat", {"n", "minus"}, {"t"}, {{"axis", 0}}), node("Reshape", {"x", "t"}, {"y"})},
      .inputs = {value_info("x", {-1, 3, 2, 2})},
      .outputs = {value_info("y", {-1, -1})},
      .initializers = {int_tensor("zero", {1}, {0}), int_tensor("one", {1}, {1}),
                       int_tensor("minus", {1}, {-1})}};
  const OnnxNet net = parse(file, {.shapes = {{"x", {5, 3, 2, 2}}}});
  CHECK(net.outputs.at(0).type.shape == Shape{5, 12});
  CHECK(net.integers.empty());
}

TEST_CASE("onnx import: silu, mish and hard sigmoid, however they are spelled") {
  File silu = one_node(node("Sigmoid", {"x"}, {"s"}), {64});
  silu.nodes.push_back(node("Mul", {"x", "s"}, {"y"}));
  CHECK(count_of(parse(silu).graph, Op::silu) == 1);
  silu.nodes.back() = node("Mul", {"s", "x"}, {"y"});
  CHECK(count_of(parse(silu).graph, Op::silu) == 1);
  File mish = one_node(node("Softplus", {"x"}, {"p"}), {64});
  mish.nodes.push_back(node("Tanh", {"p"}, {"t"}));
  mish.nodes.push_back(node("Mul", {"x", "t"}, {"y"}));
  CHECK(count_of(parse(mish).graph, Op::mish) == 1);
  const Tensor x = uniform({64}, 1, -6, 6);
  const Tensor of_silu = run_net(parse(silu), {{"x", x}}), of_mish = run_net(parse(mish), {{"x", x}});
  const Tensor plain = run_one(node("HardSigmoid", {"x"}, {"y"}), x);
  const Tensor steep = run_one(node("HardSigmoid", {"x"}, {"y"}, {{"alpha", 0.5f}, {"beta", 0.25f}}), x);
  for (size_t i = 0; i < 64; ++i) {
    const double v = x.floats()[i];
    CHECK(of_silu.floats()[i] == doctest::Approx(v / (1 + std::exp(-v))));
    CHECK(of_mish.floats()[i] == doctest::Approx(v * std::tanh(std::log1p(std::exp(v)))));
    CHECK(plain.floats()[i] == doctest::Approx(std::clamp(0.2 * v + 0.5, 0.0, 1.0)));
    CHECK(steep.floats()[i] == doctest::Approx(std::clamp(0.5 * v + 0.25, 0.0, 1.0)));
  }
  // The sigmoid of something else makes no silu, and one that is an output stays one.
  File other = one_node(node("Sigmoid", {"z"}, {"s"}), {64});
  other.inputs.push_back(value_info("z", {64}));
  other.nodes.push_back(node("Mul", {"x", "s"}, {"y"}));
  CHECK(count_of(parse(other).graph, Op::silu) == 0);
  silu.outputs.push_back(value_info("s", {64}));
  const OnnxNet both = parse(silu);
  const TensorMap results =
      compile(both.graph, both.weights, {.device = Device::cpu()}).session().run({{"x", x}});
  CHECK(results.at("s").floats()[0] == doctest::Approx(1 / (1 + std::exp(-double{x.floats()[0]}))));
}

TEST_CASE("onnx import: Softmax flattens before opset 13") {
  const Tensor x = uniform({2, 3, 4}, 1);
  const auto sum_of_first = [&](int64_t opset, const std::vector<Attribute>& attributes, size_t count) {
    File file = one_node(node("Softmax", {"x"}, {"y"}, attributes), {2, 3, 4});
    file.opset = opset;
    const Tensor y = run_net(parse(file), {{"x", x}});
    double sum = 0;
    for (size_t i = 0; i < count; ++i) sum += y.floats()[i];
    return sum;
  };
  CHECK(sum_of_first(11, {}, 12) == doctest::Approx(1));  // axis 1, rows of 3 x 4
  CHECK(sum_of_first(11, {{"axis", 2}}, 4) == doctest::Approx(1));
  CHECK(sum_of_first(11, {{"axis", 0}}, 24) == doctest::Approx(1));
  CHECK(sum_of_first(13, {}, 4) == doctest::Approx(1));  // the last axis
}

}  // namespace solder::test
