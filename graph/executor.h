#pragma once

#include <memory>
#include <vector>

#include "runtime/device.h"
#include "runtime/launch.h"
#include "runtime/tensor.h"

namespace solder {

class Context;

/// What a Session asks of its device; one per Session. Work is enqueued in order; on the CPU it runs at once.
class Executor {
 public:
  virtual ~Executor() = default;

  /// What launches are bound to; null on the CPU.
  virtual const Context* context() const { return nullptr; }

  /// The session's memory, `arena_bytes` of it, and nothing else of size: what the plan says is what is
  /// taken. Error(out_of_memory) naming `what`.
  virtual void* allocate_arena(int64_t arena_bytes, const char* what) = 0;

  /// Enqueues copies between the arena and a tensor of any device.
  virtual void upload(void* to, const Tensor& from) = 0;
  virtual void download(const Tensor& to, const void* from) = 0;

  /// Enqueues zeros.
  virtual void clear(void* to, int64_t num_bytes) = 0;

  /// Runs the launches in order; with `capture` (and where the device has it) as one recorded graph that
  /// later calls replay.
  virtual void execute(const std::vector<Launch>& launches, bool capture) = 0;

  /// Runs the launches once, in the way execute() would, and waits. Launch i ran from result[i] to
  /// result[i + 1], in milliseconds since the first of them could start.
  virtual std::vector<double> execute_timed(const std::vector<Launch>& launches, bool capture) = 0;

  /// Bytes a second, read plus written, of a device copy much larger than the caches, measured now; 0 when
  /// that is not known (on the CPU, or too little free memory).
  virtual double copy_bytes_per_s() { return 0; }

  /// Waits for all that was enqueued; throws what it ran into.
  virtual void synchronize() = 0;

  /// Waits for all that was enqueued, whatever becomes of it: afterwards nothing reads or writes a caller's
  /// memory.
  virtual void drain() noexcept {}

  /// The CUDA stream work is enqueued on; null on the CPU.
  virtual void* stream() const { return nullptr; }
};

std::unique_ptr<Executor> make_cpu_executor();
/// Enqueues on `stream`, a cudaStream_t, or with null on one of its own. Error(unsupported) where
/// Device::cuda would throw. Only in builds with CUDA.
std::unique_ptr<Executor> make_cuda_executor(Device device, int64_t cublas_workspace_bytes, void* stream);

}  // namespace solder
