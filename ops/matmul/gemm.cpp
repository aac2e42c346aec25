#include "ops/matmul/gemm.h"

#include <algorithm>

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

void gemm_cpu(const GemmShape& shape, const float* a, const float* b, float* c) {
  for (int64_t i = 0; i < shape.count; ++i) {
    for (int64_t row = 0; row < shape.m; ++row) {
      const float* a_row = a + i * shape.stride_a + row * shape.k;
      const float* b_i = b + i * shape.stride_b;
      float* c_row = c + i * shape.stride_c + row * shape.ld_c;
      if (shape.transpose_b) {
        for (int64_t col = 0; col < shape.n; ++col) {
          float sum = 0;
          for (int64_t k = 0; k < shape.k; ++k) sum += a_row[k] * b_i[col * shape.ld_b + k];
          c_row[col] = sum;
        }
      } else {
        std::fill_n(c_row, shape.n, 0.0f);
        for (int64_t k = 0; k < shape.k; ++k) {  // rows of B innermost: the compiler vectorises over columns
          const float factor = a_row[k];
          const float* b_row = b_i + k * shape.ld_b;
          for (int64_t col = 0; col < shape.n; ++col) c_row[col] += factor * b_row[col];
        }
      }
    }
  }
}

}  // namespace solder
