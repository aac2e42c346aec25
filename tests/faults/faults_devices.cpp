// On the fake machine of shim.h, which GPU it has is a number: what is chosen and launched on each, and what is said
// where there is none that can be used.
#include <cuda_runtime.h>

#include <algorithm>

#include "ops/conv/kernels.h"
#include "tests/faults/shim.h"
#include "tests/support/support.h"

using namespace solder;
using namespace solder::test;

namespace {

Model model_of(Math math) {
  Graph g;
  const Value w = g.parameter("w", {64, 64, 3, 3}), b = g.parameter("b", {64});
  g.output("y", g.mish(g.conv2d(g.input("x", {4, 64, 28, 28}), w, b)));
  return compile(g, {{"w", uniform({64, 64, 3, 3}, 1)}, {"b", uniform({64}, 2)}},
                 {.device = Device::cuda(0), .math = math});
}

TensorMap inputs() { return {{"x", uniform({4, 64, 28, 28}, 3)}}; }

// Whether a run launches it: each call fails in turn, and an error names the kernel.
bool launches(const Model& model, const std::string& kernel) {
  const TensorMap given = inputs();
  for (int64_t call = 1;; ++call) {
    Session session = model.session();
    std::string message;
    shim::arm({shim::Calls::cuda, call, false, cudaErrorLaunchFailure});
    try {
      session.run(given);
    } catch (const Error& error) {
      const shim::Pause pause;
      message = error.what();
    }
    if (shim::disarm().num_failed == 0) return false;
    if (message.find(kernel) != std::string::npos) return true;
  }
}

}  // namespace

TEST_CASE("faults: on every GPU since Turing the portable convolution is chosen and launched") {
  struct Gpu {
    int cc_major, cc_minor;
  };
  for (const Gpu& gpu : {Gpu{7, 5}, {8, 0}, {8, 6}, {8, 9}, {12, 0}})
    for (const Math math : {Math::tf32, Math::fp16, Math::bf16}) {
      shim::machine = {.cc_major = gpu.cc_major, .cc_minor = gpu.cc_minor};
      const Model model = model_of(math);
      const std::string text = model.describe();
      CAPTURE(gpu.cc_major);
      CAPTURE(gpu.cc_minor);
      CAPTURE(text);
      // Turing has no product of bfloat16: the values are converted.
      const bool converts = math == Math::bf16 && gpu.cc_major == 7;
      CHECK((text.find(": mma, ") != std::string::npos));
      CHECK((text.find("conv2d_3: in float32: mma, ") != std::string::npos) == converts);
      CHECK(launches(model, "conv_mma_kernel"));
    }
  shim::machine = {};
}

// Images that lie in one of several ways; then what passes scaled values on, and what cannot.
Model scaled_model(int way, int64_t channels) {
  Graph g;
  TensorMap weights;
  const auto conv = [&](Value x, int64_t out, int64_t kernel) {
    const std::string name = "w" + std::to_string(weights.size());
    weights[name] = uniform({out, g.type(x).shape[1], kernel, kernel}, weights.size() + 1);
    return g.relu(g.conv2d(x, g.parameter(name, weights[name].shape()), {.padding = kernel / 2}));
  };
  Value x;
  switch (way) {
    case 0: x = g.input("x", {2, channels, 12, 14}); break;
    case 1: x = g.input("x", {2, channels, 12, 14}, DType::float32, Layout::channels_last); break;
    case 2: x = g.permute(g.input("x", {2, 12, 14, channels}), {0, 3, 1, 2}); break;
    case 3: x = g.slice(g.input("x", {2, channels + 5, 12, 14}), 1, 2, channels + 2); break;
    case 4: x = g.slice(g.input("x", {2, channels, 12, 28}), 3, 1, 28, 2); break;
    default: x = g.cast(g.input("x", {2, channels, 12, 14}, DType::float16), DType::float32); break;
  }
  g.output("first", conv(conv(x, 64, 3), 24, 1));
  // Slices that begin where vectors do, and not; a concat of parts with exponents of their own.
  for (const auto& [axis, start] : {std::pair(1, 64), {1, 3}, {2, 1}, {0, 1}}) {
    const Value y = conv(x, 128, 3);
    const Value slice = g.slice(g.max_pool2d(y, {.kernel = 3, .stride = 1, .padding = 1}), axis, start,
                                g.type(y).shape[static_cast<size_t>(axis)]);
    g.output("mean" + std::to_string(axis) + std::to_string(start), g.mean(conv(slice, 24, 1), {2, 3}));
  }
  const Value left = conv(x, 64, 1), right = conv(x, 128, 3);
  g.output("joined", conv(g.concat({left, g.add(conv(left, 64, 1), left), right}, 1), 12, 1));
  return compile(g, weights, {.device = Device::cuda(0), .math = Math::tf32});
}

TEST_CASE("faults: tf32 on Hopper, however images lie that scaled values are made of") {
  shim::machine = {};
  const auto takes_scaled = [](const ConvFamily& family) { return family.takes_scaled && family.make; };
  const bool has_family = std::ranges::any_of(conv_families(), takes_scaled);  // in this build
  for (const int64_t channels : {3, 24})
    for (int way = 0; way <= 5; ++way) {
      const Model model = scaled_model(way, channels);
      const std::string text = model.describe();
      CAPTURE(text);
      // Of images that are no dense planes nothing is made.
      const bool is_dense = way == 0 || way == 3 || way == 5;
      CHECK((text.find("nhwc, scaled") != std::string::npos) == (is_dense && has_family));
      TensorMap given;
      for (const Node& node : model.graph().nodes())
        if (node.kind == NodeKind::input)
          given[node.name] = Tensor::empty(node.outputs[0].shape, node.outputs[0].dtype);
      Session session = model.session();
      CHECK(session.run(given).size() == 6);
      CHECK(session.output("joined").shape() == Shape{2, 12, 12, 14});
    }
}

TEST_CASE("faults: no GPU, no driver, an old driver, no code for this GPU: each says what to do") {
  const auto at_start = [](int error, int driver) {
    shim::machine = {.start_error = error, .driver_version = driver};
    std::string why, message;
    CHECK(!Device::best(&why).is_cuda());
    try {
      Device::cuda(0);
    } catch (const Error& error_) {
      CHECK(error_.kind() == ErrorKind::unsupported);
      message = error_.what();
    }
    CHECK(message.find(why) != std::string::npos);
    shim::machine = {};
    return message;
  };
  const auto says = [](const std::string& message, const char* word) {
    CAPTURE(message);
    CHECK(message.find(word) != std::string::npos);
  };
  says(at_start(cudaErrorNoDevice, 13000), "there is no CUDA GPU in this machine");
  says(at_start(cudaErrorNoDevice, 13000), "run on Device::cpu()");
  says(at_start(cudaErrorInsufficientDriver, 0), "no NVIDIA driver is installed: install one");
  says(at_start(cudaErrorInsufficientDriver, 12040), "the NVIDIA driver supports CUDA 12.4");
  says(at_start(cudaErrorInsufficientDriver, 12040), "update the driver");

  shim::machine = {.cc_major = 7, .cc_minor = 5};
  Session session = model_of(Math::tf32).session();
  shim::arm({shim::Calls::cuda, 3, true, cudaErrorNoKernelImageForDevice});
  std::string message;
  try {
    session.run(inputs());
  } catch (const Error& error) {
    const shim::Pause pause;
    CHECK(error.kind() == ErrorKind::unsupported);
    message = error.what();
  }
  shim::disarm();
  says(message, "this build has no code for this GPU, whose compute capability is 7.5");
  says(message, "make ARCHS=75");
  shim::machine = {};
}
