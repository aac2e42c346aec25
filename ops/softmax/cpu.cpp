#include <algorithm>
#include <limits>

#include "ops/elementwise/formulas.h"
#include "ops/softmax/softmax.h"
#include "runtime/divide.h"
#include "runtime/parallel.h"
#include "runtime/tensor.h"

namespace solder {
namespace {

// Rows that are worked on at a time where they lie next to each other.
constexpr int kTile = 16;

// `tile` neighbouring rows: addresses of the first one's first element, and steps.
struct Tile {
  int64_t x = 0, y = 0;
  int64_t x_row = 0, y_row = 0;    // to the next row
  int64_t x_step = 0, y_step = 0;  // to the next element of a row
  int size = 1;
};

template <int kWidth>
void run_tile(const Softmax& softmax, const void* x, void* y, const Tile& tile) {
  const int64_t count = softmax.rows.row_elems;
  const DType dtype = softmax.dtype;
  const auto x_at = [&](int64_t i, int t) {
    return load_as_float(x, dtype, tile.x + i * tile.x_step + t * tile.x_row);
  };
  const auto y_place = [&](int64_t i, int t) { return tile.y + i * tile.y_step + t * tile.y_row; };
  const int width = kWidth == 1 ? 1 : tile.size;
  float largest[kWidth], sums[kSoftmaxPartials][kWidth] = {};
  std::fill_n(largest, kWidth, -std::numeric_limits<float>::infinity());
  for (int64_t i = 0; i < count; ++i)
    for (int t = 0; t < width; ++t) largest[t] = std::max(largest[t], x_at(i, t));
  const bool keeps_powers = dtype == DType::float32 && !softmax.log;  // in y, meanwhile
  for (int64_t i = 0; i < count; ++i) {
    float(&to)[kWidth] = sums[i / kSoftmaxNeighbours % kSoftmaxPartials];
    for (int t = 0; t < width; ++t) {
      const float power = math::exp(x_at(i, t) - largest[t]);
      to[t] += power;
      if (keeps_powers) store_from_float(y, dtype, y_place(i, t), power);
    }
  }
  for (int half = kSoftmaxPartials / 2; half > 0; half /= 2)
    for (int j = 0; j < half; ++j)
      for (int t = 0; t < kWidth; ++t) sums[j][t] += sums[j + half][t];
  for (int64_t i = 0; i < count; ++i) {
    for (int t = 0; t < width; ++t) {
      const float value = softmax.log    ? (x_at(i, t) - largest[t]) - math::log(sums[0][t])
                          : keeps_powers ? load_as_float(y, dtype, y_place(i, t)) / sums[0][t]
                                         : math::exp(x_at(i, t) - largest[t]) / sums[0][t];
      store_from_float(y, dtype, y_place(i, t), value);
    }
  }
}

void run_rows(const Softmax& softmax, const void* x, void* y, int64_t first, int64_t last) {
  const Rows& rows = softmax.rows;
  const int inner = rows.num_outer - 1;
  for (int64_t row = first; row < last;) {
    const Rows::Place place = rows.place_of(row);
    Tile tile{.x = place.x,
              .y = place.y,
              .x_row = rows.x_outer[inner],
              .y_row = rows.y_outer[inner],
              .x_step = rows.x_inner[0],
              .y_step = rows.y_inner[0]};
    if (rows.are_columns()) tile.size = static_cast<int>(std::min<int64_t>({kTile, place.left, last - row}));
    tile.size > 1 ? run_tile<kTile>(softmax, x, y, tile) : run_tile<1>(softmax, x, y, tile);
    row += tile.size;
  }
}

}  // namespace

void softmax_cpu(const Softmax& softmax, const void* x, void* y, ThreadPool* pool) {
  const Rows& rows = softmax.rows;
  if (rows.num_rows == 0 || rows.row_elems == 0) return;
  const int64_t share = round_up(ceil_div(2048, rows.row_elems), kTile);  // worth waking a thread
  parallel_parts(pool, rows.num_rows, share,
                 [&](int64_t first, int64_t last) { run_rows(softmax, x, y, first, last); });
}

}  // namespace solder
