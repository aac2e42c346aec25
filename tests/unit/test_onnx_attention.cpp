// Attention against its definition in double: heads in an axis or in the last one, shared keys, masks.

#include <cmath>

#include "graph/solder.h"
#include "tests/support/file_testing.h"
#include "tests/support/onnx_writer.h"
#include "tests/support/support.h"

namespace solder::test {
namespace {

using namespace onnx_testing;

constexpr int64_t kBatch = 2, kHeads = 4, kKeyHeads = 2, kQueries = 3, kKeys = 5, kSize = 6, kValueSize = 7;

File attention_file(const std::vector<Shape>& shapes, const std::vector<Attribute>& attributes,
                    int mask_type) {
  const std::vector<std::string> names = {"q", "k", "v", "mask"};
  File file{.outputs = {value_info("y", {})}};
  for (size_t i = 0; i < shapes.size(); ++i)
    file.inputs.push_back(value_info(names[i], shapes[i], i == 3 ? mask_type : kFloat));
  file.nodes = {node("Attention", {names.begin(), names.begin() + static_cast<std::ptrdiff_t>(shapes.size())},
                     {"y"}, attributes)};
  file.opset = 23;
  return file;
}

OnnxNet parse(const File& file) { return parse_onnx(file_testing::as_bytes(file.bytes())); }

// Where element (batch, head, row, column) of a tensor lies, heads being an axis or part of the last one.
size_t place(const Tensor& x, int64_t heads, int64_t b, int64_t h, int64_t row, int64_t column) {
  const Shape& shape = x.shape();
  if (shape.size() == 4) return static_cast<size_t>(((b * heads + h) * shape[2] + row) * shape[3] + column);
  return static_cast<size_t>((b * shape[1] + row) * shape[2] + h * (shape[2] / heads) + column);
}

// [kQueries, kKeys]: added, or -infinity where it is 0.
std::vector<float> mask_values() {
  std::vector<float> mask;
  for (int64_t i = 0; i < kQueries * kKeys; ++i) mask.push_back(static_cast<float>(i % 3 == 0 ? 0 : 1));
  return mask;
}

void check_attention(const std::vector<Shape>& shapes, const std::vector<Attribute>& attributes, double scale,
                     int64_t key_heads, int mask_type = kFloat) {
  File file = attention_file(shapes, attributes, mask_type);
  const std::vector<float> mask_of = mask_values();
  if (mask_type == kBool)
    file.initializers = {
        tensor("mask", {kQueries, kKeys}, kBool).text(9, std::string(mask_of.begin(), mask_of.end()))};
  const OnnxNet net = parse(file);
  TensorMap inputs{{"q", uniform(shapes[0], 1)}, {"k", uniform(shapes[1], 2)}, {"v", uniform(shapes[2], 3)}};
  const bool has_mask = shapes.size() == 4;
  if (has_mask && mask_type == kFloat) inputs["mask"] = Tensor::from({kQueries, kKeys}, mask_of);
  const Tensor y = compile(net.graph, net.weights, {.device = Device::cpu()}).session().run(inputs).at("y");
  const auto at = [&](const char* name, int64_t heads, int64_t b, int64_t h, int64_t row, int64_t column) {
    return double{inputs[name].floats()[place(inputs[name], heads, b, h, row, column)]};
  };
  for (int64_t b = 0; b < kBatch; ++b)
    for (int64_t h = 0; h < kHeads; ++h)
      for (int64_t row = 0; row < kQueries; ++row) {
        const int64_t key_head = h / (kHeads / key_heads);
        std::vector<double> weights;
        double sum = 0;
        for (int64_t key = 0; key < kKeys; ++key) {
          double score = 0;
          for (int64_t d = 0; d < kSize; ++d)
            score += scale * at("q", kHeads, b, h, row, d) * at("k", key_heads, b, key_head, key, d);
          const double mask = has_mask ? double{mask_of[static_cast<size_t>(row * kKeys + key)]} : 1;
          if (mask_type == kFloat && has_mask) score += mask;
          weights.push_back(mask_type == kBool && mask == 0 ? 0 : std::exp(score));
          sum += weights.back();
        }
        for (int64_t d = 0; d < kValueSize; ++d) {
          double want = 0;
          for (int64_t key = 0; key < kKeys; ++key)
            want += weights[static_cast<size_t>(key)] / sum * at("v", key_heads, b, key_head, key, d);
          CHECK(double{y.floats()[place(y, kHeads, b, h, row, d)]} == doctest::Approx(want).epsilon(1e-5));
        }
      }
}

}  // namespace

TEST_CASE("onnx attention: heads as an axis, in the last one, and shared by several queries") {
  const double scale = 1 / std::sqrt(6.0);
  check_attention({{kBatch, kHeads, kQueries, kSize},
                   {kBatch, kHeads, kKeys, kSize},
                   {kBatch, kHeads, kKeys, kValueSize}},
                  {}, scale, kHeads);
  check_attention({{kBatch, kHeads, kQueries, kSize},
                   {kBatch, kKeyHeads, kKeys, kSize},
                   {kBatch, kKeyHeads, kKeys, kValueSize}},
                  {{"scale", 0.25f}}, 0.25, kKeyHeads);
  check_attention({{kBatch, kQueries, kHeads * kSize},
                   {kBatch, kKeys, kKeyHeads * kSize},
                   {kBatch, kKeys, kKeyHeads * kValueSize}},
                  {{"q_num_heads", 4}, {"kv_num_heads", 2}}, scale, kKeyHeads);
}

TEST_CASE("onnx attention: masks that are added, and masks of truth values") {
  const double scale = 1 / std::sqrt(6.0);
  const std::vector<Shape> shapes = {{kBatch, kHeads, kQueries, kSize},
                                     {kBatch, kHeads, kKeys, kSize},
                                     {kBatch, kHeads, kKeys, kValueSize},
                                     {kQueries, kKeys}};
  check_attention(shapes, {}, scale, kHeads);
  check_attention(shapes, {}, scale, kHeads, kBool);
}

TEST_CASE("onnx attention: a query that no key is shown to makes 0, and NaN stays NaN") {
  for (const int type : {kBool, kFloat}) {
    File file = attention_file({{1, 1, 3, 1}, {1, 1, 2, 1}, {1, 1, 2, 1}, {3, 2}}, {}, type);
    file.initializers = {type == kBool
                             ? tensor("mask", {3, 2}, kBool).text(9, std::string{1, 0, 0, 0, 1, 1})
                             : float_tensor("mask", {3, 2}, {0, -INFINITY, -INFINITY, -INFINITY, 0, 0})};
    const OnnxNet net = parse(file);
    const Tensor y = compile(net.graph, net.weights, {.device = Device::cpu()})
                         .session()
                         .run({{"q", Tensor::from({1, 1, 3, 1}, {1, 1, NAN})},
                               {"k", Tensor::from({1, 1, 2, 1}, {2, 3})},
                               {"v", Tensor::from({1, 1, 2, 1}, {5, 7})}})
                         .at("y");
    CHECK(y.floats()[0] == 5);
    CHECK(y.floats()[1] == 0);
    CHECK(std::isnan(y.floats()[2]));
  }
}

TEST_CASE("onnx attention: truth values that were moved mask as truth values") {
  const auto mask = [](const std::string& op, const std::vector<std::string>& more = {},
                       const std::vector<Attribute>& attributes = {}) {
    std::vector<std::string> inputs = {"truth"};
    inputs.insert(inputs.end(), more.begin(), more.end());
    return node(op, inputs, {"mask"}, attributes);
  };
  for (const Message& moving :
       {mask("Expand", {"sizes"}), mask("Tile", {"ones"}),
        mask("Transpose", {}, {{"perm", std::vector<int64_t>{0, 1}}}), mask("Slice", {"zeros", "ends"}),
        mask("Split", {"one"}), mask("Gather", {"both"}, {{"axis", 1}}), mask("GatherND", {"places"}),
        mask("Concat", {}, {{"axis", 0}}), mask("Where", {"truth", "truth"})}) {
    File file = attention_file({{1, 1, 1, 1}, {1, 1, 2, 1}, {1, 1, 2, 1}}, {}, kFloat);
    file.inputs.push_back(value_info("x", {1, 2}));
    file.initializers = {float_tensor("c", {}, {0}),      int_tensor("sizes", {2}, {1, 2}),
                         int_tensor("ones", {2}, {1, 1}), int_tensor("zeros", {2}, {0, 0}),
                         int_tensor("ends", {2}, {1, 2}), int_tensor("one", {1}, {1}),
                         int_tensor("both", {2}, {0, 1}), int_tensor("places", {1, 1}, {0})};
    file.nodes = {node("Greater", {"x", "c"}, {"truth"}), moving,
                  node("Attention", {"q", "k", "v", "mask"}, {"y"})};
    const OnnxNet net = parse(file);
    const Tensor y = compile(net.graph, net.weights, {.device = Device::cpu()})
                         .session()
                         .run({{"q", Tensor::from({1, 1, 1, 1}, {1})},
                               {"k", Tensor::from({1, 1, 2, 1}, {2, 3})},
                               {"v", Tensor::from({1, 1, 2, 1}, {5, 7})},
                               {"x", Tensor::from({1, 2}, {1, -1})}})
                         .at("y");
    CHECK(y.floats()[0] == 5);
  }
}

TEST_CASE("onnx attention: what is refused") {
  const Shape x = {1, 2, 3, 4};
  CHECK_ERROR(parse(attention_file({x, x, x}, {{"is_causal", 1}}, kFloat)), unsupported, "is_causal = 1");
  CHECK_ERROR(parse(attention_file({x, x, x}, {{"softcap", 2.0f}}, kFloat)), unsupported, "softcap");
  CHECK_ERROR(parse(attention_file({x, {1, 3, 3, 4}, {1, 3, 3, 4}}, {}, kFloat)), shape_mismatch,
              "2 heads of q and 3 of k");
  CHECK_ERROR(parse(attention_file({{2, 3}, x, x}, {}, kFloat)), shape_mismatch, "has 3 or 4 axes");
}

}  // namespace solder::test
