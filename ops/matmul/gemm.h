#pragma once

#include <cstdint>

#include "ops/math_mode.h"
#include "runtime/cpu_level.h"

namespace solder {

class Context;
class ThreadPool;

/// `count` products C[i] = A[i] B[i] of dense row-major float32 matrices, as numpy.matmul has them.
struct GemmShape {
  int64_t m = 0, n = 0, k = 0;  ///< A [m,k], B [k,n], C [m,n]
  bool transpose_b = false;     ///< B is given as [n,k]
  int64_t ld_b = 0, ld_c = 0;   ///< elements from row to row of B as given and of C; A is packed (ld = k)
  int64_t count = 1;
  int64_t stride_a = 0, stride_b = 0, stride_c = 0;  ///< elements from product to product; 0 repeats
};

/// A plain GEMM of packed matrices.
GemmShape packed_gemm(int64_t m, int64_t n, int64_t k, bool transpose_b = false);

/// On the CPU, in float32, on the pool's threads (null: the calling one). Each element is summed in order of
/// k, in chains of 64 (multiply_panels), with one rounding a term where the processor has FMA and two elsewhere: bits
/// depend on nothing else.
void gemm_cpu(const GemmShape& shape, const float* a, const float* b, float* c, ThreadPool* pool = nullptr,
              CpuLevel level = best_cpu_level());

/// Enqueues cuBLAS on the context's stream, as exact as Math says. k = 0 gives zeros.
void gemm_cuda(const Context& context, const GemmShape& shape, Math math, const float* a, const float* b,
               float* c);

}  // namespace solder
