#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "runtime/check_cuda.h"
#include "tests/cases/huge.h"
#include "tests/support/ulp.h"

namespace solder::test {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocks = 132 * 16;

__device__ float input_at(int64_t i) {
  uint64_t hash = static_cast<uint64_t>(i) * 0x9e3779b97f4a7c15u;  // 2^64 / the golden ratio, odd
  hash ^= hash >> 32;
  return static_cast<float>(static_cast<int>(hash % 128) - 64) * 0.125f;
}

__device__ float load(const void* data, DType dtype, int64_t i) {
  switch (dtype) {
    case DType::float32: return static_cast<const float*>(data)[i];
    case DType::float16: return __half2float(static_cast<const __half*>(data)[i]);
    default: return __bfloat162float(static_cast<const __nv_bfloat16*>(data)[i]);
  }
}

__global__ void fill_kernel(void* x, DType dtype, int64_t num_elems) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < num_elems; i += step) {
    const float value = input_at(i);
    switch (dtype) {
      case DType::float32: static_cast<float*>(x)[i] = value; break;
      case DType::float16: static_cast<__half*>(x)[i] = __float2half_rn(value); break;
      default: static_cast<__nv_bfloat16*>(x)[i] = __float2bfloat16_rn(value);
    }
  }
}

__device__ bool is_right(const HugeCheck& check, int64_t i, float y) {
  switch (check.result) {
    case HugeResult::chain: return y == 1.5f * input_at(i) + 0.25f;
    case HugeResult::channel: return y == input_at(i) + input_at(i / check.row_length % check.num_channels);
    case HugeResult::outer: return y == input_at(i / check.row_length) + input_at(i % check.row_length);
    case HugeResult::cast: return y == input_at(i);
    case HugeResult::mish: {
      const double x = input_at(i);
      const Deviation d = deviation(y, x * tanh(log1p(exp(x))));
      return !d.wrong && d.ulp <= 4;
    }
  }
  return false;
}

__global__ void check_kernel(HugeFault* fault, HugeCheck check, const void* y, DType dtype) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < check.num_elems; i += step) {
    if (is_right(check, i, load(y, dtype, i))) continue;
    atomicAdd(reinterpret_cast<unsigned long long*>(&fault->num_wrong), 1ull);
    atomicMax(reinterpret_cast<long long*>(&fault->last_wrong), static_cast<long long>(i));
  }
}

}  // namespace

void fill_huge(void* x, DType dtype, int64_t num_elems, void* stream) {
  fill_kernel<<<kBlocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(x, dtype, num_elems);
  SOLDER_CUDA(cudaGetLastError());
}

HugeFault check_huge(const HugeCheck& check, const void* y, DType dtype, void* stream) {
  HugeFault fault, *on_device = nullptr;
  SOLDER_CUDA(cudaMalloc(&on_device, sizeof(fault)));
  SOLDER_CUDA(cudaMemcpy(on_device, &fault, sizeof(fault), cudaMemcpyDefault));
  check_kernel<<<kBlocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(on_device, check, y, dtype);
  SOLDER_CUDA(cudaGetLastError());
  SOLDER_CUDA(cudaStreamSynchronize(static_cast<cudaStream_t>(stream)));
  SOLDER_CUDA(cudaMemcpy(&fault, on_device, sizeof(fault), cudaMemcpyDefault));
  SOLDER_CUDA(cudaFree(on_device));
  return fault;
}

void poison_huge(void* y, int64_t num_bytes, void* stream) {
  SOLDER_CUDA(cudaMemsetAsync(y, 0xff, static_cast<size_t>(num_bytes), static_cast<cudaStream_t>(stream)));
}

}  // namespace solder::test
