// The GPU's part of the all-inputs test: inputs made and results judged where they are.

#include "runtime/check_cuda.h"
#include "runtime/stream.h"
#include "tests/cases/accuracy.h"

namespace solder::test {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocks = 132 * 16;

__global__ void fill_kernel(float* x, uint32_t first, int64_t num_elems) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < num_elems; i += step)
    x[i] = __uint_as_float(first + static_cast<uint32_t>(i));
}

__device__ void add(uint64_t* total, uint64_t count) {
  if (count != 0) atomicAdd(reinterpret_cast<unsigned long long*>(total), count);
}

__device__ void raise(uint64_t* largest, uint64_t key) {
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    const uint64_t other = __shfl_xor_sync(~0u, key, lanes);
    key = key > other ? key : other;
  }
  if (threadIdx.x % 32 == 0) atomicMax(reinterpret_cast<unsigned long long*>(largest), key);
}

__global__ void __launch_bounds__(kThreads)
    observe_kernel(Worst* total, AccuracyCase c, const float* x, const float* oracle_inputs, const float* y,
                   const float* second, int64_t num_elems) {
  Worst mine;
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < num_elems; i += step) {
    const double exact = exact_value(c.op, c.p, c.q, oracle_inputs[i]);
    observe(mine, c, x[i], exact, y[i]);
    if (second == nullptr || float_bits(second[i]) == float_bits(y[i])) continue;
    if (second[i] != second[i] && y[i] != y[i]) continue;
    ++mine.num_different;
    if (float_bits(x[i]) > mine.a_wrong_input) mine.a_wrong_input = float_bits(x[i]);
  }
  raise(&total->normal, mine.normal);
  raise(&total->subnormal, mine.subnormal);
  add(&total->num_wrong, mine.num_wrong);
  add(&total->num_over, mine.num_over);
  add(&total->num_different, mine.num_different);
  add(&total->num_inputs, mine.num_inputs);
  atomicMax(&total->a_wrong_input, mine.a_wrong_input);
}

}  // namespace

void observe_on_gpu(Worst* worst, const AccuracyCase& c, const float* x, const float* oracle_inputs,
                    const float* y, const float* second, int64_t num_elems, void* stream) {
  observe_kernel<<<kBlocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(worst, c, x, oracle_inputs, y,
                                                                              second, num_elems);
  SOLDER_CUDA(cudaGetLastError());
}

void fill_with_bits(float* x, uint32_t first, int64_t num_elems, void* stream) {
  fill_kernel<<<kBlocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(x, first, num_elems);
  SOLDER_CUDA(cudaGetLastError());
}

}  // namespace solder::test
