#include "runtime/check_cuda.h"

namespace solder {

void fail_cuda(cudaError_t status, const char* call, const char* file, int line) {
  cudaGetLastError();  // clears a non-sticky error, so that the next call is judged by itself
  const std::string message = str(cudaGetErrorName(status), " (", cudaGetErrorString(status), ") from ", call,
                                  " at ", file, ":", line);
  fail(status == cudaErrorMemoryAllocation ? ErrorKind::out_of_memory : ErrorKind::cuda, message);
}

void fail_cublas(cublasStatus_t status, const char* call, const char* file, int line) {
  fail(status == CUBLAS_STATUS_ALLOC_FAILED ? ErrorKind::out_of_memory : ErrorKind::cuda,
       str(cublasGetStatusName(status), " from ", call, " at ", file, ":", line));
}

}  // namespace solder
