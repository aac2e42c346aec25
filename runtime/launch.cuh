#pragma once

#include <limits>

#include "runtime/check.h"
#include "runtime/check_cuda.h"
#include "runtime/context.h"
#include "runtime/divide.h"

namespace solder {

/// A kernel's grid; dynamic shared memory above 48 KiB is opted into by launch().
struct LaunchConfig {
  dim3 grid;
  dim3 block;
  int64_t smem_bytes = 0;
  /// The kernel may start while the one before it still runs, and waits for it itself (follow_previous, or
  /// sm90::dependency_wait) before it touches memory that an earlier kernel writes or reads. Done where
  /// Context::can_overlap().
  bool overlaps_previous = false;
  int cluster_blocks = 1;  ///< that run together and reach each other's shared memory; above 1 on Hopper only
};

/// Blocks that take `per_block` of the items each. Error(unsupported) above 2^31 - 1 blocks.
inline unsigned grid_for(int64_t num_items, int64_t per_block) {
  const int64_t blocks = ceil_div(num_items, per_block);
  SOLDER_REQUIRE(blocks <= std::numeric_limits<int32_t>::max(), unsupported, num_items,
                 " items in blocks of ", per_block, " are more than one kernel takes");
  return static_cast<unsigned>(blocks);
}

/// The one way solder starts a kernel: checked, named, on the context's stream.
/// `name` appears in the error; with SOLDER_SYNC=1 so does a fault inside the kernel.
template <class... Params, class... Args>
void launch(const Context& context, const char* name, void (*kernel)(Params...), const LaunchConfig& config,
            Args&&... args) {
  cudaError_t status = cudaSuccess;
  if (config.smem_bytes > (48 << 10)) {
    status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(config.smem_bytes));
  }
  if (status == cudaSuccess) {
    cudaLaunchConfig_t launch_config{};
    launch_config.gridDim = config.grid;
    launch_config.blockDim = config.block;
    launch_config.dynamicSmemBytes = config.smem_bytes;
    launch_config.stream = context.stream();
    cudaLaunchAttribute attributes[2]{};
    launch_config.attrs = attributes;
    if (config.overlaps_previous && context.can_overlap()) {
      cudaLaunchAttribute& overlap = attributes[launch_config.numAttrs++];
      overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
      overlap.val.programmaticStreamSerializationAllowed = 1;
    }
    if (config.cluster_blocks > 1) {
      cudaLaunchAttribute& cluster = attributes[launch_config.numAttrs++];
      cluster.id = cudaLaunchAttributeClusterDimension;
      cluster.val.clusterDim.x = static_cast<unsigned>(config.cluster_blocks);
      cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
    }
    status = cudaLaunchKernelEx(&launch_config, kernel, static_cast<Params>(args)...);
  }
  if (status == cudaSuccess && context.sync_launches()) status = cudaStreamSynchronize(context.stream());
  if (status != cudaSuccess) [[unlikely]]
    fail_cuda(status, name, "launch", 0);
}

}  // namespace solder
