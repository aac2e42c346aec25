#include "runtime/cluster_limit.h"

#include "runtime/check_cuda.h"

namespace solder {
namespace {

// Never launched: the limit is asked of a kernel.
__global__ void cluster_limit_kernel() {}

}  // namespace

int max_resident_clusters(Device device, const DeviceInfo& info, int cluster_size) {
  if (info.cc_major != 9) return 0;
  SOLDER_CUDA(cudaSetDevice(device.index));
  SOLDER_CUDA(cudaFuncSetAttribute(cluster_limit_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   static_cast<int>(info.smem_per_block_bytes)));
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = static_cast<unsigned>(cluster_size);
  cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(cluster_size));
  config.blockDim = dim3(128);
  config.dynamicSmemBytes = static_cast<size_t>(info.smem_per_block_bytes);
  config.attrs = &cluster;
  config.numAttrs = 1;
  int num_clusters = 0;
  SOLDER_CUDA(cudaOccupancyMaxActiveClusters(&num_clusters, cluster_limit_kernel, &config));
  return num_clusters;
}

}  // namespace solder
