// Products of few rows, C [m,n] = A [m,k] x B [n,k]^T in float32: the last layer of a classifier.
//
// Grid: 4 warps a block, 2 columns of C a warp, all its rows. Lanes share the terms, 4 neighbours each, so that B is read
// once, in whole lines; A comes from caches. Each lane sums its terms in order, and lanes are joined in a fixed tree.
// Where there are fewer than kRows or 2 columns, the last one stands in: loads without branches are on their way
// together. Registers: up to 128. Bound: memory, B once. Preconditions: is_few_rows(), 16-byte lines.

#include <cstdint>

#include "ops/matmul/gemm.h"
#include "ops/ptx/follow.cuh"
#include "runtime/divide.h"
#include "runtime/launch.cuh"

namespace solder {
namespace {

constexpr int kWarps = 4, kColumns = 2, kLine = 4;

struct FewRowsParams {
  const float *a, *b;
  float* c;
  int64_t ld_b, ld_c;
  int m, n, k;
};

__device__ float dot(float4 x, float4 y, float sum) {
  return fmaf(x.w, y.w, fmaf(x.z, y.z, fmaf(x.y, y.y, fmaf(x.x, y.x, sum))));
}

template <int kRows>
__global__ void __launch_bounds__(kWarps * 32) few_rows_kernel(const __grid_constant__ FewRowsParams p) {
  follow_previous();
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int column = (static_cast<int>(blockIdx.x) * kWarps + warp) * kColumns;
  const int num_columns = min(kColumns, p.n - column);
  if (num_columns <= 0) return;
  float sums[kRows][kColumns] = {};
  const float *of_a[kRows], *of_b[kColumns];
#pragma unroll
  for (int i = 0; i < kRows; ++i) of_a[i] = p.a + int64_t{min(i, p.m - 1)} * p.k;
#pragma unroll
  for (int j = 0; j < kColumns; ++j) of_b[j] = p.b + (column + min(j, num_columns - 1)) * p.ld_b;
  constexpr int kUnrolled = kRows == 1 ? 8 : 1;
#pragma unroll kUnrolled
  for (int k = lane * kLine; k < p.k; k += 32 * kLine) {
    float4 a[kRows], b[kColumns];
#pragma unroll
    for (int j = 0; j < kColumns; ++j) b[j] = *reinterpret_cast<const float4*>(of_b[j] + k);
#pragma unroll
    for (int i = 0; i < kRows; ++i) a[i] = *reinterpret_cast<const float4*>(of_a[i] + k);
#pragma unroll
    for (int i = 0; i < kRows; ++i)
#pragma unroll
      for (int j = 0; j < kColumns; ++j) sums[i][j] = dot(a[i], b[j], sums[i][j]);
  }
#pragma unroll
  for (int i = 0; i < kRows; ++i)
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      float sum = sums[i][j];
#pragma unroll
      for (int apart = 16; apart > 0; apart /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, apart);
      if (lane == i * kColumns + j && i < p.m && j < num_columns) p.c[i * p.ld_c + column + j] = sum;
    }
}

}  // namespace

bool few_rows_cuda(const Context& context, const GemmShape& shape, const float* a, const float* b, float* c) {
  const auto is_on_line = [](const float* p) {
    return reinterpret_cast<uintptr_t>(p) % (kLine * sizeof(float)) == 0;
  };
  if (!is_few_rows(shape) || !is_on_line(a) || !is_on_line(b)) return false;
  const FewRowsParams p{.a = a,
                        .b = b,
                        .c = c,
                        .ld_b = shape.ld_b,
                        .ld_c = shape.ld_c,
                        .m = static_cast<int>(shape.m),
                        .n = static_cast<int>(shape.n),
                        .k = static_cast<int>(shape.k)};
  const auto kernel = shape.m == 1   ? few_rows_kernel<1>
                      : shape.m <= 4 ? few_rows_kernel<4>
                                     : few_rows_kernel<kMostFewRows>;
  launch(context, "few_rows_kernel", kernel,
         {.grid = grid_for(shape.n, kWarps * kColumns), .block = kWarps * 32, .overlaps_previous = true}, p);
  return true;
}

}  // namespace solder
