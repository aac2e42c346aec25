// Convolutions and products on the CPU: the best of many runs of each, in wall time and in processor time
// (what else the machine does only adds). tests/bench/cpu_peers.py puts onnxruntime beside them, run by run.
//
//   bench_cpu [threads]   the table
//   bench_cpu --cases     their names: "conv n c h k r stride" is x [n,c,h,h], w [k,c,r,r] with same padding,
//                         "mish_mish" is that with two mish behind, "depthwise" has w [c,1,r,r], "matmul n c 1 k 1 1"
//                         is x [n,c] w^T with w [k,c]
//   bench_cpu --serve     for every line "threads name" of stdin one run: "wall_ms cpu_ms"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>
#include <string>

#include "ops/conv/cpu/cpu.h"
#include "ops/elementwise/program.h"
#include "ops/matmul/gemm.h"
#include "runtime/parallel.h"
#include "runtime/tensor.h"

namespace {

using namespace solder;

constexpr const char* kCases[] = {
    "conv 1 64 256 128 3 1", "mish_mish 1 64 256 128 3 1",  // the headline
    // ResNet-50
    "conv 1 3 224 64 7 2", "conv 1 64 56 64 3 1", "conv 1 64 56 256 1 1", "conv 1 256 56 64 1 1",
    "conv 1 256 56 512 1 2", "conv 1 128 28 128 3 1", "conv 1 512 28 128 1 1", "conv 1 256 14 256 3 1",
    "conv 1 256 14 1024 1 1", "conv 1 512 7 512 3 1", "conv 16 256 14 256 3 1", "matmul 1 2048 1 1000 1 1",
    "matmul 16 2048 1 1000 1 1",
    // KataGo
    "conv 1 22 19 384 5 1", "conv 1 192 19 192 3 1", "conv 1 384 19 384 3 1", "conv 1 384 19 192 1 1",
    // others
    "depthwise 1 128 56 128 3 1", "depthwise 1 256 56 256 3 2", "depthwise 1 512 14 512 5 1",
    "depthwise 1 960 7 960 3 1", "matmul 256 1024 1 1024 1 1"};

struct Times {
  double wall_ms = 0, cpu_ms = 0;
};

// One case with its operands.
class Runner {
 public:
  explicit Runner(const std::string& name) {
    int64_t h = 0, stride = 0;
    std::istringstream(name) >> kind_ >> s_.N >> s_.C >> h >> s_.K >> s_.R >> stride;
    s_.H = s_.W = h, s_.S = s_.R, s_.stride_h = s_.stride_w = stride;
    s_.groups = kind_ == "depthwise" ? s_.C : 1;
    s_.pad_top = s_.pad_left = s_.pad_bottom = s_.pad_right = s_.R / 2;
    x_ = filled({s_.N, s_.C, s_.H, s_.W}), w_ = filled({s_.K, s_.gemm_k()});
    y_ = filled({s_.N, s_.K, s_.gemm_n()});
    mish_mish_.push({.op = Op::double_mish});
    mish_mish_.push({.op = Op::store_output});
  }

  double flops() const { return 2 * static_cast<double>(s_.num_macs()); }

  Times run(ThreadPool& pool) const {
    const float *x = x_.floats().data(), *w = w_.floats().data();
    float* const y = y_.floats().data();
    const double cpu_ms = now_ms();
    const auto start = std::chrono::steady_clock::now();
    if (kind_ == "matmul")
      gemm_cpu(packed_gemm(s_.N, s_.K, s_.C, true), x, w, y, &pool);
    else
      conv_cpu(s_, ConvStrides::dense(s_), x, w, y, &pool);
    if (kind_ == "mish_mish") {
      const TensorView view = dense_view(y, DType::float32, {y_.num_elems()});
      elementwise_cpu(mish_mish_, bind_elementwise({&view, 1}, {&view, 1}), &pool);
    }
    const std::chrono::duration<double, std::milli> wall = std::chrono::steady_clock::now() - start;
    return {wall.count(), now_ms() - cpu_ms};
  }

 private:
  static Tensor filled(const Shape& shape) {
    Tensor tensor = Tensor::empty(shape);
    float value = 0;
    for (float& element : tensor.floats()) element = value = value > 1 ? -1 : value + 0.01f;
    return tensor;
  }

  static double now_ms() {
    timespec now{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) * 1e-6;
  }

  std::string kind_;
  ConvShape s_;
  Tensor x_, w_, y_;
  Program mish_mish_;
};

void print_table(int num_threads) {
  ThreadPool pool(num_threads);
  std::printf("%-28s %10s %10s   GFLOP/s by wall and processor time\n", "", "wall ms", "cpu ms");
  for (const char* name : kCases) {
    const Runner runner(name);
    Times best{1e30, 1e30};
    const int runs = std::clamp(static_cast<int>(4e10 / runner.flops()), 20, 400);
    for (int i = 0; i < runs; ++i) {
      const Times times = runner.run(pool);
      best = {std::min(best.wall_ms, times.wall_ms), std::min(best.cpu_ms, times.cpu_ms)};
    }
    std::printf("%-28s %10.3f %10.3f %9.1f %9.1f\n", name, best.wall_ms, best.cpu_ms,
                runner.flops() / best.wall_ms * 1e-6, runner.flops() / best.cpu_ms * 1e-6);
    std::fflush(stdout);
  }
}

void serve() {
  std::map<std::string, Runner> runners;
  std::map<int, std::unique_ptr<ThreadPool>> pools;
  for (std::string line; std::getline(std::cin, line);) {
    const size_t space = line.find(' ');
    const std::string name = line.substr(space + 1);
    const int num_threads = std::stoi(line);
    std::unique_ptr<ThreadPool>& pool = pools[num_threads];
    if (!pool) pool = std::make_unique<ThreadPool>(num_threads);
    const Times times = runners.try_emplace(name, name).first->second.run(*pool);
    std::printf("%.6f %.6f\n", times.wall_ms, times.cpu_ms);
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string option = argc > 1 ? argv[1] : "";
  if (option == "--serve")
    serve();
  else if (option == "--cases")
    for (const char* name : kCases) std::puts(name);
  else
    print_table(option.empty() ? num_cpu_threads() : std::stoi(option));
  return 0;
}
