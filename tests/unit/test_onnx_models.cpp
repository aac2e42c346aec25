// Whole ONNX models of published packages against onnxruntime's results, as make models prepares them: goldens and
// bounds are those of tests/networks/README.md. The small ones, or all with SOLDER_NETWORKS=all or SOLDER_GOLDENS_DIR.

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "graph/solder.h"
#include "tests/support/support.h"

namespace solder::test {
namespace {

const std::string kFolder = SOLDER_MODELS "/onnx/models/";
constexpr uintmax_t kSmallBytes = 12 << 20;

// The names in list.txt; its first line is the folder that the goldens came from.
std::vector<std::string> prepared_lines() {
  std::ifstream in(kFolder + "list.txt");
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

bool has_models() { return prepared_lines().size() > 1; }

bool all_models() {
  const char* const asked = std::getenv("SOLDER_NETWORKS");
  return std::getenv("SOLDER_GOLDENS_DIR") != nullptr ||
         (asked != nullptr && std::string_view(asked) == "all");
}

std::vector<std::string> model_names(bool all) {
  std::vector<std::string> names = prepared_lines();
  names.erase(names.begin());
  if (!all)
    std::erase_if(names, [](const std::string& name) {
      return std::filesystem::file_size(kFolder + name + ".onnx") > kSmallBytes;
    });
  return names;
}

#define ONNX_MODEL_TEST_CASE(name) TEST_CASE("networks: onnx: " name* doctest::skip(!has_models()))

struct OnnxGolden {
  OnnxNet net;
  TensorMap inputs, results;

  explicit OnnxGolden(const std::string& name)
      : net(import_onnx(kFolder + name + ".onnx")),
        results(load_safetensors(kFolder + name + ".golden.safetensors")) {
    REQUIRE(net.inputs.size() == 1);
    inputs[net.inputs[0].name] = load_npy(kFolder + name + ".input.npy");
  }
  float number(const std::string& name, size_t i = 0) const { return results.at(name).floats()[i]; }

  /// Outputs that prove something: saturated ones do not.
  std::vector<std::string> outputs() const {
    std::vector<std::string> names;
    for (const auto& [name, tensor] : results)
      if (results.contains(name + ":useful") && number(name + ":useful") != 0) names.push_back(name);
    return names;
  }
  double bound(const std::string& output, Math math) const {
    const auto emulated = [&](size_t kind) { return 3.0 * number(output + ":errors", kind); };
    switch (math) {
      case Math::fp32: return std::max(5e-6, 4.0 * number(output + ":errors", 0));
      case Math::tf32: return std::max(3.5e-3, emulated(1));
      case Math::fp16: return std::max({3.5e-3, emulated(1), emulated(2)});
      case Math::bf16: return std::max(3e-2, emulated(3));
    }
    return 0;
  }
};

// The relative L2 error over the golden's samples; NaN is infinity.
double relative_error(const OnnxGolden& golden, const std::string& output, const Tensor& result) {
  const Tensor got = result.to(DType::float32);
  Shape shape;
  const Tensor& extents = golden.results.at(output + ":shape");
  for (const float extent : extents.floats()) shape.push_back(static_cast<int64_t>(extent));
  REQUIRE(got.shape() == shape);
  const auto stride = static_cast<size_t>(golden.number(output + ":stride"));
  const std::span<const float> want = golden.results.at(output).floats();
  double error = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double difference = double{got.floats()[i * stride]} - want[i];
    error += difference * difference;
    norm += double{want[i]} * want[i];
  }
  const double relative = std::sqrt(error / norm);
  return std::isnan(relative) ? INFINITY : relative;
}

TensorMap run_golden(const OnnxGolden& golden, const CompileOptions& options) {
  return compile(golden.net.graph, golden.net.weights, options).session().run(golden.inputs);
}

void check_models(const CompileOptions& options, bool all) {
  for (const std::string& name : model_names(all)) {
    CAPTURE(name);
    try {
      const OnnxGolden golden(name);
      const TensorMap results = run_golden(golden, options);
      CHECK(!golden.outputs().empty());
      for (const std::string& output : golden.outputs()) {
        const double error = relative_error(golden, output, results.at(output));
        INFO(std::string(to_string(options.math)), ", ", to_string(options.device), ": ", output,
             " is off by ", error);
        CHECK(error <= golden.bound(output, options.math));
        if (all_models())
          MESSAGE(name, ", ", std::string(to_string(options.math)), ", ", to_string(options.device), ": ",
                  output, ": relative error ", error);
      }
    } catch (const Error& error) {
      FAIL_CHECK(std::string(error.what()));
    }
  }
}

}  // namespace

TEST_CASE("networks: onnx: the goldens that are prepared are the ones asked for" *
          doctest::skip(!has_models())) {
  INFO("make models prepares those of SOLDER_GOLDENS_DIR, or else the repository's");
  const char* const folder = std::getenv("SOLDER_GOLDENS_DIR");
  CHECK(
      prepared_lines().at(0) ==
      std::filesystem::weakly_canonical(folder != nullptr ? folder : SOLDER_TEST_DATA "/networks").string());
}

ONNX_MODEL_TEST_CASE("outputs in float32 on the CPU") {
  check_models({.device = Device::cpu()}, all_models());
}

ONNX_MODEL_TEST_CASE("outputs with Math::fp16 and Math::bf16 on the CPU") {
  for (const Math math : {Math::fp16, Math::bf16})
    check_models({.device = Device::cpu(), .math = math}, all_models());
}

ONNX_MODEL_TEST_CASE("unfused") { check_models({.device = Device::cpu(), .fuse = false}, false); }

// On the CPU an image's bits do not depend on what else is in its batch.
ONNX_MODEL_TEST_CASE("a batch three times as large gives every part the bits that it has by itself") {
  constexpr int64_t kTimes = 3;
  for (const std::string& name : model_names(all_models())) {
    CAPTURE(name);
    const OnnxGolden golden(name);
    const auto& [input, type] = golden.net.inputs[0];
    const Model model = compile(golden.net.graph, golden.net.weights, {.device = Device::cpu()});
    const Model larger = model.batch(kTimes * type.shape[0]);
    Shape shape = type.shape;
    shape[0] *= kTimes;
    const Tensor x = uniform(shape, 1);
    const TensorMap all = larger.session().run({{input, x}});
    const auto part = [](const Tensor& whole, int64_t i, const Shape& of) {
      const auto size = static_cast<size_t>(num_elements(of));
      const auto floats = whole.floats().subspan(static_cast<size_t>(i) * size, size);
      return Tensor::from(of, std::vector<float>(floats.begin(), floats.end()));
    };
    Session session = model.session();
    for (int64_t i = 0; i < kTimes; ++i)
      for (const auto& [output, alone] : session.run({{input, part(x, i, type.shape)}})) {
        Shape of_all = alone.shape();
        of_all[0] *= kTimes;
        REQUIRE_MESSAGE(all.at(output).shape() == of_all, output);
        CHECK_MESSAGE(same_bits(part(all.at(output), i, alone.shape()), alone), output);
      }
  }
}

TEST_CASE("[gpu] networks: onnx: outputs in every mode" *
          doctest::skip(!has_models() || !has_gpu() || is_sanitized())) {
  for (const Math math : kMathModes) check_models({.device = Device::cuda(0), .math = math}, true);
}

// Goldens that would not see a wrong weight would prove nothing.
ONNX_MODEL_TEST_CASE("a convolution's weights times 1.1 are seen") {
  int num_models = 0;
  for (const std::string& name : model_names(false)) {
    if (name.find("_cls_") == std::string::npos) continue;
    ++num_models;
    CAPTURE(name);
    OnnxGolden golden(name);
    int num_weights = 0;
    for (auto& [weight, tensor] : golden.net.weights) {
      if (tensor.shape().size() != 4 || ++num_weights % 8 != 1) continue;
      const Tensor right = tensor;
      tensor = Tensor::empty(right.shape());
      std::ranges::transform(right.floats(), tensor.floats().begin(), [](float w) { return 1.1f * w; });
      const TensorMap results = run_golden(golden, {.device = Device::cpu()});
      double largest = 0;
      for (const std::string& output : golden.outputs())
        largest = std::max(
            largest, relative_error(golden, output, results.at(output)) / golden.bound(output, Math::fp32));
      INFO(weight, ": ", largest, " of the bound");
      CHECK(largest > 1);
      tensor = right;
    }
    CHECK(num_weights > 8);
  }
  CHECK(num_models >= 1);
}

}  // namespace solder::test
