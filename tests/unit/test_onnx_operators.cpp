// What the importer of ONNX makes of operators that solder's graphs have no node for.

#include <algorithm>
#include <cmath>
#include <limits>

#include "graph/solder.h"
#include "tests/support/file_testing.h"
#include "tests/support/onnx_writer.h"
#include "tests/support/support.h"

namespace solder::test {
namespace {

using namespace onnx_testing;

std::vector<float> run_file(const File& file, const Tensor& x) {
  const OnnxNet net = parse_onnx(file_testing::as_bytes(file.bytes()), {.shapes = {{"x", x.shape()}}});
  const Tensor y =
      compile(net.graph, net.weights, {.device = Device::cpu()}).session().run({{"x", x}}).at("y");
  return {y.floats().begin(), y.floats().end()};
}

std::vector<float> run_one(const std::string& op, const Tensor& x,
                           const std::vector<Attribute>& attributes = {}, int64_t opset = 17) {
  File file = one_node(node(op, {"x"}, {"y"}, attributes), x.shape());
  file.opset = opset;
  return run_file(file, x);
}

// Resize of x [N] along its one axis.
std::vector<float> resized(const std::vector<float>& x, int64_t size,
                           const std::vector<Attribute>& attributes, const std::vector<float>& roi = {}) {
  File file = one_node(node("Resize", {"x", "roi", "", "sizes"}, {"y"}, attributes), {std::ssize(x)});
  file.opset = 19;
  file.initializers = {float_tensor("roi", {std::ssize(roi)}, roi), int_tensor("sizes", {1}, {size})};
  return run_file(file, Tensor::from({std::ssize(x)}, x));
}

void check_near(const std::vector<float>& got, const std::vector<double>& want) {
  REQUIRE(got.size() == want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    CAPTURE(i);
    CHECK(got[i] == doctest::Approx(want[i]).epsilon(1e-6));
  }
}

}  // namespace

TEST_CASE("onnx operators: products over axes, of odd extents, of none and of one") {
  const Tensor x = Tensor::from({2, 3}, {1, -2, 3, 0.5f, 4, -5});
  check_near(run_one("ReduceProd", x, {{"axes", std::vector<int64_t>{1}}, {"keepdims", 0}}), {-6, -10});
  check_near(run_one("ReduceProd", x, {{"axes", std::vector<int64_t>{0}}}), {0.5, -8, -15});
  check_near(run_one("ReduceProd", x), {60});
  check_near(run_one("ReduceProd", Tensor::from({1}, {7})), {7});
  check_near(run_one("ReduceProd", Tensor::empty({2, 0}), {{"axes", std::vector<int64_t>{1}}}), {1, 1});
  check_near(run_one("ReduceProd", Tensor::from({7}, {1, 2, 3, 4, 5, 6, 7})), {5040});
}

TEST_CASE("onnx operators: Hardmax takes the first of equals, and flattens before opset 13") {
  const Tensor x = Tensor::from({2, 2, 2}, {1, 3, 3, 2, -1, -INFINITY, -1, -2});
  CHECK(run_one("Hardmax", x, {}, 13) == std::vector<float>{0, 1, 1, 0, 1, 0, 1, 0});
  CHECK(run_one("Hardmax", x, {}, 11) == std::vector<float>{0, 1, 0, 0, 1, 0, 0, 0});
}

TEST_CASE("onnx operators: infinities, thresholds, remainders") {
  const Tensor x = Tensor::from({5}, {-INFINITY, -2, 0.25f, INFINITY, NAN});
  CHECK(run_one("IsInf", x) == std::vector<float>{1, 0, 0, 1, 0});
  CHECK(run_one("IsInf", x, {{"detect_negative", 0}}) == std::vector<float>{0, 0, 0, 1, 0});
  CHECK(run_one("IsInf", x, {{"detect_positive", 0}}) == std::vector<float>{1, 0, 0, 0, 0});
  CHECK(run_one("IsInf", x, {{"detect_positive", 0}, {"detect_negative", 0}}) == std::vector<float>(5));
  // Clip's bounds were attributes, finite by default.
  constexpr float kMost = std::numeric_limits<float>::max();
  const Tensor ends = Tensor::from({3}, {-INFINITY, 2, INFINITY});
  CHECK(run_one("Clip", ends, {}, 10) == std::vector<float>{-kMost, 2, kMost});
  CHECK(run_one("Clip", ends, {{"max", 1.0f}}, 7) == std::vector<float>{-kMost, 1, 1});
  CHECK(run_one("Clip", ends, {}, 11) == std::vector<float>{-INFINITY, 2, INFINITY});
  CHECK(run_one("Shrink", Tensor::from({4}, {-2, -1, 1, 3}), {{"lambd", 1.5f}, {"bias", 0.5f}}) ==
        std::vector<float>{-1.5f, 0, 0, 2.5f});
  File mod = one_node(node("Mod", {"x", "b"}, {"y"}, {{"fmod", 1}}), {4});
  mod.initializers = {float_tensor("b", {4}, {3, 3, -3, 0.5f})};
  CHECK(run_file(mod, Tensor::from({4}, {-7, 7, 7, 1.25f})) == std::vector<float>{-1, 1, 1, 0.25f});
  CHECK_ERROR(run_one("Hardmax", x, {{"axis", 1}}), io, "axis 1");
}

TEST_CASE("onnx operators: norms of rows") {
  const Tensor x = Tensor::from({2, 2}, {3, -4, 0, 0});
  check_near(run_one("LpNormalization", x), {0.6, -0.8, 0, 0});
  check_near(run_one("LpNormalization", x, {{"p", 1}}), {3.0 / 7, -4.0 / 7, 0, 0});
  check_near(run_one("MeanVarianceNormalization", x, {{"axes", std::vector<int64_t>{1}}}), {1, -1, 0, 0});
  File rms = one_node(node("RMSNormalization", {"x", "w"}, {"y"}, {{"epsilon", 0.5f}}), {2, 2});
  rms.opset = 23;
  rms.initializers = {float_tensor("w", {2}, {1, 10})};
  check_near(run_file(rms, x), {3 / std::sqrt(13.0), -40 / std::sqrt(13.0), 0, 0});
}

TEST_CASE("onnx operators: what leaves the range of float16 on the way") {
  const auto run = [](const Message& the_node, const std::vector<float>& x,
                      const std::vector<Message>& float_tensors = {}) {
    File file{.nodes = {the_node},
              .inputs = {value_info("x", {1, 1, std::ssize(x)}, kFloat16)},
              .outputs = {value_info("y", {}, kFloat16)},
              .initializers = float_tensors};
    const Tensor half = Tensor::from({1, 1, std::ssize(x)}, x).to(DType::float16);
    const OnnxNet net = parse_onnx(file_testing::as_bytes(file.bytes()));
    const Tensor y =
        compile(net.graph, net.weights, {.device = Device::cpu()}).session().run({{"x", half}}).at("y");
    CHECK(y.dtype() == DType::float16);
    const Tensor wide = y.to(DType::float32);
    return std::vector<float>(wide.floats().begin(), wide.floats().end());
  };
  CHECK(run(node("ReduceL2", {"x"}, {"y"}), {300, 400}) == std::vector<float>{500});
  CHECK(run(node("LpNormalization", {"x"}, {"y"}), {512, 0}) == std::vector<float>{1, 0});
  CHECK(run(node("MeanVarianceNormalization", {"x"}, {"y"}, {{"axes", std::vector<int64_t>{2}}}),
            {-1000, 1000}) == std::vector<float>{-1, 1});
  const std::vector<Message> statistics = {float_tensor("scale", {1}, {1}), float_tensor("bias", {1}, {0}),
                                           float_tensor("mean", {1}, {0}),
                                           float_tensor("variance", {1}, {1e6f})};
  const std::vector<std::string> inputs = {"x", "scale", "bias", "mean", "variance"};
  CHECK(run(node("BatchNormalization", inputs, {"y"}), {2000, -3000}, statistics) ==
        std::vector<float>{2, -3});
  CHECK(run(node("BatchNormalization", inputs, {"y"}, {{"training_mode", 1}}), {2000, -2000}, statistics) ==
        std::vector<float>{1, -1});
}

TEST_CASE("onnx operators: truth values of float16 tensors beside others") {
  File file{.nodes = {node("Less", {"x", "x"}, {"less"}),
                      node("Concat", {"truths", "less"}, {"all"}, {{"axis", 0}}),
                      node("ScatterND", {"all", "place", "less"}, {"some"}),
                      node("Cast", {"some"}, {"y"}, {{"to", 1}})},
            .inputs = {value_info("x", {1}, kFloat16)},
            .outputs = {value_info("y", {3})},
            .initializers = {tensor("truths", {2}, kBool).text(9, std::string{1, 1}),
                             int_tensor("place", {1, 1}, {0})}};
  const OnnxNet net = parse_onnx(file_testing::as_bytes(file.bytes()));
  const Tensor x = Tensor::from({1}, {3}).to(DType::float16);
  const Tensor y =
      compile(net.graph, net.weights, {.device = Device::cpu()}).session().run({{"x", x}}).at("y");
  CHECK(std::vector<float>(y.floats().begin(), y.floats().end()) == std::vector<float>{0, 1, 0});
}

TEST_CASE("onnx operators: Resize by cubic convolution, with and without what lies outside") {
  const std::vector<float> x = {1, -2, 4, 8};
  const auto keys = [](double t, double a) {
    t = std::fabs(t);
    return t <= 1  ? (a + 2) * t * t * t - (a + 3) * t * t + 1
           : t < 2 ? a * t * t * t - 5 * a * t * t + 8 * a * t - 4 * a
                   : 0;
  };
  for (const bool excludes : {false, true})
    for (const double a : {-0.75, -0.5}) {
      std::vector<double> want;
      for (int i = 0; i < 8; ++i) {
        const double place = (i + 0.5) / 2 - 0.5;
        double sum = 0, all = 0;
        for (int j = -3; j < 8; ++j) {
          if (excludes && (j < 0 || j > 3)) continue;
          sum += keys(place - j, a) * static_cast<double>(x[static_cast<size_t>(std::clamp(j, 0, 3))]);
          all += keys(place - j, a);
        }
        want.push_back(sum / all);
      }
      check_near(resized(x, 8,
                         {{"mode", "cubic"},
                          {"cubic_coeff_a", static_cast<float>(a)},
                          {"exclude_outside", static_cast<int>(excludes)}}),
                 want);
    }
}

TEST_CASE("onnx operators: Resize that smooths, crops, or has more than two axes") {
  // Two to one by a triangle four wide: shares 1, 3, 3, 1 of 8, the border going on outside.
  check_near(resized({8, 16, 0, 32}, 2, {{"mode", "linear"}, {"antialias", 1}}),
             {(8 + 3 * 8 + 3 * 16 + 0) / 8.0, (16 + 0 + 3 * 32 + 32) / 8.0});
  // Upwards there is nothing to smooth.
  CHECK(resized({1, 2}, 4, {{"mode", "linear"}, {"antialias", 1}}) ==
        resized({1, 2}, 4, {{"mode", "linear"}}));
  // From -1/4 to 5/4 of [0, 3]: -0.75, 0.375, 1.5, 2.625, 3.75.
  const std::vector<Attribute> crop = {{"mode", "linear"},
                                       {"coordinate_transformation_mode", "tf_crop_and_resize"},
                                       {"extrapolation_value", -9.0f}};
  check_near(resized({0, 10, 20, 30}, 5, crop, {-0.25f, 1.25f}), {-9, 3.75, 15, 26.25, -9});
  std::vector<Attribute> nearest = crop;
  nearest[0] = {"mode", "nearest"};
  check_near(resized({0, 10, 20, 30}, 5, nearest, {-0.25f, 1.25f}), {-9, 0, 10, 30, -9});
  CHECK_ERROR(resized({0, 1}, 3, crop, {0, INFINITY}), io, "roi");
  // Three axes, each from two elements to three: means in the middle.
  File file = one_node(node("Resize", {"x", "", "", "sizes"}, {"y"},
                            {{"mode", "linear"}, {"coordinate_transformation_mode", "align_corners"}}),
                       {2, 2, 2});
  file.initializers = {int_tensor("sizes", {3}, {3, 3, 3})};
  const std::vector<float> y = run_file(file, Tensor::from({2, 2, 2}, {0, 1, 2, 3, 4, 5, 6, 7}));
  REQUIRE(y.size() == 27);
  CHECK(y[13] == 3.5f);
  CHECK(y[26] == 7);
}

TEST_CASE("onnx operators: Pad that wraps") {
  File file = one_node(node("Pad", {"x", "pads"}, {"y"}, {{"mode", "wrap"}}), {3});
  file.opset = 19;
  file.initializers = {int_tensor("pads", {2}, {4, -1})};
  CHECK(run_file(file, Tensor::from({3}, {1, 2, 3})) == std::vector<float>{3, 1, 2, 3, 1, 2});
  file.initializers = {int_tensor("pads", {2}, {INT64_MAX, 1})};
  CHECK_ERROR(run_file(file, Tensor::from({3}, {1, 2, 3})), io, "pads");
}

}  // namespace solder::test
