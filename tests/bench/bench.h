#pragma once
// Timing on a GPU: medians by CUDA events after a warm-up.

#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "graph/solder.h"
#include "runtime/check_cuda.h"
#include "runtime/context.h"
#include "runtime/memory.h"
#include "runtime/tensor.h"

namespace solder::bench {

/// Median milliseconds of `runs` calls of `enqueue`, which puts its work on `stream` (a cudaStream_t).
inline double median_ms(void* stream, const std::function<void()>& enqueue, int runs = 30) {
  cudaEvent_t start, end;
  SOLDER_CUDA(cudaEventCreate(&start));
  SOLDER_CUDA(cudaEventCreate(&end));
  const auto s = static_cast<cudaStream_t>(stream);
  for (int i = 0; i < 5; ++i) enqueue();
  std::vector<float> times;
  for (int i = 0; i < runs; ++i) {
    SOLDER_CUDA(cudaEventRecord(start, s));
    enqueue();
    SOLDER_CUDA(cudaEventRecord(end, s));
    SOLDER_CUDA(cudaEventSynchronize(end));
    float ms = 0;
    SOLDER_CUDA(cudaEventElapsedTime(&ms, start, end));
    times.push_back(ms);
  }
  cudaEventDestroy(start);
  cudaEventDestroy(end);
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

/// The median after `seconds` of calls back to back: what is left of the speed when the card has warmed up
/// and meets its power limit. From the end of one call to the end of the next, over the second half of the
/// time.
inline double sustained_median_ms(void* stream, const std::function<void()>& enqueue, double seconds = 10) {
  const auto s = static_cast<cudaStream_t>(stream);
  constexpr size_t kInFlight = 16;
  cudaEvent_t ends[kInFlight + 1];
  for (cudaEvent_t& end : ends) SOLDER_CUDA(cudaEventCreate(&end));
  std::vector<float> times;
  double elapsed_ms = 0;
  SOLDER_CUDA(cudaEventRecord(ends[0], s));
  for (size_t i = 1; elapsed_ms < seconds * 1e3; ++i) {
    enqueue();
    SOLDER_CUDA(cudaEventRecord(ends[i % (kInFlight + 1)], s));
    if (i < kInFlight) continue;
    // Of the oldest two that are still recorded.
    const cudaEvent_t from = ends[(i + 1 - kInFlight) % (kInFlight + 1)],
                      to = ends[(i + 2 - kInFlight) % (kInFlight + 1)];
    SOLDER_CUDA(cudaEventSynchronize(to));
    float ms = 0;
    SOLDER_CUDA(cudaEventElapsedTime(&ms, from, to));
    times.push_back(ms);
    elapsed_ms += ms;
  }
  SOLDER_CUDA(cudaStreamSynchronize(s));
  for (const cudaEvent_t end : ends) cudaEventDestroy(end);
  times.erase(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2));
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

/// Fills a device tensor with values of [low, high), made on the host from `seed`.
inline void fill_random(const Tensor& tensor, uint64_t seed, float low = -2, float high = 2) {
  Tensor host = Tensor::empty(tensor.shape());
  for (float& value : host.floats()) {
    seed += 0x9e3779b97f4a7c15u;
    uint64_t z = (seed ^ (seed >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    value = low + static_cast<float>((z ^ (z >> 31)) >> 40) * 0x1p-24f * (high - low);
  }
  const Tensor converted = host.to(tensor.dtype());
  copy(tensor.data(), tensor.device(), converted.data(), Device::cpu(), tensor.num_bytes());
}

/// Median milliseconds of a device copy that reads half of `num_bytes` and writes the other half.
inline double copy_median_ms(int64_t num_bytes, void* stream) {
  const Device gpu = Device::cuda(0);
  const int64_t half = num_bytes / 2;
  const auto from = allocate(gpu, half), to = allocate(gpu, half);
  const auto s = static_cast<cudaStream_t>(stream);
  fill_random(Tensor::view(from.get(), {half / 4}, DType::float32, gpu), 3);
  return median_ms(stream, [&] {
    SOLDER_CUDA(
        cudaMemcpyAsync(to.get(), from.get(), static_cast<size_t>(half), cudaMemcpyDeviceToDevice, s));
  });
}

/// Median milliseconds of a kernel that reads x_bytes once and writes y_bytes once.
double floor_median_ms(int64_t x_bytes, int64_t y_bytes, void* stream);

/// What cuBLAS reaches with float16 operands and float32 sums on this card, measured now: floating-point
/// operations a second.
double half_gemm_flops_per_s(const Context& context);

/// Whether `result`, the output "y" of a fused session, is what the unfused graph gives: bit for bit in
/// float32, within two roundings an op in 16-bit types.
inline bool same_as_unfused(const Graph& graph, const Session& fused, size_t num_inputs,
                            const Tensor& result) {
  Session unfused = compile(graph, {}, {.device = result.device(), .fuse = false}).session();
  for (size_t i = 0; i < num_inputs; ++i) {
    const Tensor from = fused.input("x" + std::to_string(i)), to = unfused.input("x" + std::to_string(i));
    copy(to.data(), to.device(), from.data(), from.device(), to.num_bytes());
  }
  unfused.execute();
  unfused.synchronize();
  const Tensor a = result.to(Device::cpu()), b = unfused.output("y").to(Device::cpu());
  if (a.dtype() == DType::float32)
    return std::memcmp(a.data(), b.data(), static_cast<size_t>(a.num_bytes())) == 0;
  for (int64_t i = 0; i < a.num_elems(); ++i) {
    const float x = load_as_float(a.data(), a.dtype(), i), y = load_as_float(b.data(), b.dtype(), i);
    if (!(std::abs(x - y) <= 0.02f * std::abs(y) + 2e-3f)) return false;
  }
  return true;
}

}  // namespace solder::bench
