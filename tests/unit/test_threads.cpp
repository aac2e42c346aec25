// One Model, many threads: the same bits from every Session. `make tsan` runs this under ThreadSanitizer.
#include <atomic>
#include <chrono>
#include <mutex>
#include <optional>
#include <thread>

#include "tests/support/support.h"
#if SOLDER_WITH_CUDA
#include "runtime/check_cuda.h"
#endif

using namespace solder;
using namespace solder::test;

namespace {

// A convolution, a product through cuBLAS, activations.
Graph small_net() {
  Graph g;
  const Value x = g.input("x", {1, 2, 6, 6}), w = g.parameter("w", {4, 2, 3, 3}),
              fc = g.parameter("fc", {3, 4});
  g.output("y", g.tanh(g.linear(g.mish(g.conv2d(x, w)), fc)));
  return g;
}

TensorMap small_weights() { return {{"w", uniform({4, 2, 3, 3}, 1)}, {"fc", uniform({3, 4}, 2)}}; }

}  // namespace

TEST_CASE("threads: 16 of them, one model, a session each, 100,000 runs: the same bits") {
  // Every so many runs a thread makes its session anew: the start is where threads could meet.
  constexpr int kNumThreads = 16, kNumRuns = 100'000 / kNumThreads, kNumInputs = 4, kRunsOfSession = 250;
  for (const Device device : devices()) {
    INFO(to_string(device));
    const Model model = compile(small_net(), small_weights(), {.device = device});
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
    for (std::thread& thread : threads) thread.join();
    CHECK(num_right == int64_t{kNumThreads} * kNumRuns);
    CHECK(num_wrong == 0);
    CHECK(errors == "");
  }
}

TEST_CASE("threads: the CPU's give the same bits whatever their number, in sessions that share them too") {
  // Each loop is large enough to be shared: elementwise, the convolution, the product.
  const EnvironmentVariable more("SOLDER_THREADS", "8");  // than there may be processors
  Graph g;
  const Value x = g.input("x", {3, 24, 40, 41}), w = g.parameter("w", {50, 24, 3, 3});
  const Value conv = g.mish(g.conv2d(g.gelu(x), w, {.padding = 1}));
  g.output("y", g.tanh(g.matmul(conv, g.parameter("m", {41, 70}))));
  const TensorMap weights{{"w", uniform({50, 24, 3, 3}, 5)}, {"m", uniform({41, 70}, 6)}};
  const Tensor image = uniform({3, 24, 40, 41}, 7);
  const auto model = [&](int threads) {
    return compile(g, weights, {.device = Device::cpu(), .threads = threads});
  };
  const Tensor expected = model(1).session().run({{"x", image}}).at("y");
  for (const int threads : {0, 2, 3, 8}) {
    CAPTURE(threads);
    const Model shared = model(threads);
    std::atomic<int> num_right = 0;
    const auto user = [&] {
      Session session = shared.session();
      for (int run = 0; run < 5; ++run) num_right += same_bits(session.run({{"x", image}}).at("y"), expected);
    };
    std::thread other(user);
    user();
    other.join();
    CHECK(num_right == 10);
  }
  CHECK_ERROR(model(-1), invalid_argument, "threads", "-1");
}

#if SOLDER_WITH_CUDA
GPU_TEST_CASE("threads: models, sessions and memory come and go while other threads record") {
  constexpr int kNumRecorders = 8, kNumSessions = 100, kNumCompilers = 4, kNumModels = 25;
  // Long enough for a kernel of its own (float32) and for a table (float16).
  const auto chain = [](DType dtype) {
    Graph g;
    Value v = g.input("x", {1 << 20}, dtype);
    for (int i = 0; i < 3; ++i) v = g.tanh(g.mish(g.sigmoid(v)));
    g.output("y", v);
    return g;
  };
  const Device gpu = Device::cuda(0);
  const Tensor image = uniform({1, 2, 6, 6}, 3), line = uniform({1 << 20}, 4);
  const TensorMap lines[] = {{{"x", line}}, {{"x", line.to(DType::float16)}}};
  const Model model = compile(small_net(), small_weights(), {.device = gpu});
  const Model chains[] = {compile(chain(DType::float32), {}, {.device = gpu}),
                          compile(chain(DType::float16), {}, {.device = gpu})};
  CHECK(chains[0].describe().find("generated") != std::string::npos);
  CHECK(chains[1].describe().find("table") != std::string::npos);
  const Tensor expected = model.session().run({{"x", image}}).at("y");
  const Tensor expected_lines[] = {chains[0].session().run(lines[0]).at("y"),
                                   chains[1].session().run(lines[1]).at("y")};

  std::atomic<int64_t> num_right = 0;
  std::atomic<bool> is_done = false;
  std::mutex mutex;
  std::string errors;
  std::vector<std::thread> threads;
  const auto start = [&](int num_threads, int num_rounds, auto round) {
    for (int t = 0; t < num_threads; ++t)
      threads.emplace_back([&, num_rounds, round] {
        try {
          for (int i = 0; i < num_rounds; ++i) num_right += round(i);
        } catch (const Error& error) {
          const std::lock_guard lock(mutex);
          errors += std::string(error.what()) + "\n";
        }
      });
  };
  start(kNumRecorders, kNumSessions, [&](int) {
    return same_bits(model.session().run({{"x", image}}).at("y"), expected);
  });
  start(kNumCompilers, kNumModels, [&](int i) {
    const Model made = compile(i % 2 ? chain(DType::float16) : chain(DType::float32), {}, {.device = gpu});
    return same_bits(made.session().run(lines[i % 2]).at("y"), expected_lines[i % 2]);
  });
  // What a recording of thread-local mode lets the rest of a program do.
  std::thread allocates([&] {
    for (void* memory = nullptr; !is_done; memory = nullptr) {
      if (cudaMalloc(&memory, 1 << 20) != cudaSuccess || cudaFree(memory) != cudaSuccess) is_done = true;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));  // the driver's lock is not a fair one
    }
  });
  for (std::thread& thread : threads) thread.join();
  CHECK_FALSE(is_done.exchange(true));
  allocates.join();
  CHECK(num_right == kNumRecorders * kNumSessions + kNumCompilers * kNumModels);
  CHECK(errors == "");
}
#endif
