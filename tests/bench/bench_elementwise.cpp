// Elementwise passes against a device copy of the same bytes, in the same run: medians by CUDA events after
// warm-up, on random data. A case whose result is wrong prints no time.

#include <cuda_runtime.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "graph/solder.h"
#include "tests/bench/bench.h"

namespace {

using solder::Graph;
using solder::Tensor;
using solder::Value;

struct Case {
  std::string name;
  std::vector<solder::Shape> inputs;
  std::function<Value(Graph&, const std::vector<Value>&)> build;
  solder::DType dtype = solder::DType::float32;
};

Value chain_of_8(Graph& g, Value v) {
  v = g.add(g.mul(g.mish(v), 1.5f), 0.25f);
  v = g.leaky_relu(g.sub(g.sigmoid(v), 0.5f), 0.1f);
  return g.mish(g.tanh(v));
}

std::vector<Case> cases() {
  constexpr int64_t kLarge = int64_t{1} << 28;
  const solder::Shape headline{64, 128, 254, 254}, large{kLarge};
  return {
      {"bias + double_mish on the headline output",
       {headline, {128, 1, 1}},
       [](Graph& g, const auto& v) { return g.mish(g.mish(g.add(v[0], v[1]))); }},
      {"mish", {large}, [](Graph& g, const auto& v) { return g.mish(v[0]); }},
      {"double_mish", {large}, [](Graph& g, const auto& v) { return g.mish(g.mish(v[0])); }},
      {"8-op chain", {large}, [](Graph& g, const auto& v) { return chain_of_8(g, v[0]); }},
      {"8-op chain, float16",
       {large},
       [](Graph& g, const auto& v) { return chain_of_8(g, v[0]); },
       solder::DType::float16},
      {"16-op chain", {large}, [](Graph& g, const auto& v) { return chain_of_8(g, chain_of_8(g, v[0])); }},
      {"residual add + mish",
       {large, large},
       [](Graph& g, const auto& v) { return g.mish(g.add(v[0], v[1])); }},
      {"per-channel scale + bias + mish",
       {headline, {128, 1, 1}, {128, 1, 1}},
       [](Graph& g, const auto& v) { return g.mish(g.add(g.mul(v[0], v[1]), v[2])); }},
      {"residual add + mish, float16",
       {large, large},
       [](Graph& g, const auto& v) { return g.mish(g.add(v[0], v[1])); },
       solder::DType::float16},
      {"row bias + relu",
       {{int64_t{1} << 18, 1024}, {1024}},
       [](Graph& g, const auto& v) { return g.relu(g.add(v[0], v[1])); }},
  };
}

void run_case(const Case& c, solder::Device gpu) {
  Graph g;
  std::vector<Value> values;
  for (size_t i = 0; i < c.inputs.size(); ++i)
    values.push_back(g.input("x" + std::to_string(i), c.inputs[i], c.dtype));
  g.output("y", c.build(g, values));
  const solder::Model fused = solder::compile(g, {}, {.device = gpu});
  solder::Session session = fused.session();
  int64_t bytes = 0;
  for (size_t i = 0; i < c.inputs.size(); ++i) {
    const Tensor view = session.input("x" + std::to_string(i));
    solder::bench::fill_random(view, i + 1);
    bytes += view.num_bytes();
  }
  const Tensor y = session.output("y");
  bytes += y.num_bytes();
  const double ms = solder::bench::median_ms(session.stream(), [&] { session.execute(); });

  const bool right = solder::bench::same_as_unfused(g, session, c.inputs.size(), y);
  const double copy_ms = solder::bench::copy_median_ms(bytes, session.stream());
  if (!right) {
    std::printf("%-44s WRONG\n", c.name.c_str());
    return;
  }
  std::printf("%-44s %8.4f ms  %7.1f GB/s  %.3f of a copy of the same %.2f GB (%.4f ms)\n", c.name.c_str(),
              ms, static_cast<double>(bytes) / ms * 1e-6, ms / copy_ms, static_cast<double>(bytes) * 1e-9,
              copy_ms);
  std::printf("%-44s %s\n", "", fused.nodes().back().path.c_str());
  std::fflush(stdout);
}

// What compile() takes, in milliseconds.
double compile_ms(const Graph& g, solder::Device gpu) {
  const auto start = std::chrono::steady_clock::now();
  solder::compile(g, {}, {.device = gpu});
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

// Before anything else is compiled: NVRTC is not loaded yet, and the cache is empty.
void print_compile_times(solder::Device gpu) {
  solder::allocate(gpu, 1);  // starts CUDA, which takes longer
  for (const bool is_long : {false, true}) {
    Graph g;
    const Value y = chain_of_8(g, g.input("x0", {int64_t{1} << 28}));
    g.output("y", is_long ? chain_of_8(g, y) : y);
    const double cold_ms = compile_ms(g, gpu), warm_ms = compile_ms(g, gpu);
    std::printf("%-44s %8.1f ms with an empty cache, %.2f ms with a filled one\n",
                is_long ? "compile(), 16-op chain" : "compile(), 8-op chain", cold_ms, warm_ms);
  }
}

// A folder of its own for generated kernels; NVRTC's own cache is off.
class EmptyCache {
 public:
  EmptyCache() {
    ::setenv("CUDA_CACHE_DISABLE", "1", 1);
    if (::mkdtemp(name_.data()) != nullptr) ::setenv("SOLDER_CACHE_DIR", name_.c_str(), 1);
  }
  ~EmptyCache() {
    std::error_code ignored;
    std::filesystem::remove_all(name_, ignored);
  }

 private:
  std::string name_ = (std::filesystem::temp_directory_path() / "solder_bench_XXXXXX").string();
};

}  // namespace

int main() {
  try {
    std::string why;
    const solder::Device gpu = solder::Device::best(&why);
    if (!gpu.is_cuda()) {
      std::printf("bench_elementwise: skipped: %s\n", why.c_str());
      return 0;
    }
    const EmptyCache cache;
    print_compile_times(gpu);
    for (const Case& c : cases()) run_case(c, gpu);
    Graph g;
    g.output("y", chain_of_8(g, g.input("x0", {4096})));
    solder::Session session = solder::compile(g, {}, {.device = gpu}).session();
    solder::bench::fill_random(session.input("x0"), 1);
    const double ms = solder::bench::median_ms(session.stream(), [&] {
      for (int i = 0; i < 100; ++i) session.execute();
    });
    std::printf("%-44s %8.2f us a replay, 100 in a row\n", "8-op chain, 4096 elements", ms * 10);
  } catch (const solder::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
