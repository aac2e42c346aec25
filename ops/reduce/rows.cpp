#include "ops/reduce/rows.h"

#include <algorithm>
#include <cstdlib>

#include "ops/collapse.h"

namespace solder {
bool Rows::are_columns() const {
  return outer[num_outer - 1] >= 8 && std::abs(x_outer[num_outer - 1]) < std::abs(x_inner[num_inner - 1]);
}

Rows rows_of(const TensorView& x, const TensorView& y, const std::vector<int>& axes) {
  Rows rows;
  rows.num_rows = rows.row_elems = 1;
  std::vector<StridedAxis> outer, inner;
  for (size_t axis = x.shape.size(); axis-- > 0;) {
    const bool is_inner = std::find(axes.begin(), axes.end(), static_cast<int>(axis)) != axes.end();
    (is_inner ? rows.row_elems : rows.num_rows) *= x.shape[axis];
    put_around(is_inner ? &inner : &outer, {x.shape[axis], {x.strides[axis], y.strides[axis]}});
  }
  set_axes(outer, &rows.num_outer, rows.outer, rows.x_outer, rows.y_outer);
  set_axes(inner, &rows.num_inner, rows.inner, rows.x_inner, rows.y_inner);
  return rows;
}

TensorView repeated_over(const TensorView& y, const Shape& shape, const std::vector<int>& axes) {
  TensorView repeated{y.data, y.dtype, shape, Shape(shape.size())};
  const bool has_them = y.shape.size() == shape.size();
  for (size_t axis = 0, from = 0; axis < shape.size(); ++axis) {
    const bool is_reduced = std::find(axes.begin(), axes.end(), static_cast<int>(axis)) != axes.end();
    repeated.strides[axis] = is_reduced ? 0 : y.strides[from];
    from += has_them || !is_reduced;
  }
  return repeated;
}

}  // namespace solder
