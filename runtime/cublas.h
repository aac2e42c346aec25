#pragma once

#include <cstdint>
#include <utility>

typedef struct CUstream_st* cudaStream_t;
typedef struct cublasContext* cublasHandle_t;

namespace solder {

/// A cuBLAS handle bound to one stream and one workspace, which must outlive it; none when the workspace is
/// empty, as making one takes time and memory. Move-only.
class Cublas {
 public:
  Cublas() = default;
  Cublas(cudaStream_t stream, void* workspace, int64_t workspace_bytes);
  Cublas(Cublas&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Cublas& operator=(Cublas&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Cublas();

  cublasHandle_t get() const { return handle_; }

 private:
  cublasHandle_t handle_ = nullptr;
};

}  // namespace solder
