// What the importer of ONNX makes of what exporters write: constant conditions and shapes worked out, functions that are
// spelled as several nodes, meanings that changed between operator sets.

#include <algorithm>
#include <cmath>

#include "graph/solder.h"
#include "tests/support/file_testing.h"
#include "tests/support/onnx_writer.h"
#include "tests/support/support.h"

namespace solder::test {
namespace {

using namespace onnx_testing;

OnnxNet parse(const File& file, const OnnxOptions& options = {}) {
  return parse_onnx(file_testing::as_bytes(file.bytes()), options);
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
  file.initializers = {tensor("true", {}, kBool).text(9, "\1")};
  file.nodes.insert(file.nodes.begin(), node("Xor", {"true", "true"}, {"condition"}));
  CHECK(run_net(parse(file), {{"x", x}}).floats()[0] == 3);
  file.nodes.erase(file.nodes.begin());
  file.initializers.clear();
  file.inputs.push_back(value_info("condition", {}, kBool));
  CHECK_ERROR(parse(file), unsupported, "condition");
}

TEST_CASE("onnx import: names of a branch mean nothing behind it") {
  const auto branch = [](const std::vector<Message>& nodes, const std::vector<Message>& initializers) {
    const File file{.nodes = nodes, .outputs = {value_info("b", {})}, .initializers = initializers};
    return std::vector<Attribute>{Attribute::graph("then_branch", file.graph()),
                                  Attribute::graph("else_branch", file.graph())};
  };
  // "m" is a result that solder does not make, then a weight, then what a node makes.
  File file{
      .nodes = {node("If", {"true"}, {"first"},
                     branch(
                         {node("MaxPool", {"x"}, {"b", "m"}, {{"kernel_shape", std::vector<int64_t>{2, 2}}})},
                         {})),
                node("If", {"true"}, {"second"},
                     branch({node("Mul", {"first", "m"}, {"b"})}, {float_tensor("m", {1}, {3})})),
                node("Neg", {"second"}, {"m"}), node("Identity", {"m"}, {"y"})},
      .inputs = {value_info("x", {1, 1, 2, 2})},
      .outputs = {value_info("y", {})},
      .initializers = {tensor("true", {}, kBool).text(9, "\1")}};
  CHECK(run_net(parse(file), {{"x", Tensor::from({1, 1, 2, 2}, {1, 2, 3, 4})}}).floats()[0] == -12);
}

TEST_CASE("onnx import: known tensors that are not worked out are computed in the graph") {
  const auto plus = [](const Message& known) {  // of [2]
    File file = one_node(node("Add", {"x", "known"}, {"y"}), {2});
    file.nodes.insert(file.nodes.begin(), known);
    file.initializers = {float_tensor("rows", {2, 2}, {1, 2, 3, 4}),
                         float_tensor("row", {2}, {5, 6}),
                         float_tensor("other", {1}, {5.5f}),
                         int_tensor("three", {}, {3}),
                         int_tensor("first", {1}, {0}),
                         int_tensor("none", {0}, {})};
    const Tensor y = run_net(parse(file), {{"x", Tensor::from({2}, {0.5f, 0.25f})}});
    return std::vector<float>{y.floats()[0], y.floats()[1]};
  };
  CHECK(plus(node("Pow", {"row", "three"}, {"known"})) == std::vector<float>{125.5f, 216.25f});
  CHECK(plus(node("Max", {"row", "other", "row"}, {"known"})) == std::vector<float>{6, 6.25f});
  CHECK(plus(node("ReduceSum", {"rows", "first"}, {"known"}, {{"keepdims", 0}})) ==
        std::vector<float>{4.5f, 6.25f});
  CHECK(plus(node("ReduceProd", {"rows"}, {"known"}, {{"axes", std::vector<int64_t>{1}}, {"keepdims", 0}})) ==
        std::vector<float>{2.5f, 12.25f});
  CHECK(plus(node("ReduceSum", {"row", "none"}, {"known"}, {{"noop_with_empty_axes", 1}})) ==
        std::vector<float>{5.5f, 6.25f});
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

TEST_CASE("onnx import: Dropout and Identity leave nothing, and a second output that nobody reads is none") {
  File file = one_node(node("Identity", {"x"}, {"i"}), {4});
  file.nodes.push_back(node("Dropout", {"i"}, {"d", "mask"}));
  file.nodes.push_back(node("Relu", {"d"}, {"y"}));
  const OnnxNet net = parse(file);
  CHECK(std::ranges::count_if(net.graph.nodes(), [](const Node& node) { return !node.is_given(); }) == 1);
  CHECK(net.weights.empty());
  CHECK(run_net(net, {{"x", Tensor::from({4}, {-1, 2, -3, 4})}}).floats()[3] == 4);
  File masked = one_node(node("Dropout", {"x"}, {"d", "mask"}), {4});
  masked.nodes.push_back(node("Where", {"mask", "d", "d"}, {"y"}));
  CHECK(run_net(parse(masked), {{"x", Tensor::from({4}, {-1, 2, -3, 4})}}).floats()[2] == -3);
  // MaxPool's second output, its indices, is one that solder has not.
  const std::vector<Attribute> pool = {{"kernel_shape", std::vector<int64_t>{2, 2}}};
  File unread = one_node(node("MaxPool", {"x"}, {"y", "indices"}, pool));
  (void)parse(unread);
  unread.outputs.push_back(value_info("indices", {1, 2, 3, 3}, kInt64));
  CHECK_ERROR(parse(unread), unsupported, "MaxPool", "node_y");
}

}  // namespace solder::test
