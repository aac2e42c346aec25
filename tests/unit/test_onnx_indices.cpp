// Slices picked and replaced by tuples of indices, statistics of the batch, and what the folder works out.

#include <array>
#include <cmath>
#include <numeric>

#include "graph/solder.h"
#include "tests/support/file_testing.h"
#include "tests/support/onnx_writer.h"
#include "tests/support/support.h"

namespace solder::test {
namespace {

using namespace onnx_testing;

OnnxNet parse(const File& file) { return parse_onnx(file_testing::as_bytes(file.bytes())); }

std::vector<float> run(const File& file, const TensorMap& inputs) {
  const OnnxNet net = parse(file);
  const Tensor y = compile(net.graph, net.weights, {.device = Device::cpu()}).session().run(inputs).at("y");
  return {y.floats().begin(), y.floats().end()};
}

Tensor counted(const Shape& shape, float first) {
  std::vector<float> values(static_cast<size_t>(num_elements(shape)));
  std::iota(values.begin(), values.end(), first);
  return Tensor::from(shape, values);
}

}  // namespace

TEST_CASE("onnx indices: GatherND takes slices by tuples") {
  File file = one_node(node("GatherND", {"x", "i"}, {"y"}), {2, 3, 2});
  const Tensor x = counted({2, 3, 2}, 0);
  file.initializers = {int_tensor("i", {2, 2}, {1, 0, 0, -1})};
  CHECK(run(file, {{"x", x}}) == std::vector<float>{6, 7, 4, 5});
  file.initializers = {int_tensor("i", {2, 1, 3}, {1, 2, 1, 0, 0, 0})};
  CHECK(parse(file).outputs[0].type.shape == Shape{2, 1});
  CHECK(run(file, {{"x", x}}) == std::vector<float>{11, 0});
  file.initializers = {int_tensor("i", {1}, {1})};
  CHECK(run(file, {{"x", x}}) == std::vector<float>{6, 7, 8, 9, 10, 11});
  file.initializers = {int_tensor("i", {1, 2}, {1, 3})};
  CHECK_ERROR(parse(file), io, "index 3 of axis 1 of [2, 3, 2]");
  file.initializers = {int_tensor("i", {1, 4}, {0, 0, 0, 0})};
  CHECK_ERROR(parse(file), io, "indices of 4 axes of [2, 3, 2]");
}

TEST_CASE("onnx indices: ScatterND replaces slices, the last one of several") {
  File file = one_node(node("ScatterND", {"x", "i", "u"}, {"y"}), {2, 3, 2});
  file.inputs.push_back(value_info("u", {3, 2}));
  const Tensor x = counted({2, 3, 2}, 0), updates = counted({3, 2}, 100);
  file.initializers = {int_tensor("i", {3, 2}, {1, 0, 0, -1, -1, -3})};
  CHECK(run(file, {{"x", x}, {"u", updates}}) ==
        std::vector<float>{0, 1, 2, 3, 102, 103, 104, 105, 8, 9, 10, 11});
  file.initializers = {int_tensor("i", {2, 2}, {1, 0, 0, 2})};
  CHECK_ERROR(parse(file), io, "updates are [3, 2], not [2, 2]");
  file.initializers = {int_tensor("i", {3, 2}, {1, 0, 2, 0, 0, 0})};
  CHECK_ERROR(parse(file), io, "index 2 of axis 0");
  file.nodes[0] = node("ScatterND", {"x", "i", "u"}, {"y"}, {{"reduction", "add"}});
  CHECK_ERROR(parse(file), unsupported, "reduction = add");
}

TEST_CASE("onnx import: BatchNormalization in training takes the batch's own mean and variance") {
  File file = one_node(node("BatchNormalization", {"x", "s", "b", "m", "v"}, {"y", "m2", "v2"},
                            {{"training_mode", 1}, {"momentum", 0.75f}, {"epsilon", 0.5f}}),
                       {2, 2, 2});
  file.opset = 15;
  file.initializers = {float_tensor("s", {2}, {2, 3}), float_tensor("b", {2}, {1, -1}),
                       float_tensor("m", {2}, {4, 8}), float_tensor("v", {2}, {16, 32})};
  file.outputs.push_back(value_info("m2", {2}));
  file.outputs.push_back(value_info("v2", {2}));
  // Channel 0 holds 1, 3, 5, 7: mean 4, variance 5; channel 1 holds 0, 0, 2, 2: mean 1, variance 1.
  const Tensor x = Tensor::from({2, 2, 2}, {1, 3, 0, 0, 5, 7, 2, 2});
  const OnnxNet net = parse(file);
  const TensorMap results =
      compile(net.graph, net.weights, {.device = Device::cpu()}).session().run({{"x", x}});
  const std::array<double, 2> mean{4, 1}, variance{5, 1}, scale{2, 3}, bias{1, -1};
  for (size_t i = 0; i < 8; ++i) {
    const size_t c = i / 2 % 2;
    const double want = (x.floats()[i] - mean[c]) / std::sqrt(variance[c] + 0.5) * scale[c] + bias[c];
    CHECK(results.at("y").floats()[i] == doctest::Approx(want));
  }
  CHECK(results.at("m2").floats()[0] == doctest::Approx(4));
  CHECK(results.at("m2").floats()[1] == doctest::Approx(8 * 0.75 + 0.25));
  CHECK(results.at("v2").floats()[0] == doctest::Approx(16 * 0.75 + 5 * 0.25));
}

TEST_CASE("onnx folding: Clip and CumSum of integers as an exporter's padding has them") {
  const auto folded = [](const Message& the_node, const std::vector<Message>& initializers) {
    File file{.nodes = {the_node}, .outputs = {value_info("y", {})}, .initializers = initializers};
    return parse(file).integers.at("y").elements;
  };
  const Message numbers = int_tensor("x", {2, 3}, {-5, INT64_MAX, 2, 7, 1, -1});
  const Message low = int_tensor("low", {}, {0}), high = int_tensor("high", {}, {INT64_MAX - 1});
  CHECK(folded(node("Clip", {"x", "low", "high"}, {"y"}), {numbers, low, high}) ==
        std::vector<int64_t>{0, INT64_MAX - 1, 2, 7, 1, 0});
  CHECK(folded(node("Clip", {"x", "", "low"}, {"y"}), {numbers, low}) ==
        std::vector<int64_t>{-5, 0, 0, 0, 0, -1});
  const Message few = int_tensor("x", {2, 3}, {1, 2, 3, 4, 5, 6});
  CHECK(folded(node("CumSum", {"x", "low"}, {"y"}), {few, low}) == std::vector<int64_t>{1, 2, 3, 5, 7, 9});
  const Message last = int_tensor("last", {}, {-1});
  CHECK(folded(node("CumSum", {"x", "last"}, {"y"}), {few, last}) == std::vector<int64_t>{1, 3, 6, 4, 9, 15});
}

}  // namespace solder::test
