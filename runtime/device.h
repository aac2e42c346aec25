#pragma once

#include <cstdint>
#include <string>

#include "runtime/visibility.h"

namespace SOLDER_PUBLIC solder {

/// Where a tensor lives and a model runs. A value; naming a device touches no driver.
struct Device {
  enum class Type { cpu, cuda };

  Type type = Type::cpu;
  int index = 0;  ///< CUDA ordinal; 0 for the CPU

  static Device cpu() { return {}; }

  /// CUDA device `index`. Throws Error(unsupported) saying what to do when it cannot be used: this build has
  /// no CUDA, there is no driver or no GPU, the driver is too old, or `index` is out of range.
  static Device cuda(int index = 0);

  /// CUDA device 0 when it can be used, otherwise the CPU. `why_cpu`, when given, receives the reason for
  /// falling back (empty when a GPU is used), so that a program can say so.
  static Device best(std::string* why_cpu = nullptr);

  bool is_cuda() const { return type == Type::cuda; }
  bool operator==(const Device&) const = default;
};

/// "cpu", "cuda:0".
std::string to_string(Device device);

/// What the kernels need to know of a CUDA device.
struct DeviceInfo {
  std::string name;
  int cc_major = 0;  ///< compute capability
  int cc_minor = 0;
  int num_sms = 0;
  int64_t l2_bytes = 0;
  int64_t smem_per_block_bytes = 0;  ///< with opt-in
  int64_t total_bytes = 0;           ///< device memory
};

/// Reads the properties of a CUDA device; Error(unsupported) where Device::cuda would throw.
DeviceInfo device_info(Device device);

/// The highest clock of a CUDA device's multiprocessors; 0 without CUDA. Not part of DeviceInfo: the driver
/// takes half a millisecond to say it, and every session reads that.
double clock_hz(Device device);

}  // namespace solder
