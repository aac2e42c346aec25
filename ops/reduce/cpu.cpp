#include <algorithm>
#include <array>
#include <limits>

#include "ops/reduce/reduce.h"
#include "runtime/divide.h"
#include "runtime/parallel.h"
#include "runtime/tensor.h"

namespace solder {
namespace {

// Units that are worked on at a time where neighbouring rows lie next to each other.
constexpr int kTile = 16;

// The place of an element of a row, walked in row-major order.
class Walk {
 public:
  Walk(const Rows& rows, int64_t first) : rows_(rows) {
    for (size_t d = static_cast<size_t>(rows.num_inner); d-- > 0; first /= rows.inner[d]) {
      coord_[d] = first % rows.inner[d];
      offset_ += coord_[d] * rows.x_inner[d];
    }
  }
  int64_t offset() const { return offset_; }
  void next() {
    size_t d = static_cast<size_t>(rows_.num_inner) - 1;
    offset_ += rows_.x_inner[d];
    for (; ++coord_[d] == rows_.inner[d] && d > 0; --d) {
      offset_ += rows_.x_inner[d - 1] - coord_[d] * rows_.x_inner[d];
      coord_[d] = 0;
    }
  }

 private:
  const Rows& rows_;
  std::array<int64_t, kMaxDims> coord_{};
  int64_t offset_ = 0;
};

// acc[partial][t] over elements [begin, end) of `tile` rows that lie x_outer apart.
template <bool kIsMax, int kWidth>
void accumulate(const ReducePass& pass, int64_t x_offset, int64_t begin, int64_t end, int tile,
                float (&acc)[kReducePartials][kWidth]) {
  const Rows& rows = pass.rows;
  const int64_t step = rows.x_outer[rows.num_outer - 1];
  const float sign = pass.negates_x ? -1.0f : 1.0f;
  Walk walk(rows, begin);
  for (int64_t i = 0; i < end - begin; ++i, walk.next()) {
    float(&to)[kWidth] = acc[i / kReduceNeighbours % kReducePartials];
    const int64_t from = x_offset + walk.offset();
    for (int t = 0; t < (kWidth == 1 ? 1 : tile); ++t) {
      const float value = load_as_float(pass.x, pass.x_dtype, from + t * step);
      to[t] = take<kIsMax>(to[t], sign * value);
    }
  }
}

// The same for one float32 row whose elements are neighbours.
template <bool kIsMax>
void accumulate_dense(const float* x, int64_t count, float sign, float (&acc)[kReducePartials][1]) {
  constexpr int kStep = kReducePartials * kReduceNeighbours;
  int64_t i = 0;
  for (; i + kStep <= count; i += kStep)
    for (int e = 0; e < kReduceNeighbours; ++e)
      for (int j = 0; j < kReducePartials; ++j)
        acc[j][0] = take<kIsMax>(acc[j][0], sign * x[i + j * kReduceNeighbours + e]);
  for (; i < count; ++i) {
    float& to = acc[i / kReduceNeighbours % kReducePartials][0];
    to = take<kIsMax>(to, sign * x[i]);
  }
}

template <bool kIsMax, int kWidth>
void run_tile(const ReducePass& pass, int64_t unit, const Rows::Place& place, int tile) {
  const int64_t begin = unit / pass.rows.num_rows * kReduceChunk;
  const int64_t end = std::min(pass.rows.row_elems, begin + kReduceChunk);
  float acc[kReducePartials][kWidth];
  for (auto& partial : acc)
    std::fill_n(partial, kWidth, kIsMax ? -std::numeric_limits<float>::infinity() : 0.0f);
  const bool is_dense = pass.rows.num_inner == 1 && pass.rows.x_inner[0] == 1;
  if (kWidth == 1 && is_dense && pass.x_dtype == DType::float32) {
    if constexpr (kWidth == 1)
      accumulate_dense<kIsMax>(static_cast<const float*>(pass.x) + place.x + begin, end - begin,
                               pass.negates_x ? -1.0f : 1.0f, acc);
  } else if (begin < end) {
    accumulate<kIsMax>(pass, place.x, begin, end, tile, acc);
  }
  for (int half = kReducePartials / 2; half > 0; half /= 2)
    for (int j = 0; j < half; ++j)
      for (int t = 0; t < kWidth; ++t) acc[j][t] = take<kIsMax>(acc[j][t], acc[j + half][t]);
  const bool is_last = pass.num_chunks == 1;
  const int64_t step = is_last ? pass.rows.y_outer[pass.rows.num_outer - 1] : 1;
  for (int t = 0; t < tile; ++t) {
    const float value = (pass.negates_y ? -acc[0][t] : acc[0][t]) / pass.divisor;
    store_from_float(pass.y, pass.y_dtype, (is_last ? place.y : unit) + t * step, value);
  }
}

template <bool kIsMax>
void run_units(const ReducePass& pass, int64_t first, int64_t last) {
  const bool are_columns = pass.rows.are_columns();
  for (int64_t unit = first; unit < last;) {
    const Rows::Place place = pass.rows.place_of(unit % pass.rows.num_rows);
    const int tile = are_columns ? static_cast<int>(std::min<int64_t>({kTile, place.left, last - unit})) : 1;
    if (tile > 1)
      run_tile<kIsMax, kTile>(pass, unit, place, tile);
    else
      run_tile<kIsMax, 1>(pass, unit, place, 1);
    unit += tile;
  }
}

}  // namespace

int64_t Reduce::scratch_bytes() const {
  int64_t elems = 0;
  for (int64_t chunks = rows.row_elems; chunks > kReduceChunk;) {
    chunks = ceil_div(chunks, kReduceChunk);
    elems += chunks * rows.num_rows;
  }
  return elems * int64_t{sizeof(float)};
}

void reduce_cpu(const Reduce& reduce, const void* x, void* y, void* scratch, ThreadPool* pool) {
  if (reduce.rows.num_rows == 0) return;
  for_passes(reduce, x, y, scratch, [&](const ReducePass& pass) {
    const int64_t unit_elems = std::max<int64_t>(1, std::min(pass.rows.row_elems, kReduceChunk));
    const int64_t share = round_up(ceil_div(16384, unit_elems), kTile);  // worth waking a thread
    parallel_parts(pool, pass.num_units(), share, [&](int64_t first, int64_t last) {
      pass.is_max ? run_units<true>(pass, first, last) : run_units<false>(pass, first, last);
    });
  });
}

}  // namespace solder
