#include "runtime/device.h"

#include "runtime/check.h"

#if SOLDER_WITH_CUDA
#include "runtime/check_cuda.h"
#endif

namespace solder {
namespace {

struct Refusal {
  ErrorKind kind = ErrorKind::unsupported;
  std::string reason;  // with what to do about it; empty: the device can be used
};

Refusal why_not(int index) {
#if SOLDER_WITH_CUDA
  int count = 0;
  cudaError_t status = cudaGetDeviceCount(&count);
  cudaGetLastError();
  if (status == cudaSuccess && count == 0) status = cudaErrorNoDevice;
  if (status != cudaSuccess) {
    const std::string what_to_do = advice(status);
    return {kind_of(status), str(what_to_do, what_to_do.empty() ? "CUDA does not start: " : "; ",
                                 cudaGetErrorString(status), " from cudaGetDeviceCount")};
  }
  if (index >= 0 && index < count) return {};
  return {.reason = str("there is no CUDA device ", index, ": this machine has ", count)};
#else
  (void)index;
  return {.reason =
              "this build is for the CPU alone (it was made with CUDA=0, or nvcc was not found): run make "
              "again with the CUDA toolkit installed, or use Device::cpu()"};
#endif
}

}  // namespace

Device Device::cuda(int index) try {
  const auto [kind, reason] = why_not(index);
  if (!reason.empty()) fail(kind, str("cuda:", index, " cannot be used: ", reason));
  return {Type::cuda, index};
}
SOLDER_HOST_MEMORY("Device::cuda()")

Device Device::best(std::string* why_cpu) try {
  const std::string reason = why_not(0).reason;
  if (why_cpu != nullptr) *why_cpu = reason;
  return reason.empty() ? Device{Type::cuda, 0} : Device::cpu();
}
SOLDER_HOST_MEMORY("Device::best()")

std::string to_string(Device device) { return device.is_cuda() ? str("cuda:", device.index) : "cpu"; }

DeviceInfo device_info(Device device) try {
  SOLDER_REQUIRE(device.is_cuda(), invalid_argument, "device_info describes CUDA devices, not ",
                 to_string(device));
  Device::cuda(device.index);
  DeviceInfo info;
#if SOLDER_WITH_CUDA
  cudaDeviceProp properties{};
  SOLDER_CUDA(cudaGetDeviceProperties(&properties, device.index));
  info.name = properties.name;
  info.cc_major = properties.major;
  info.cc_minor = properties.minor;
  info.num_sms = properties.multiProcessorCount;
  info.l2_bytes = properties.l2CacheSize;
  info.smem_per_block_bytes = properties.sharedMemPerBlockOptin;
  info.total_bytes = properties.totalGlobalMem;
#endif
  return info;
}
SOLDER_HOST_MEMORY("device_info()")

double clock_hz([[maybe_unused]] Device device) {
  int clock_khz = 0;
#if SOLDER_WITH_CUDA
  SOLDER_CUDA(cudaDeviceGetAttribute(&clock_khz, cudaDevAttrClockRate, device.index));
#endif
  return 1e3 * clock_khz;
}

}  // namespace solder
