#include "ops/matmul/gemm.h"

namespace solder {

GemmShape packed_gemm(int64_t m, int64_t n, int64_t k, bool transpose_b) {
  return {.m = m,
          .n = n,
          .k = k,
          .transpose_b = transpose_b,
          .ld_b = transpose_b ? k : n,
          .ld_c = n,
          .stride_a = m * k,
          .stride_b = k * n,
          .stride_c = m * n};
}

}  // namespace solder
