#pragma once
// The CUDA half of check.h; only files of the CUDA build include it.

#include <cublas_v2.h>
#include <cuda_runtime.h>

#include "runtime/check.h"

namespace solder {

/// Throws Error(cuda) with the call's text, CUDA's name and description of `status`, and the source line.
/// cudaErrorMemoryAllocation becomes Error(out_of_memory). Clears CUDA's last error when it is not sticky.
[[noreturn]] void fail_cuda(cudaError_t status, const char* call, const char* file, int line);
[[noreturn]] void fail_cublas(cublasStatus_t status, const char* call, const char* file, int line);

}  // namespace solder

#define SOLDER_CUDA(call)                                             \
  do {                                                                \
    const cudaError_t solder_status_ = (call);                        \
    if (solder_status_ != cudaSuccess) [[unlikely]]                   \
      ::solder::fail_cuda(solder_status_, #call, __FILE__, __LINE__); \
  } while (0)

#define SOLDER_CUBLAS(call)                                             \
  do {                                                                  \
    const cublasStatus_t solder_status_ = (call);                       \
    if (solder_status_ != CUBLAS_STATUS_SUCCESS) [[unlikely]]           \
      ::solder::fail_cublas(solder_status_, #call, __FILE__, __LINE__); \
  } while (0)
