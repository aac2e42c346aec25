#include "runtime/memory.h"

#include <cstdlib>
#include <cstring>
#include <limits>

#include "runtime/check.h"
#include "runtime/divide.h"

#if SOLDER_WITH_CUDA
#include "runtime/buffer.h"
#include "runtime/check_cuda.h"
#include "runtime/stream.h"
#endif

namespace solder {
namespace {

std::shared_ptr<void> allocate_host(int64_t num_bytes, const char* what) {
  constexpr int64_t kAlignment = 256;
  void* data = nullptr;
  if (num_bytes <= std::numeric_limits<int64_t>::max() - kAlignment)
    data = std::aligned_alloc(kAlignment, round_up(num_bytes, kAlignment));
  SOLDER_REQUIRE(data != nullptr, out_of_memory, what, " needs ", num_bytes,
                 " bytes of host memory, which cannot be had");
  return {data, [](void* memory) { std::free(memory); }};
}

#if SOLDER_WITH_CUDA
std::shared_ptr<void> allocate_cuda(Device device, int64_t num_bytes, const char* what) {
  SOLDER_CUDA(cudaSetDevice(device.index));
  struct Allocation {
    Stream stream;  // freed after the buffer, whose memory is released in its order
    Buffer buffer;
  };
  auto allocation = std::make_shared<Allocation>();
  allocation->buffer = Buffer(num_bytes, allocation->stream.get(), what);
  SOLDER_CUDA(cudaStreamSynchronize(allocation->stream.get()));
  return {allocation, allocation->buffer.data()};
}
#endif

}  // namespace

std::shared_ptr<void> allocate(Device device, int64_t num_bytes, const char* what) {
  if (num_bytes == 0) return {};
#if SOLDER_WITH_CUDA
  if (device.is_cuda()) return allocate_cuda(device, num_bytes, what);
#else
  // Throws, and says why.
  if (device.is_cuda()) Device::cuda(device.index);
#endif
  return allocate_host(num_bytes, what);
}

void copy(void* to, Device to_device, const void* from, Device from_device, int64_t num_bytes) {
  if (num_bytes == 0) return;
  if (!to_device.is_cuda() && !from_device.is_cuda()) {
    std::memcpy(to, from, num_bytes);
    return;
  }
#if SOLDER_WITH_CUDA
  SOLDER_CUDA(cudaSetDevice(to_device.is_cuda() ? to_device.index : from_device.index));
  const Stream stream;  // the default one would wait for work that has nothing to do with this copy
  SOLDER_CUDA(cudaMemcpyAsync(to, from, num_bytes, cudaMemcpyDefault, stream.get()));
  SOLDER_CUDA(cudaStreamSynchronize(stream.get()));
#else
  Device::cuda(to_device.is_cuda() ? to_device.index : from_device.index);  // throws, as above
#endif
}

int64_t device_bytes_in_use(Device device) {
  Device::cuda(device.index);
  uint64_t bytes = 0;
#if SOLDER_WITH_CUDA
  cudaMemPool_t pool = nullptr;
  SOLDER_CUDA(cudaDeviceGetDefaultMemPool(&pool, device.index));
  SOLDER_CUDA(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &bytes));
#endif
  return bytes;
}

}  // namespace solder
