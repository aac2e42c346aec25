#include "runtime/buffer.h"

#include "runtime/check_cuda.h"

namespace solder {

void Buffer::Free::operator()(void* data) const noexcept { cudaFreeAsync(data, stream); }

Buffer::Buffer(int64_t num_bytes, cudaStream_t stream, const char* what) {
  if (num_bytes == 0) return;
  void* data = nullptr;
  const cudaError_t status = cudaMallocAsync(&data, num_bytes, stream);
  data_ = {data, {stream}};
  if (status == cudaSuccess) return;
  if (status != cudaErrorMemoryAllocation) fail_cuda(status, "cudaMallocAsync", __FILE__, __LINE__);
  cudaGetLastError();  // not sticky: the next call must not see it
  size_t free_bytes = 0, total_bytes = 0;
  cudaMemGetInfo(&free_bytes, &total_bytes);
  fail(ErrorKind::out_of_memory, str(what, " needs ", num_bytes, " bytes of device memory; ", free_bytes,
                                     " of ", total_bytes, " bytes are free"));
}

}  // namespace solder
