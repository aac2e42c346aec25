#pragma once
// The CUDA half of check.h; only files of the CUDA build include it.

#include <cuda_runtime.h>

#include "runtime/check.h"

namespace solder {

/// No memory is out_of_memory; no GPU, an old driver and a GPU that this build has no code for are
/// unsupported; a fault that CUDA does not recover from is device_lost; the rest cuda.
ErrorKind kind_of(cudaError_t status);

/// What a user can do about `status`, as a sentence without its full stop; empty when there is nothing to
/// say.
std::string advice(cudaError_t status);

/// Throws Error(kind_of(status)) with the call's text, CUDA's name and description of `status`, the source
/// line and advice. Clears CUDA's last error when it can be cleared.
[[noreturn]] void fail_cuda(cudaError_t status, const char* call, const char* file, int line);
/// Likewise of a cublasStatus_t; an int, as kernels need none of cuBLAS's large header.
[[noreturn]] void fail_cublas(int status, const char* call, const char* file, int line);

}  // namespace solder

#define SOLDER_CUDA(call)                                             \
  do {                                                                \
    const cudaError_t solder_status_ = (call);                        \
    if (solder_status_ != cudaSuccess) [[unlikely]]                   \
      ::solder::fail_cuda(solder_status_, #call, __FILE__, __LINE__); \
  } while (0)

#define SOLDER_CUBLAS(call)                                             \
  do {                                                                  \
    const int solder_status_ = (call);                                  \
    if (solder_status_ != 0) [[unlikely]]                               \
      ::solder::fail_cublas(solder_status_, #call, __FILE__, __LINE__); \
  } while (0)
