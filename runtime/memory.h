#pragma once

#include <cstdint>
#include <memory>

#include "runtime/device.h"

namespace solder {

/// `num_bytes` of uninitialised memory on `device`, aligned to 256 bytes, freed with the last owner. Blocks
/// until it is usable from any stream. Throws Error(out_of_memory) with `what` it is for, the bytes asked for and, on a
/// GPU, the bytes free.
std::shared_ptr<void> allocate(Device device, int64_t num_bytes, const char* what = "a tensor");

/// Copies between any two devices and returns when the copy is complete.
void copy(void* to, Device to_device, const void* from, Device from_device, int64_t num_bytes);

/// Bytes that this process holds of a CUDA device's memory through solder.
int64_t device_bytes_in_use(Device device);

}  // namespace solder
