#pragma once

#include <cstdint>
#include <memory>

typedef struct CUstream_st* cudaStream_t;
typedef struct cublasContext* cublasHandle_t;

namespace solder {

/// A cuBLAS handle bound to one stream and one workspace, which must outlive it; none when the workspace is
/// empty, as making one takes time and memory. Move-only.
class Cublas {
 public:
  Cublas() = default;
  Cublas(cudaStream_t stream, void* workspace, int64_t workspace_bytes);

  cublasHandle_t get() const { return handle_.get(); }

 private:
  struct Destroy {
    void operator()(cublasHandle_t handle) const noexcept;
  };
  std::unique_ptr<cublasContext, Destroy> handle_;
};

}  // namespace solder
