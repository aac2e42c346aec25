#pragma once
// Rows as kernels walk them: where each begins, and where its elements lie.

#include "ops/reduce/rows.h"
#include "runtime/elements.cuh"

namespace solder {

// Loops over axes are not unrolled: there is hardly ever a second one, and kernels have these loops many times.
template <class Index>
struct RowParams {
  int num_outer = 0, num_inner = 0;
  IndexDivisor<Index> by_outer[kMaxDims], by_inner[kMaxDims];
  int64_t x_outer[kMaxDims], y_outer[kMaxDims], x_inner[kMaxDims], y_inner[kMaxDims];

  /// Index is 32-bit: rows and row_elems below 2^31.
  explicit RowParams(const Rows& rows) : num_outer(rows.num_outer), num_inner(rows.num_inner) {
    for (int d = 0; d < kMaxDims; ++d) {
      if (d < num_outer) by_outer[d] = IndexDivisor<Index>(std::max<int64_t>(rows.outer[d], 1));
      if (d < num_inner) by_inner[d] = IndexDivisor<Index>(std::max<int64_t>(rows.inner[d], 1));
      x_outer[d] = rows.x_outer[d], y_outer[d] = rows.y_outer[d];
      x_inner[d] = rows.x_inner[d], y_inner[d] = rows.y_inner[d];
    }
  }

  /// Offsets of row `row`, in elements.
  __device__ void find_row(Index row, int64_t* x, int64_t* y) const {
    *x = *y = 0;
#pragma unroll 1
    for (int d = num_outer - 1; d > 0; --d) {
      Index coord;
      row = by_outer[d].divide(row, &coord);
      *x += static_cast<int64_t>(coord) * x_outer[d];
      *y += static_cast<int64_t>(coord) * y_outer[d];
    }
    *x += static_cast<int64_t>(row) * x_outer[0];
    *y += static_cast<int64_t>(row) * y_outer[0];
  }

  /// Offset in x of element i of a row from its first.
  __device__ int64_t x_offset(Index i) const {
    int64_t offset = 0;
#pragma unroll 1
    for (int d = num_inner - 1; d > 0; --d) {
      Index coord;
      i = by_inner[d].divide(i, &coord);
      offset += static_cast<int64_t>(coord) * x_inner[d];
    }
    return offset + static_cast<int64_t>(i) * x_inner[0];
  }
};

}  // namespace solder
