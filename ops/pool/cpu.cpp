#include <algorithm>
#include <limits>

#include "ops/pool/pool.h"
#include "runtime/divide.h"
#include "runtime/parallel.h"

namespace solder {

int64_t PoolAxis::num_windows(int64_t extent, bool ceil_mode) const {
  const int64_t room = extent + before + after - dilation * (size - 1) - 1 + (ceil_mode ? stride - 1 : 0);
  if (room < 0) return 0;
  const int64_t count = room / stride + 1;
  return count - (ceil_mode && (count - 1) * stride >= extent + before);
}

namespace {

// The j of window `start` whose places are at least 0 and below `end`: [first, last).
struct Taps {
  int64_t first, last;
};

Taps taps_within(const PoolAxis& axis, int64_t start, int64_t end) {
  if (start >= 0 && start + (axis.size - 1) * axis.dilation < end) return {0, axis.size};
  const int64_t first = start < 0 ? ceil_div(-start, axis.dilation) : 0;
  const int64_t last = start < end ? ceil_div(end - start, axis.dilation) : 0;
  return {std::min(first, axis.size), std::min(last, axis.size)};
}

// Places of window `start` that the mean is over.
int64_t count_along(const PoolAxis& axis, int64_t start, int64_t extent, bool count_padding) {
  const Taps taps = taps_within(axis, start, count_padding ? extent + axis.after : extent);
  return std::max<int64_t>(count_padding ? taps.last : taps.last - taps.first, 0);
}

// Windows along a row that are worked on at a time: tap by tap, so that the loop over them has no branches.
constexpr int64_t kBlock = 256;

// acc[i] takes the tap value_of(i), i < count.
template <class ValueOf>
void take_taps(bool is_max, int64_t count, float* acc, const ValueOf& value_of) {
  if (is_max) {
    for (int64_t i = 0; i < count; ++i) {
      const float value = value_of(i);
      acc[i] = ((value > acc[i]) | (value != value)) ? value : acc[i];
    }
  } else {
    for (int64_t i = 0; i < count; ++i) acc[i] += value_of(i);
  }
}

// The same of x[offset + i * step].
void take_tap(bool is_max, const TensorView& x, int64_t offset, int64_t step, int64_t count, float* acc) {
  const float* from = static_cast<const float*>(x.data) + (x.dtype == DType::float32 ? offset : 0);
  if (x.dtype != DType::float32)
    take_taps(is_max, count, acc,
              [&](int64_t i) { return load_as_float(x.data, x.dtype, offset + i * step); });
  else if (step == 1)  // by vectors
    take_taps(is_max, count, acc, [=](int64_t i) { return from[i]; });
  else if (step == 2)
    take_taps(is_max, count, acc, [=](int64_t i) { return from[2 * i]; });
  else
    take_taps(is_max, count, acc, [=](int64_t i) { return from[step * i]; });
}

// Windows [first, first + count) of output row p, count <= kBlock.
void pool_block(const Pool2d& pool, const TensorView& x, int64_t plane, int64_t p, int64_t first,
                int64_t count, float* acc) {
  const int64_t height = x.shape[2], width = x.shape[3];
  const int64_t top = p * pool.h.stride - pool.h.before;
  std::fill_n(acc, count, pool.is_max ? -std::numeric_limits<float>::infinity() : 0.0f);
  const Taps rows = taps_within(pool.h, top, height);
  // Taps that none of these windows has within the image are left out.
  const int64_t left = first * pool.w.stride - pool.w.before, right = left + (count - 1) * pool.w.stride;
  const int64_t first_tap = taps_within(pool.w, right, width).first,
                end_tap = taps_within(pool.w, left, width).last;
  for (int64_t r = rows.first; r < rows.last; ++r) {
    const int64_t row = plane + (top + r * pool.h.dilation) * x.strides[2];
    for (int64_t s = first_tap; s < end_tap; ++s) {
      // Those of the windows at which tap s lies in the image.
      const int64_t column = left + s * pool.w.dilation;
      const int64_t begin = column < 0 ? ceil_div(-column, pool.w.stride) : 0;
      const int64_t end = column < width ? std::min(count, ceil_div(width - column, pool.w.stride)) : 0;
      if (begin < end)
        take_tap(pool.is_max, x, row + (column + begin * pool.w.stride) * x.strides[3],
                 pool.w.stride * x.strides[3], end - begin, acc + begin);
    }
  }
  if (pool.is_max) return;
  const int64_t num_rows = count_along(pool.h, top, height, pool.count_padding);
  for (int64_t i = 0; i < count; ++i)
    acc[i] /= static_cast<float>(num_rows *
                                 count_along(pool.w, left + i * pool.w.stride, width, pool.count_padding));
}

}  // namespace

void pool2d_cpu(const Pool2d& pool, const TensorView& x, const TensorView& y, ThreadPool* threads) {
  const int64_t num_channels = y.shape[1], num_rows = y.shape[2], width = y.shape[3];
  const int64_t all_rows = width > 0 ? y.shape[0] * num_channels * num_rows : 0;
  // Enough places to be worth waking a thread.
  const double row_cost =
      static_cast<double>(width) * static_cast<double>(pool.h.size) * static_cast<double>(pool.w.size);
  const int64_t share = std::max<int64_t>(1, static_cast<int64_t>(32768 / std::max(1.0, row_cost)));
  parallel_parts(threads, all_rows, share, [&](int64_t first, int64_t last) {
    float acc[kBlock];
    for (int64_t row = first; row < last; ++row) {
      const int64_t p = row % num_rows, c = row / num_rows % num_channels, n = row / num_rows / num_channels;
      const int64_t to = n * y.strides[0] + c * y.strides[1] + p * y.strides[2];
      for (int64_t q = 0; q < width; q += kBlock) {
        const int64_t count = std::min(kBlock, width - q);
        pool_block(pool, x, n * x.strides[0] + c * x.strides[1], p, q, count, acc);
        for (int64_t j = 0; j < count; ++j)
          store_from_float(y.data, y.dtype, to + (q + j) * y.strides[3], acc[j]);
      }
    }
  });
}

}  // namespace solder
