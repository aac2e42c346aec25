#pragma once

#include <cstdint>
#include <vector>

#include "ops/elementwise/params.h"
#include "runtime/tensor_view.h"

namespace solder {

/// Tensors x and y of one shape as rows: `inner` axes run through a row in row-major order, `outer` ones from row to
/// row. Both are collapsed as far as the strides of x and y allow, outermost first, and at least one each.
struct Rows {
  int num_outer = 0, num_inner = 0;
  int64_t outer[kMaxDims] = {}, x_outer[kMaxDims] = {}, y_outer[kMaxDims] = {};  ///< extents and strides
  int64_t inner[kMaxDims] = {}, x_inner[kMaxDims] = {}, y_inner[kMaxDims] = {};
  int64_t num_rows = 0, row_elems = 0;

  /// Where a row begins in x and y; `left`: rows from it on along the innermost outer axis.
  struct Place {
    int64_t x = 0, y = 0, left = 0;
  };
  Place place_of(int64_t row) const {
    Place place;
    for (int d = num_outer; d-- > 0; row /= outer[d]) {
      const int64_t coord = row % outer[d];
      if (d == num_outer - 1) place.left = outer[d] - coord;
      place.x += coord * x_outer[d];
      place.y += coord * y_outer[d];
    }
    return place;
  }

  /// Whether neighbouring rows lie closer together in x than neighbours in a row.
  bool are_columns() const;
};

/// Rows along `axes` (none twice). Error(unsupported) where more than kMaxDims axes of either sort remain.
Rows rows_of(const TensorView& x, const TensorView& y, const std::vector<int>& axes);

/// `y`, the reduction of x [shape] over `axes`, with or without those axes, read under x's shape: each element again
/// and again.
TensorView repeated_over(const TensorView& y, const Shape& shape, const std::vector<int>& axes);

}  // namespace solder
