#include "runtime/cublas.h"

#include <cublas_v2.h>

#include "runtime/check_cuda.h"
#include "runtime/stream.h"

namespace solder {

Cublas::Cublas(cudaStream_t stream, void* workspace, int64_t workspace_bytes) {
  if (workspace_bytes == 0) return;
  const std::lock_guard lock(capture_mutex());
  SOLDER_CUBLAS(cublasCreate(&handle_));
  try {
    SOLDER_CUBLAS(cublasSetStream(handle_, stream));  // resets the workspace: before setting it
    SOLDER_CUBLAS(cublasSetWorkspace(handle_, workspace, workspace_bytes));
  } catch (...) {
    cublasDestroy(handle_);
    throw;
  }
}

Cublas::~Cublas() {
  if (handle_ == nullptr) return;
  const std::lock_guard lock(capture_mutex());
  cublasDestroy(handle_);
}

}  // namespace solder
