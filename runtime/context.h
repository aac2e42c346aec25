#pragma once

#include <cstdint>

#include "runtime/buffer.h"
#include "runtime/cublas.h"
#include "runtime/device.h"
#include "runtime/stream.h"

namespace solder {

/// Whether this build has the CUDA half. Calls that `if constexpr` discards need no definition to link.
inline constexpr bool kWithCuda = SOLDER_WITH_CUDA;

/// What a CUDA op needs to run: device, stream, cuBLAS handle. Passed explicitly; one per Session, used by
/// one thread at a time.
class Context {
 public:
  /// Throws Error(unsupported) where Device::cuda would. With `stream` work goes there, which must outlive
  /// the Context; otherwise to a stream of its own.
  explicit Context(Device device, cudaStream_t stream = nullptr);

  /// Gives cuBLAS `workspace_bytes`; it allocates nothing on its own afterwards (so that calls can be
  /// captured into a CUDA graph, and repeat bit for bit). With 0 there is no handle. Error(out_of_memory)
  /// when it does not fit.
  void create_cublas(int64_t workspace_bytes);

  /// NVIDIA's recommendation for Hopper.
  static constexpr int64_t kDefaultCublasWorkspaceBytes = int64_t{32} << 20;

  Device device() const { return device_; }
  const DeviceInfo& info() const { return info_; }
  cudaStream_t stream() const { return stream_.get(); }
  cublasHandle_t cublas() const { return cublas_.get(); }

  /// Whether kernels of this build, those made at run time too, hold the instructions here that wait for the one
  /// before: only Hopper runs code built for Hopper, others may run what was built for an older architecture.
  bool can_overlap() const { return SOLDER_WITH_SM90 && info_.cc_major == 9; }

  /// SOLDER_SYNC=1: every launch is followed by a synchronisation, so that a fault names its kernel.
  bool sync_launches() const { return sync_launches_; }

  /// Makes the device current on the calling thread.
  void activate() const;

  /// Waits for the stream; throws what it ran into.
  void synchronize() const;

 private:
  Device device_;
  DeviceInfo info_;
  bool sync_launches_ = false;
  Stream stream_;
  Buffer cublas_workspace_;
  Cublas cublas_;
};

}  // namespace solder
