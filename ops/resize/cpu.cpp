#include "ops/resize/resize.h"
#include "runtime/divide.h"
#include "runtime/parallel.h"

namespace solder {
namespace {

// Element `column` of the row of x at `offset`.
float blended_at(const TensorView& x, int64_t offset, ResizeTap column) {
  offset += column.index * x.strides[3];
  const float value = load_as_float(x.data, x.dtype, offset);
  if (column.weight == 0) return value;
  return blend(value, load_as_float(x.data, x.dtype, offset + x.strides[3]), column.weight);
}

void blend_row(const TensorView& x, int64_t from, const TensorView& y, int64_t to, ResizeTap row,
               const ResizeTap* columns) {
  from += row.index * x.strides[2];
  for (int64_t q = 0; q < y.shape[3]; ++q) {
    float value = blended_at(x, from, columns[q]);
    if (row.weight != 0) value = blend(value, blended_at(x, from + x.strides[2], columns[q]), row.weight);
    store_from_float(y.data, y.dtype, to + q * y.strides[3], value);
  }
}

template <class Bits>
void copy_row(const TensorView& x, int64_t from, const TensorView& y, int64_t to, ResizeTap row,
              const ResizeTap* columns) {
  const Bits* x_row = static_cast<const Bits*>(x.data) + from + row.index * x.strides[2];
  Bits* y_row = static_cast<Bits*>(y.data) + to;
  for (int64_t q = 0; q < y.shape[3]; ++q) y_row[q * y.strides[3]] = x_row[columns[q].index * x.strides[3]];
}

}  // namespace

void resize_cpu(const Resize& resize, const TensorView& x, const TensorView& y, const ResizeTap* rows,
                const ResizeTap* columns, ThreadPool* threads) {
  if (num_elements(y.shape) == 0) return;
  constexpr int64_t kShareElems = 16384;  // worth waking a thread
  const int64_t num_channels = y.shape[1], height = y.shape[2];
  const int64_t num_rows = y.shape[0] * num_channels * height;
  const auto run_row = resize.is_blended       ? blend_row
                       : size_of(x.dtype) == 4 ? copy_row<uint32_t>
                                               : copy_row<uint16_t>;
  parallel_parts(threads, num_rows, ceil_div(kShareElems, y.shape[3]), [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      const int64_t p = row % height, c = row / height % num_channels, n = row / height / num_channels;
      run_row(x, n * x.strides[0] + c * x.strides[1], y,
              n * y.strides[0] + c * y.strides[1] + p * y.strides[2], rows[p], columns);
    }
  });
}

}  // namespace solder
