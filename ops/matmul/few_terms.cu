// Products of few terms, C [m,n] = A [m,k] x B [k,n] in float32: a network's last layers, and what follows a mean.
//
// Grid: 4 rows of C a block (y) and 8 threads' columns (x), 4 a thread where B has whole lines of these, otherwise one. A
// block's 32 slices of 8 threads share the terms, each every 32nd: a slice sums its terms in order, and slices are joined in
// a fixed tree, so that an element's bits depend on its row and column alone. Where there are fewer rows or columns, the
// first stands in: loads without branches are on their way together. Registers: up to 64. Bound: latency; [16,192] x [192,128]
// takes 6 us by itself, with cuBLAS 56. Preconditions: is_few_terms().

#include <cstdint>

#include "ops/matmul/gemm.h"
#include "ops/ptx/follow.cuh"
#include "runtime/divide.h"
#include "runtime/launch.cuh"

namespace solder {
namespace {

constexpr int kRows = 4, kLanes = 8, kSlices = 32, kThreads = kLanes * kSlices, kWarps = kThreads / 32;

struct FewTermsParams {
  const float *a, *b;
  float* c;
  int64_t ld_a, ld_b, ld_c;
  int m, n, k;
};

template <int kVec>
__global__ void __launch_bounds__(kThreads) few_terms_kernel(const __grid_constant__ FewTermsParams p) {
  constexpr int kColumns = kLanes * kVec;
  __shared__ float parts[kWarps][kRows * kColumns];
  follow_previous();
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kLanes, slice = thread / kLanes;
  const int first_row = static_cast<int>(blockIdx.y) * kRows,
            first_column = static_cast<int>(blockIdx.x) * kColumns;
  const int column = first_column + lane * kVec;
  const float* const of_b = p.b + (column < p.n ? column : 0);
  const float* of_a[kRows];
#pragma unroll
  for (int i = 0; i < kRows; ++i) of_a[i] = p.a + (first_row + i < p.m ? first_row + i : 0) * p.ld_a;
  float sums[kRows][kVec] = {};
#pragma unroll 4
  for (int k = slice; k < p.k; k += kSlices) {
    float b[kVec];
    const float* const from = of_b + k * p.ld_b;
    if constexpr (kVec == 4) {
      const float4 line = *reinterpret_cast<const float4*>(from);
      b[0] = line.x, b[1] = line.y, b[2] = line.z, b[3] = line.w;
    } else {
      b[0] = *from;
    }
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const float a = of_a[i][k];
#pragma unroll
      for (int j = 0; j < kVec; ++j) sums[i][j] = fmaf(a, b[j], sums[i][j]);
    }
  }
#pragma unroll
  for (int i = 0; i < kRows; ++i)
#pragma unroll
    for (int j = 0; j < kVec; ++j) {
      float& sum = sums[i][j];
      sum += __shfl_xor_sync(0xffffffffu, sum, 16);
      sum += __shfl_xor_sync(0xffffffffu, sum, 8);
      if (thread % 32 < kLanes) parts[thread / 32][i * kColumns + lane * kVec + j] = sum;
    }
  __syncthreads();
  const int row = first_row + thread / kColumns, to = first_column + thread % kColumns;
  if (thread >= kRows * kColumns || row >= p.m || to >= p.n) return;
  float of[kWarps];
#pragma unroll
  for (int warp = 0; warp < kWarps; ++warp) of[warp] = parts[warp][thread];
#pragma unroll
  for (int apart = kWarps / 2; apart > 0; apart /= 2)
#pragma unroll
    for (int i = 0; i < apart; ++i) of[i] += of[i + apart];
  p.c[row * p.ld_c + to] = of[0];
}

}  // namespace

bool few_terms_cuda(const Context& context, const GemmShape& shape, const float* a, const float* b,
                    float* c) {
  if (!is_few_terms(shape)) return false;
  const bool has_lines =
      shape.n % 4 == 0 && shape.ld_b % 4 == 0 && reinterpret_cast<uintptr_t>(b) % (4 * sizeof(float)) == 0;
  const FewTermsParams p{.a = a,
                         .b = b,
                         .c = c,
                         .ld_a = shape.ld_a > 0 ? shape.ld_a : shape.k,
                         .ld_b = shape.ld_b,
                         .ld_c = shape.ld_c,
                         .m = static_cast<int>(shape.m),
                         .n = static_cast<int>(shape.n),
                         .k = static_cast<int>(shape.k)};
  const int64_t columns = has_lines ? kLanes * 4 : kLanes;
  launch(context, "few_terms_kernel", has_lines ? few_terms_kernel<4> : few_terms_kernel<1>,
         {.grid = dim3(static_cast<unsigned>(ceil_div(shape.n, columns)),
                       static_cast<unsigned>(ceil_div(shape.m, int64_t{kRows}))),
          .block = kThreads,
          .overlaps_previous = true},
         p);
  return true;
}

}  // namespace solder
