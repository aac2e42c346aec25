// One Model, many threads: the same bits from every Session. `make tsan` runs this under ThreadSanitizer.
#include <atomic>
#include <chrono>
#include <mutex>
#include <optional>
#include <thread>

#include "support.h"
#if SOLDER_WITH_CUDA
#include "runtime/check_cuda.h"
#endif

using namespace solder;
using namespace solder::test;

TEST_CASE("threads: 16 of them, one model, a session each, 100,000 runs: the same bits") {
  // Every so many runs a thread makes its session anew: the start is where threads could meet.
  constexpr int kNumThreads = 16, kNumRuns = 100'000 / kNumThreads, kNumInputs = 4, kRunsOfSession = 250;
  Graph g;
  const Value x = g.input("x", {1, 2, 6, 6}), w = g.parameter("w", {4, 2, 3, 3}),
              fc = g.parameter("fc", {3, 4});
  g.output("y", g.tanh(g.linear(g.mish(g.conv2d(x, w)), fc)));
  const TensorMap weights{{"w", uniform({4, 2, 3, 3}, 1)}, {"fc", uniform({3, 4}, 2)}};
  for (const Device device : devices()) {
    INFO(to_string(device));
    const Model model = compile(g, weights, {.device = device});
    std::vector<Tensor> inputs, expected;
    Session alone = model.session();
    for (int i = 0; i < kNumInputs; ++i) {
      inputs.push_back(uniform({1, 2, 6, 6}, static_cast<uint64_t>(10 + i)));
      expected.push_back(alone.run({{"x", inputs.back()}}).at("y"));
    }
    CHECK_FALSE(same_bits(expected[0], expected[1]));

    std::atomic<int64_t> num_right = 0, num_wrong = 0;
    std::mutex mutex;
    std::string errors;
    std::vector<std::thread> threads;
    for (int t = 0; t < kNumThreads; ++t) {
      threads.emplace_back([&, t] {
        try {
          std::optional<Session> session;
          for (int run = 0; run < kNumRuns; ++run) {
            if (run % kRunsOfSession == 0) session.emplace(model.session());
            const size_t i = static_cast<size_t>((t + run) % kNumInputs);
            const bool right = same_bits(session->run({{"x", inputs[i]}}).at("y"), expected[i]);
            ++(right ? num_right : num_wrong);
          }
        } catch (const Error& error) {
          const std::lock_guard lock(mutex);
          errors += std::string(error.what()) + "\n";
        }
      });
    }
#if SOLDER_WITH_CUDA
    // What waits for the whole device breaks recordings in other threads, which no one may notice.
    std::atomic<bool> is_done = false;
    std::thread waits([&] {
      while (device.is_cuda() && !is_done) {
        cudaDeviceSynchronize();
        std::this_thread::sleep_for(std::chrono::microseconds(100));
      }
    });
#endif
    for (std::thread& thread : threads) thread.join();
#if SOLDER_WITH_CUDA
    is_done = true;
    waits.join();
#endif
    CHECK(num_right == int64_t{kNumThreads} * kNumRuns);
    CHECK(num_wrong == 0);
    CHECK(errors == "");
  }
}
