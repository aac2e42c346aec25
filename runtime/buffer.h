#pragma once

#include <cstdint>
#include <utility>

// The CUDA runtime's own names for its handles, so that headers compile without the toolkit.
typedef struct CUstream_st* cudaStream_t;

namespace solder {

/// Device memory, allocated and freed in the order of a stream (cudaMallocAsync). Move-only.
class Buffer {
 public:
  Buffer() = default;
  /// Throws Error(out_of_memory) naming `what`, the bytes asked for and the bytes free.
  Buffer(int64_t num_bytes, cudaStream_t stream, const char* what);
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Buffer();

  void* data() const { return data_; }
  int64_t num_bytes() const { return num_bytes_; }

 private:
  void swap(Buffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(num_bytes_, other.num_bytes_);
    std::swap(stream_, other.stream_);
  }

  void* data_ = nullptr;
  int64_t num_bytes_ = 0;
  cudaStream_t stream_ = nullptr;
};

}  // namespace solder
