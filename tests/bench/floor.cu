// The memory floor of a convolution: a kernel that reads x once and writes y once and does nothing else.

#include <algorithm>

#include "tests/bench/bench.h"

namespace solder::bench {
namespace {

constexpr int kThreads = 512;

// Vector i of y is written with vector i mod num_x of x; the first num_x of them read it, so x is read once.
__global__ void __launch_bounds__(kThreads)
    floor_kernel(const float4* x, float4* y, int64_t num_x, int64_t num_y) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  const int64_t first = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (num_y >= num_x) {
    const int64_t copies = num_y / max(num_x, int64_t{1});
    for (int64_t i = first; i < num_x; i += step) {
      const float4 value = __ldcs(x + i);
      for (int64_t copy = 0; copy < copies; ++copy) __stcs(y + copy * num_x + i, value);
    }
    for (int64_t i = copies * num_x + first; i < num_y; i += step) __stcs(y + i, make_float4(1, 2, 3, 4));
  } else {
    for (int64_t i = first; i < num_y; i += step) {
      float4 sum = make_float4(0, 0, 0, 0);
      for (int64_t j = i; j < num_x; j += num_y) {
        const float4 value = __ldcs(x + j);
        sum.x += value.x, sum.y += value.y, sum.z += value.z, sum.w += value.w;
      }
      __stcs(y + i, sum);
    }
  }
}

}  // namespace

double floor_median_ms(int64_t x_bytes, int64_t y_bytes, void* stream) {
  const Device gpu = Device::cuda(0);
  const auto x = allocate(gpu, x_bytes + 16), y = allocate(gpu, y_bytes + 16);
  fill_random(Tensor::view(x.get(), {x_bytes / 4}, DType::float32, gpu), 5);
  const auto s = static_cast<cudaStream_t>(stream);
  const int blocks = device_info(gpu).num_sms * 8;
  return median_ms(stream, [&] {
    floor_kernel<<<blocks, kThreads, 0, s>>>(static_cast<const float4*>(x.get()),
                                             static_cast<float4*>(y.get()), x_bytes / 16, y_bytes / 16);
    SOLDER_CUDA(cudaGetLastError());
  });
}

}  // namespace solder::bench
