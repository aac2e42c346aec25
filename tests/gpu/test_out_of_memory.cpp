// A card without room: the error is typed, and once there is room again everything is as before.
#include <cstdio>

#include "runtime/memory.h"
#include "tests/support/support.h"
#if SOLDER_WITH_CUDA
#include "runtime/check_cuda.h"
#endif

using namespace solder;
using namespace solder::test;

#if SOLDER_WITH_CUDA
namespace {

int64_t free_bytes() {
  size_t free = 0, total = 0;
  SOLDER_CUDA(cudaMemGetInfo(&free, &total));
  return static_cast<int64_t>(free);
}

// Device memory that something else has taken.
struct Taken {
  explicit Taken(int64_t num_bytes) { SOLDER_CUDA(cudaMalloc(&data, static_cast<size_t>(num_bytes))); }
  ~Taken() { cudaFree(data); }
  Taken(const Taken&) = delete;
  void* data = nullptr;
};

}  // namespace
#endif

GPU_TEST_CASE("out of memory: 1,000 times full and free again, the same bits, no drift") {
#if SOLDER_WITH_CUDA
  constexpr int kNumCycles = 1000, kNumWarmUp = 20;
  constexpr int64_t kRows = 1536, kColumns = 4096;
  const CompileOptions options{.device = Device::cuda(0), .workspace_bytes = 4 << 20};
  Graph g;  // 24 MiB of weights, 24 MiB of values; cuBLAS and an elementwise kernel
  const Value x = g.input("x", {8, kRows}), w = g.parameter("w", {kRows, kColumns}),
              scale = g.input("scale",
                              {kRows, 1});  // a parameter's product with another would be made at compile()
  g.output("y", g.matmul(x, g.mish(g.mul(w, scale))));
  const TensorMap weights{{"w", uniform({kRows, kColumns}, 1)}};
  const TensorMap inputs{{"x", uniform({8, kRows}, 3)}, {"scale", uniform({kRows, 1}, 2)}};
  const Model model = compile(g, weights, options);
  Session early = model.session();
  const Tensor expected = early.run(inputs).at("y");

  constexpr int64_t kFree = 112 << 20, kTooLittle = 16 << 20;
  const Taken most(free_bytes() - kFree);
  const int64_t used_before = device_bytes_in_use(options.device);
  int64_t free_before = 0, num_wrong = 0;
  for (int cycle = 0; cycle < kNumWarmUp + kNumCycles; ++cycle) {
    if (cycle == kNumWarmUp) free_before = free_bytes();
    {
      const Taken rest(kFree - kTooLittle);
      switch (cycle % 3) {
        case 0: CHECK_ERROR(model.session(), out_of_memory, "a session", "bytes are free"); break;
        case 1: CHECK_ERROR(compile(g, weights, options), out_of_memory, "bytes are free"); break;
        default: CHECK_ERROR(weights.at("w").to(options.device), out_of_memory, "bytes are free");
      }
      // A session that has its memory needs no more.
      num_wrong += !same_bits(early.run(inputs).at("y"), expected);
    }
    const TensorMap again = cycle % 5 == 0 ? model.session().run(inputs) : early.run(inputs);
    num_wrong += !same_bits(again.at("y"), expected);
    SOLDER_CUDA(cudaDeviceSynchronize());
  }
  CHECK(num_wrong == 0);
  const int64_t drift_bytes = free_before - free_bytes();
  std::printf("out of memory: %d cycles, drift %lld bytes\n", kNumCycles,
              static_cast<long long>(drift_bytes));
  CHECK(drift_bytes < 1 << 20);
  CHECK(device_bytes_in_use(options.device) == used_before);
#endif
}
