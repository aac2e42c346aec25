#include "runtime/check_cuda.h"
#include "tests/support/hold.h"

namespace solder::test {
namespace {

constexpr long long kMaxCycles = 6'000'000'000;  // 3 seconds and more

__global__ void hold_kernel(volatile int* flags, float* to, const float* from, int64_t num_floats) {
#if __CUDA_ARCH__ >= 900
  cudaTriggerProgrammaticLaunchCompletion();  // what may overlap this kernel does
#endif
  const long long start = clock64();
  while (flags[0] == 0) {
    if (clock64() - start < kMaxCycles) continue;
    flags[1] = 1;
    break;
  }
  for (int64_t i = threadIdx.x; i < num_floats; i += blockDim.x) to[i] = from[i];
}

}  // namespace

Hold::Hold() {
  SOLDER_CUDA(cudaHostAlloc(&flags_, 2 * sizeof(int), cudaHostAllocMapped));
  flags_[0] = flags_[1] = 0;
}

Hold::~Hold() {
  release();
  cudaDeviceSynchronize();
  cudaFreeHost(flags_);
}

void Hold::enqueue(void* stream, float* to, const float* from, int64_t num_floats) {
  flags_[0] = flags_[1] = 0;
  hold_kernel<<<1, 256, 0, static_cast<cudaStream_t>(stream)>>>(flags_, to, from, num_floats);
  SOLDER_CUDA(cudaGetLastError());
}

bool Hold::is_held(void* stream) const {
  const cudaError_t status = cudaStreamQuery(static_cast<cudaStream_t>(stream));
  if (status != cudaErrorNotReady) SOLDER_CUDA(status);
  return status == cudaErrorNotReady && static_cast<volatile int*>(flags_)[1] == 0;
}

void Hold::release() { static_cast<volatile int*>(flags_)[0] = 1; }

}  // namespace solder::test
