#pragma once

#include <memory>
#include <mutex>

typedef struct CUstream_st* cudaStream_t;
typedef struct CUgraphExec_st* cudaGraphExec_t;
typedef struct CUevent_st* cudaEvent_t;

namespace solder {

/// Destroys a handle that a std::unique_ptr owns.
struct DestroyHandle {
  void operator()(cudaStream_t stream) const noexcept;
  void operator()(cudaEvent_t event) const noexcept;
  void operator()(cudaGraphExec_t exec) const noexcept;
};

/// A CUDA stream. Move-only.
class Stream {
 public:
  /// A new, non-blocking one of the current device.
  Stream();
  /// One that someone else keeps alive and destroys; null: a new one.
  explicit Stream(cudaStream_t borrowed);

  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<CUstream_st, DestroyHandle> owned_;  // the same, unless it is borrowed
};

/// A CUDA event that keeps time. Move-only.
class Event {
 public:
  Event();

  /// Enqueues a mark. While `stream` is being captured the mark becomes part of the graph: every replay sets
  /// it anew.
  void record(cudaStream_t stream) const;

  /// Milliseconds from `start` to this mark, both of them reached.
  double ms_since(const Event& start) const;

 private:
  std::unique_ptr<CUevent_st, DestroyHandle> event_;
};

/// Held while a thread records a graph, and while one makes or destroys a cuBLAS handle, which waits for the
/// whole device. That breaks every recording on the device, in each capture mode (llama.cpp's pull request
/// 14288 has met the same), and on an H100 with driver 580.159 cuCtxSynchronize then ends the process with a
/// segmentation fault. Allocations, copies, and libraries loaded or unloaded do no harm. A global, as what it
/// guards is the process's.
std::mutex& capture_mutex();

/// An instantiated CUDA graph. Move-only; empty until capture().
class CapturedGraph {
 public:
  /// Records what `enqueue` puts on `stream` instead of running it. When that fails, the stream is usable
  /// again and the exception goes on.
  template <class Enqueue>
  void capture(cudaStream_t stream, Enqueue enqueue) {
    const std::lock_guard lock(capture_mutex());
    begin(stream);
    try {
      enqueue();
    } catch (...) {
      abandon(stream);
      throw;
    }
    end(stream);
  }

  explicit operator bool() const { return exec_ != nullptr; }

  /// Enqueues one replay.
  void launch(cudaStream_t stream) const;

 private:
  void begin(cudaStream_t stream);
  void end(cudaStream_t stream);
  void abandon(cudaStream_t stream) noexcept;

  std::unique_ptr<CUgraphExec_st, DestroyHandle> exec_;
};

}  // namespace solder
