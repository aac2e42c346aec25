#pragma once

#include "runtime/device.h"

namespace solder {

/// How many clusters of `cluster_size` blocks, each block with a multiprocessor and all its shared memory to
/// itself, `device` runs at one time; 0 where no kernel here has clusters (compute capability other
/// than 9.x). Not num_sms / cluster_size: a cluster stays within one of the chip's groups of multiprocessors,
/// and these vary in size from chip to chip. Error(cuda) as every call to the device.
int max_resident_clusters(Device device, const DeviceInfo& info, int cluster_size);

}  // namespace solder
