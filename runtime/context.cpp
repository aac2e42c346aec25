#include "runtime/context.h"

#include <cstdlib>
#include <string_view>

#include "runtime/check_cuda.h"

namespace solder {
namespace {

// Members are built in order and need the device current before the first of them.
Device activated(Device device) {
  SOLDER_REQUIRE(device.is_cuda(), invalid_argument, "a CUDA context needs a CUDA device, not ",
                 to_string(device));
  SOLDER_CUDA(cudaSetDevice(device.index));
  return device;
}

bool env_is_set(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && std::string_view(value) == "1";
}

}  // namespace

Context::Context(Device device, cudaStream_t stream)
    : device_(activated(device)),
      info_(device_info(device)),
      sync_launches_(env_is_set("SOLDER_SYNC")),
      stream_(stream) {}

void Context::create_cublas(int64_t workspace_bytes) {
  cublas_workspace_ = Buffer(workspace_bytes, stream_.get(), "the cuBLAS workspace");
  cublas_ = Cublas(stream_.get(), cublas_workspace_.data(), workspace_bytes);
}

void Context::activate() const { SOLDER_CUDA(cudaSetDevice(device_.index)); }

void Context::synchronize() const { SOLDER_CUDA(cudaStreamSynchronize(stream_.get())); }

}  // namespace solder
