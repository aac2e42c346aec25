// What a card can do: the memory floor of a convolution, a kernel that reads x once and writes y once and
// does nothing else; and the rate of its tensor cores.

#include <cublas_v2.h>

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

double half_gemm_flops_per_s(const Context& context) {
  constexpr int kExtent = 8192;
  const size_t bytes = size_t{kExtent} * kExtent * 2;
  const Device gpu = context.device();
  const auto a = allocate(gpu, bytes), b = allocate(gpu, bytes), c = allocate(gpu, 2 * bytes);
  for (const auto& operand : {a, b})
    fill_random(Tensor::view(operand.get(), {kExtent, kExtent}, DType::float16, gpu), 7);
  const float one = 1, zero = 0;
  const double ms = median_ms(context.stream(), [&] {
    SOLDER_CUBLAS(cublasGemmEx(context.cublas(), CUBLAS_OP_T, CUBLAS_OP_N, kExtent, kExtent, kExtent, &one,
                               a.get(), CUDA_R_16F, kExtent, b.get(), CUDA_R_16F, kExtent, &zero, c.get(),
                               CUDA_R_32F, kExtent, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
  });
  return 2e3 * kExtent * kExtent * kExtent / ms;
}

}  // namespace solder::bench
