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
  int64_t ld_b = 0, ld_c = 0;   ///< elements from row to row of B as given and of C
  int64_t ld_a = 0;             ///< of A; 0: k. On the CPU it is packed
  int64_t count = 1;
  int64_t stride_a = 0, stride_b = 0, stride_c = 0;  ///< elements from product to product; 0 repeats
};

/// A plain GEMM of packed matrices.
constexpr GemmShape packed_gemm(int64_t m, int64_t n, int64_t k, bool transpose_b = false) {
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

/// On the CPU, in float32, on the pool's threads (null: the calling one). Each element is summed in order of
/// k, in chains of 64 (multiply_panels), with one rounding a term where the processor has FMA and two elsewhere: bits
/// depend on nothing else.
void gemm_cpu(const GemmShape& shape, const float* a, const float* b, float* c, ThreadPool* pool = nullptr,
              CpuLevel level = best_cpu_level());

/// Rows up to which reading B is what takes time, not arithmetic.
inline constexpr int64_t kMostFewRows = 16;

/// Whether a product has so few rows: then its own kernel, in float32, is faster than cuBLAS.
constexpr bool is_few_rows(const GemmShape& s) {
  return s.count == 1 && s.transpose_b && s.m >= 1 && s.m <= kMostFewRows && s.n >= 1 && s.k >= 4 &&
         s.k % 4 == 0 && s.ld_b % 4 == 0 && s.n < int64_t{1} << 30 && s.k < int64_t{1} << 30;
}

/// Enqueues that kernel; false where is_few_rows() does not hold, or A or B does not begin on a 16-byte line.
bool few_rows_cuda(const Context& context, const GemmShape& shape, const float* a, const float* b, float* c);

/// Terms of a product, of all elements together, up to which Math::tf32 does not round a graph's matmul.
inline constexpr int64_t kMostFewTerms = int64_t{1} << 22;

constexpr bool has_few_terms(const GemmShape& s) {
  const auto number = [](int64_t value) { return static_cast<double>(value); };
  return number(s.count) * number(s.m) * number(s.n) * number(s.k) <= number(kMostFewTerms);
}

/// Whether its own kernel, in float32, is faster than cuBLAS for so small a product, of B as it lies.
constexpr bool is_few_terms(const GemmShape& s) {
  return s.count == 1 && !s.transpose_b && s.m >= 1 && s.n >= 1 && s.k >= 1 && has_few_terms(s) &&
         s.m <= 4 * 65'535;
}

/// Enqueues that kernel; false where is_few_terms() does not hold.
bool few_terms_cuda(const Context& context, const GemmShape& shape, const float* a, const float* b, float* c);

/// Enqueues one of these, the second with Math::fp32, or cuBLAS on the context's stream, as exact as Math says. k = 0 gives
/// zeros.
void gemm_cuda(const Context& context, const GemmShape& shape, Math math, const float* a, const float* b,
               float* c);

/// The same of float16 operands, with float32 sums.
void gemm_half_cuda(const Context& context, const GemmShape& shape, const void* a, const void* b, float* c);

}  // namespace solder
