// On the fake machine of shim.h, which GPU it has is a number: what is chosen and launched on each, and what is said
// where there is none that can be used.
#include <cuda_runtime.h>

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
