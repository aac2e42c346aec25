// What an importer of ONNX refuses and how it says so: operators, attributes, domains, shapes, names.

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
  file = one_node(node("Binarizer", {"x"}, {"y"}, {}, "ai.onnx.ml"));
  file.opset_domain = "ai.onnx.ml";
  CHECK_ERROR(parse(file), unsupported, "Binarizer", "ai.onnx.ml");
}

TEST_CASE("onnx import: what is an attribute in some operator sets is an input in others") {
  const auto squeezed = [](int64_t opset, bool is_input) {
    File file = one_node(is_input ? node("Squeeze", {"x", "axes"}, {"y"})
                                  : node("Squeeze", {"x"}, {"y"}, {{"axes", std::vector<int64_t>{0}}}),
                         {1, 2, 1});
    file.opset = opset;
    file.initializers = {int_tensor("axes", {1}, {0})};
    return parse(file).outputs.at(0).type.shape;
  };
  CHECK(squeezed(12, false) == Shape{2, 1});
  CHECK(squeezed(13, true) == Shape{2, 1});
  CHECK_ERROR(squeezed(13, false), unsupported, "Squeeze", "axes", "13");
  CHECK_ERROR(squeezed(12, true), io, "Squeeze", "input 1");
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
  File lacking = file;  // says the rest too
  lacking.nodes.push_back(node("Relu", {"y"}, {"z"}, {{"slope", 0.5f}}));
  CHECK_ERROR(parse(lacking), invalid_argument, "left", "Relu", "slope", "node_z");
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
  CHECK_ERROR(parse(file, {.integers = {{"axes", {{1, 1}, {1}}}}}), shape_mismatch, "axes", "[1, 1]");
  // Not known: an input of integers is nothing that a graph can have.
  CHECK_ERROR(parse(file), unsupported, "axes");
  // Whole numbers for floats, and one of them for a scalar.
  File sum = one_node(node("Add", {"x", "c"}, {"y"}), {2, 3});
  sum.inputs.push_back(value_info("c", {}));
  const OnnxNet net = parse(sum, {.integers = {{"c", {{1}, {7}}}}});
  CHECK(run_net(net, {{"x", x}}).floats()[5] == 13);
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
  of_doubles.inputs = {value_info("x", {1, 2, 4, 4}, 17)};
  CHECK_ERROR(parse(of_doubles), unsupported, "x", "float8e4m3fn");
}

}  // namespace solder::test
