#include "runtime/cublas.h"

#include <cublas_v2.h>

#include "runtime/check_cuda.h"
#include "runtime/stream.h"

namespace solder {

void Cublas::Destroy::operator()(cublasHandle_t handle) const noexcept {
  const std::lock_guard lock(capture_mutex());
  cublasDestroy(handle);
}

Cublas::Cublas(cudaStream_t stream, void* workspace, int64_t workspace_bytes) {
  if (workspace_bytes == 0) return;
  const std::lock_guard lock(capture_mutex());
  cublasHandle_t handle = nullptr;
  SOLDER_CUBLAS(cublasCreate(&handle));
  handle_.reset(handle);
  SOLDER_CUBLAS(cublasSetStream(handle, stream));  // resets the workspace: before setting it
  SOLDER_CUBLAS(cublasSetWorkspace(handle, workspace, workspace_bytes));
}

}  // namespace solder
