#pragma once

#include <cstdint>
#include <memory>

// The CUDA runtime's own names for its handles, so that headers compile without the toolkit.
typedef struct CUstream_st* cudaStream_t;

namespace solder {

/// Device memory, allocated and freed in the order of a stream (cudaMallocAsync). Move-only.
class Buffer {
 public:
  Buffer() = default;
  /// Throws Error(out_of_memory) naming `what`, the bytes asked for and the bytes free.
  Buffer(int64_t num_bytes, cudaStream_t stream, const char* what);

  void* data() const { return data_.get(); }

 private:
  struct Free {
    cudaStream_t stream;
    void operator()(void* data) const noexcept;
  };

  std::unique_ptr<void, Free> data_;
};

}  // namespace solder
