// soak [RUNS] [cpu|cuda]: that many runs of models of mixed shapes, sessions and models made anew now and
// then. Ends with 1 when a result differs from the first one of its input, or when the process's memory or
// the device's has grown by 1 MiB or more since the warm-up, the first tenth.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>
#include <string_view>
#include <vector>

#include "graph/solder.h"
#include "runtime/memory.h"
#if SOLDER_WITH_CUDA
#include <cuda_runtime.h>
#endif

using namespace solder;

namespace {

int64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t total_pages = 0, resident_pages = 0;
  statm >> total_pages >> resident_pages;
  return resident_pages * ::sysconf(_SC_PAGESIZE);
}

// Of the whole card, so that what the driver takes counts too.
int64_t device_bytes(Device device) {
#if SOLDER_WITH_CUDA
  size_t free = 0, total = 0;
  if (device.is_cuda() && cudaMemGetInfo(&free, &total) == cudaSuccess)
    return static_cast<int64_t>(total - free);
#endif
  (void)device;
  return 0;
}

Tensor filled(Shape shape, int64_t seed) {
  Tensor tensor = Tensor::empty(std::move(shape));
  for (float& value : tensor.floats())
    value = static_cast<float>((seed = (seed * 75 + 74) % 65537) % 2001) / 1000 - 1;
  return tensor;
}

// One model with its session, an input and what the first run made of it.
struct Case {
  Graph graph;
  TensorMap weights, inputs, outputs;
  CompileOptions options;
  Tensor expected;
  std::optional<Model> model;
  std::optional<Session> session;

  Case(int64_t n, Device device) {
    options.device = device;
    options.math = n % 2 == 0 ? Math::fp32 : Math::tf32;
    options.workspace_bytes = 4 << 20;
    const int64_t channels = 1 + n % 4, side = 5 + 3 * n;
    const Value x = graph.input("x", {1 + n % 3, channels, side, side + 1});
    const Value w = graph.parameter("w", {8, channels, 3, 3}), fc = graph.parameter("fc", {n + 1, side - 1});
    const Value h = graph.mish(graph.conv2d(x, w));
    graph.output("y", n % 2 == 0 ? graph.linear(h, fc) : graph.sigmoid(graph.add(h, 1.0f)));
    weights = {{"w", filled({8, channels, 3, 3}, n)}, {"fc", filled({n + 1, side - 1}, n + 1)}};
    renew(true);
    const Tensor host = filled({1 + n % 3, channels, side, side + 1}, n + 2);
    expected = session->run({{"x", host}}).at("y");
    inputs = {{"x", n % 3 == 0 ? host : host.to(device)}};
    outputs = {{"y", Tensor::empty(expected.shape())}};
  }

  void renew(bool with_model) {
    session.reset();
    if (with_model) model.emplace(compile(graph, weights, options));
    session.emplace(model->session());
  }

  bool run() {
    const Tensor& y = outputs.at("y");
    std::memset(y.data(), 0xff, static_cast<size_t>(y.num_bytes()));
    session->run(inputs, outputs);
    return std::memcmp(y.data(), expected.data(), static_cast<size_t>(y.num_bytes())) == 0;
  }
};

int soak(int64_t num_runs, Device device) {
  std::vector<Case> cases;
  for (int64_t n = 0; n < 8; ++n) cases.emplace_back(n, device);
  int64_t num_wrong = 0, num_renewed = 0, host_bytes = 0, card_bytes = 0;
  for (int64_t run = 0; run < num_runs; ++run) {
    if (run == num_runs / 10) host_bytes = resident_bytes(), card_bytes = device_bytes(device);
    Case& chosen = cases[static_cast<size_t>(run * 5 % 8)];
    if (run % 1000 == 0) chosen.renew(run % 10'000 == 0), ++num_renewed;
    num_wrong += !chosen.run();
  }
  const int64_t host_drift = resident_bytes() - host_bytes, card_drift = device_bytes(device) - card_bytes;
  std::printf(
      "soak on %s: %lld runs, %lld sessions made anew, %lld wrong, drift %lld KiB on the host, %lld KiB on "
      "the "
      "device\n",
      to_string(device).c_str(), static_cast<long long>(num_runs), static_cast<long long>(num_renewed),
      static_cast<long long>(num_wrong), static_cast<long long>(host_drift >> 10),
      static_cast<long long>(card_drift >> 10));
  return num_wrong == 0 && host_drift < 1 << 20 && card_drift < 1 << 20 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const int64_t num_runs = argc > 1 ? std::atoll(argv[1]) : 1'000'000;
    const bool on_gpu = argc > 2 ? std::string_view(argv[2]) == "cuda" : Device::best().is_cuda();
    return soak(num_runs, on_gpu ? Device::cuda(0) : Device::cpu());
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
