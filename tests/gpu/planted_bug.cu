// A kernel with a planted out-of-bounds write: `make sanitize` runs it first and insists that it is caught,
// so that a clean report of the real tests means something.
#include <cuda_runtime.h>

__global__ void planted_bug_kernel(float* data, int num_elems) {
  const int i = static_cast<int>(threadIdx.x);
  if (i <= num_elems) data[i] = 1.0f;  // the bug: <= for <
}

int main() {
  float* data = nullptr;
  if (cudaMalloc(&data, 64 * sizeof(float)) != cudaSuccess) return 2;
  planted_bug_kernel<<<1, 128>>>(data, 64);
  const cudaError_t status = cudaDeviceSynchronize();
  cudaFree(data);
  return status == cudaSuccess ? 0 : 2;
}
