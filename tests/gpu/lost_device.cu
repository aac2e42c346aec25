// lost_device: a program whose GPU is lost half way: a planted kernel writes to an illegal address. Prints
// what each call of the library says from then on, a line each, and ends as a user's program would: an error
// that leaves the scope of everything that lives on the device. tests/gpu/test_lost_device.cpp runs it, as CUDA
// fails for good then.
#include <cuda_runtime.h>

#include <cstdio>
#include <functional>

#include "graph/solder.h"

using namespace solder;

namespace {

__global__ void planted_fault_kernel(float* nowhere) { *nowhere = 1.0f; }

void say(const char* call, const std::function<void()>& action) {
  const char* result = "went well";
  try {
    action();
  } catch (const Error& error) {
    result = to_string(error.kind());
  }
  std::printf("%s: %s\n", call, result);
  std::fflush(stdout);
}

void lose_the_device() {
  const Device gpu = Device::cuda(0);
  Graph g;
  const Value x = g.input("x", {2, 16, 12, 16}), w = g.parameter("w", {8, 16, 3, 3}),
              fc = g.parameter("fc", {5, 14});
  g.output("y", g.sigmoid(g.linear(g.mish(g.conv2d(x, w)), fc)));
  const auto ones = [](Shape shape) {
    Tensor tensor = Tensor::empty(std::move(shape));
    for (float& value : tensor.floats()) value = 1;
    return tensor;
  };
  const TensorMap weights{{"w", ones({8, 16, 3, 3})}, {"fc", ones({5, 14})}};
  const TensorMap inputs{{"x", ones({2, 16, 12, 16})}};
  const CompileOptions options{.device = gpu, .workspace_bytes = 4 << 20};
  const Model model = compile(g, weights, options);
  Session session = model.session(), fresh = model.session();
  const Tensor there = inputs.at("x").to(gpu), y = Tensor::empty({2, 8, 10, 5}, DType::float32, gpu);
  say("before", [&] { session.run(inputs); });

  planted_fault_kernel<<<1, 1>>>(reinterpret_cast<float*>(0x10));
  cudaDeviceSynchronize();

  say("run", [&] { session.run(inputs); });
  say("first run", [&] { fresh.run(inputs); });
  say("enqueue", [&] { session.enqueue({{"x", there}}, {{"y", y}}); });
  say("execute", [&] { session.execute(); });
  say("synchronize", [&] { session.synchronize(); });
  say("profile", [&] { session.profile(1); });
  say("session", [&] { model.session(); });
  say("compile", [&] { compile(g, weights, options); });
  say("to the device", [&] { inputs.at("x").to(gpu); });
  say("from the device", [&] { there.to(Device::cpu()); });
  say("a tensor", [&] { Tensor::empty({4}, DType::float32, gpu); });
  say("moved and destroyed", [&] { Session(std::move(fresh)); });
  say("on the CPU", [&] { compile(g, weights, {.device = Device::cpu()}).session().run(inputs); });
  session.run(inputs);  // out of here, with all of the above to be destroyed
}

}  // namespace

int main() {
  try {
    lose_the_device();
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
