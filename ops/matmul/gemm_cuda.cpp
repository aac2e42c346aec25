#include <cublas_v2.h>

#include "ops/matmul/gemm.h"
#include "runtime/check_cuda.h"
#include "runtime/context.h"

namespace solder {
namespace {

// Whether a product without terms, or without elements, is done.
bool is_done(const Context& context, const GemmShape& shape, float* c) {
  if (shape.m == 0 || shape.n == 0 || shape.count == 0) return true;
  if (shape.k > 0) return false;
  for (int64_t i = 0; i < shape.count; ++i) {
    SOLDER_CUDA(cudaMemset2DAsync(c + i * shape.stride_c, static_cast<size_t>(shape.ld_c) * sizeof(float), 0,
                                  static_cast<size_t>(shape.n) * sizeof(float), static_cast<size_t>(shape.m),
                                  context.stream()));
  }
  return true;
}

// A and B of `operands`, C float32.
void multiply(const Context& context, const GemmShape& shape, cudaDataType operands,
              cublasComputeType_t compute, const void* a, const void* b, float* c) {
  // cuBLAS is column-major, so a row-major matrix reads as its transpose: compute C^T = B^T A^T. The _64
  // interface, because row pitches and counts pass 2^31 for large images.
  const float one = 1.0f, zero = 0.0f;
  SOLDER_CUBLAS(cublasGemmStridedBatchedEx_64(
      context.cublas(), shape.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N, CUBLAS_OP_N, shape.n, shape.m, shape.k,
      &one, b, operands, shape.ld_b, shape.stride_b, a, operands, shape.ld_a > 0 ? shape.ld_a : shape.k,
      shape.stride_a, &zero, c, CUDA_R_32F, shape.ld_c, shape.stride_c, shape.count, compute,
      CUBLAS_GEMM_DEFAULT));
}

}  // namespace

void gemm_cuda(const Context& context, const GemmShape& shape, Math math, const float* a, const float* b,
               float* c) {
  if (is_done(context, shape, c) || few_rows_cuda(context, shape, a, b, c)) return;
  if (math == Math::fp32 && few_terms_cuda(context, shape, a, b, c)) return;
  multiply(context, shape, CUDA_R_32F, math == Math::tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F,
           a, b, c);
}

void gemm_half_cuda(const Context& context, const GemmShape& shape, const void* a, const void* b, float* c) {
  if (is_done(context, shape, c)) return;
  multiply(context, shape, CUDA_R_16F, CUBLAS_COMPUTE_32F, a, b, c);
}

}  // namespace solder
