#include "runtime/device.h"

#include "runtime/check.h"

#if SOLDER_WITH_CUDA
#include "runtime/check_cuda.h"
#endif

namespace solder {
namespace {

// Why CUDA device `index` cannot be used, with what to do about it; empty when it can.
std::string why_not(int index) {
#if SOLDER_WITH_CUDA
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  cudaGetLastError();
  if (status == cudaErrorInsufficientDriver) {
    int driver = 0;
    cudaDriverGetVersion(&driver);
    if (driver == 0) return "no NVIDIA driver is installed: install one, or run on Device::cpu()";
    return str("the NVIDIA driver supports CUDA ", driver / 1000, ".", driver % 1000 / 10,
               " and this build needs CUDA ", CUDART_VERSION / 1000, ".", CUDART_VERSION % 1000 / 10,
               ": update the driver, or build with an older toolkit");
  }
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0))
    return "there is no CUDA GPU in this machine (or CUDA_VISIBLE_DEVICES hides it): run on Device::cpu()";
  if (status != cudaSuccess) return str("CUDA does not start: ", cudaGetErrorString(status));
  if (index < 0 || index >= count)
    return str("there is no CUDA device ", index, ": this machine has ", count);
  return {};
#else
  (void)index;
  return "this build has no CUDA (nvcc was not found): install the CUDA toolkit and run make again, or use "
         "Device::cpu()";
#endif
}

}  // namespace

Device Device::cuda(int index) {
  const std::string reason = why_not(index);
  SOLDER_REQUIRE(reason.empty(), unsupported, "cuda:", index, " cannot be used: ", reason);
  return {Type::cuda, index};
}

Device Device::best(std::string* why_cpu) {
  const std::string reason = why_not(0);
  if (why_cpu != nullptr) *why_cpu = reason;
  return reason.empty() ? Device{Type::cuda, 0} : Device::cpu();
}

std::string to_string(Device device) { return device.is_cuda() ? str("cuda:", device.index) : "cpu"; }

DeviceInfo device_info(Device device) {
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
  int clock_khz = 0;
  SOLDER_CUDA(cudaDeviceGetAttribute(&clock_khz, cudaDevAttrClockRate, device.index));
  info.clock_hz = 1e3 * clock_khz;
  info.l2_bytes = properties.l2CacheSize;
  info.smem_per_block_bytes = static_cast<int64_t>(properties.sharedMemPerBlockOptin);
  info.total_bytes = static_cast<int64_t>(properties.totalGlobalMem);
#endif
  return info;
}

}  // namespace solder
