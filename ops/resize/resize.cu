// Images at another size: x [N,C,H,W] -> y [N,C,P,Q], any strides. What each row and column of y shows is in two
// tables, so that the kernels know nothing of coordinates and rounding.
//
// Grid: a thread writes kVec neighbours of y, where they lie so one 16-byte store, 256 threads a block: columns, threads
// in row-major order of y; or, where they are innermost, channels, threads in the order of memory. Of rows that are the
// same a thread writes all, from one set of loads: a 2x nearest upscaling reads x once and stores 2 * 16 bytes a
// thread. Columns are loaded one by one: those of neighbours share sectors, which the first-level cache serves;
// channels by vectors, again for each column that shows them. No shared memory. Bound: memory, x and y once.
// Preconditions: 32-bit Index needs fewer than 2^31 elements of y; kVec above 1 lines of kVec elements in y, channels
// also in x.

#include <type_traits>

#include "ops/ptx/follow.cuh"
#include "ops/resize/resize.h"
#include "runtime/elements.cuh"
#include "runtime/launch.cuh"

namespace solder {
namespace {

constexpr int kThreads = 256;

template <class Index>
struct ResizeParams {
  Index num_threads;
  // Vectors a row or of channels, groups of equal rows an image.
  IndexDivisor<Index> by_columns, by_groups, by_channels;
  int row_repeats;
  int64_t x_strides[4], y_strides[4];
  const ResizeTap *rows, *columns;  // [P], [Q]
};

// What a thread writes.
template <int kVec_, bool kAreChannels_>
struct Tile {
  static constexpr int kVec = kVec_;
  static constexpr bool kAreChannels = kAreChannels_;
};

// Of a row of x, what `column` shows in kVec channels.
template <int kVec, class T>
__device__ Elements<float, kVec> blended_at(const T* row, int64_t stride, ResizeTap column) {
  const auto* from = reinterpret_cast<const Elements<T, kVec>*>(row + column.index * stride);
  const auto* next = reinterpret_cast<const Elements<T, kVec>*>(row + (column.index + 1) * stride);
  Elements<float, kVec> values;
#pragma unroll
  for (int i = 0; i < kVec; ++i) values.at[i] = to_float(from->at[i]);
  if (column.weight == 0) return values;
#pragma unroll
  for (int i = 0; i < kVec; ++i) values.at[i] = blend(values.at[i], to_float(next->at[i]), column.weight);
  return values;
}

// What `row`, which begins at x, and `column` show in kVec channels.
template <int kVec, class T>
__device__ Elements<T, kVec> shown_at(const T* x, int64_t row_stride, int64_t stride, ResizeTap row,
                                      ResizeTap column) {
  if constexpr (std::is_integral_v<T>) {
    return *reinterpret_cast<const Elements<T, kVec>*>(x + column.index * stride);
  } else {
    Elements<float, kVec> values = blended_at<kVec>(x, stride, column);
    if (row.weight != 0) {
      const Elements<float, kVec> below = blended_at<kVec>(x + row_stride, stride, column);
#pragma unroll
      for (int i = 0; i < kVec; ++i) values.at[i] = blend(values.at[i], below.at[i], row.weight);
    }
    Elements<T, kVec> rounded;
#pragma unroll
    for (int i = 0; i < kVec; ++i) rounded.at[i] = from_float<T>(values.at[i]);
    return rounded;
  }
}

// T: the stored type where values are blended; an unsigned integer of its size where they are copied.
template <class T, class Tile, class Index>
__global__ void __launch_bounds__(kThreads)
    resize_kernel(const __grid_constant__ ResizeParams<Index> params, const T* x, T* y) {
  constexpr int kVec = Tile::kVec;
  follow_previous();
  Index idx = static_cast<Index>(blockIdx.x) * kThreads + threadIdx.x;
  if (idx >= params.num_threads) return;
  Index q, group, c;
  if (Tile::kAreChannels) idx = params.by_channels.divide(idx, &c);
  idx = params.by_groups.divide(params.by_columns.divide(idx, &q), &group);
  if (!Tile::kAreChannels) idx = params.by_channels.divide(idx, &c);
  (Tile::kAreChannels ? c : q) *= kVec;
  const int64_t p = static_cast<int64_t>(group) * params.row_repeats;
  const ResizeTap row = params.rows[p];
  x += static_cast<int64_t>(idx) * params.x_strides[0] + static_cast<int64_t>(c) * params.x_strides[1] +
       row.index * params.x_strides[2];
  y += static_cast<int64_t>(idx) * params.y_strides[0] + static_cast<int64_t>(c) * params.y_strides[1] +
       p * params.y_strides[2] + static_cast<int64_t>(q) * params.y_strides[3];

  Elements<T, kVec> values;
  if constexpr (Tile::kAreChannels) {
    values = shown_at<kVec>(x, params.x_strides[2], params.x_strides[3], row, params.columns[q]);
  } else {
#pragma unroll
    for (int i = 0; i < kVec; ++i)
      values.at[i] =
          shown_at<1>(x, params.x_strides[2], params.x_strides[3], row, params.columns[q + i]).at[0];
  }
  for (int repeat = 0; repeat < params.row_repeats; ++repeat, y += params.y_strides[2])
    *reinterpret_cast<Elements<T, kVec>*>(y) = values;
}

template <class T, class Tile, class Index>
void launch_resize(const Context& context, const Resize& resize, const TensorView& x, const TensorView& y,
                   const ResizeTap* rows, const ResizeTap* columns) {
  ResizeParams<Index> params;
  const int64_t num_threads = num_elements(y.shape) / Tile::kVec / resize.row_repeats;
  params.num_threads = static_cast<Index>(num_threads);
  params.by_columns = IndexDivisor<Index>(y.shape[3] / (Tile::kAreChannels ? 1 : Tile::kVec));
  params.by_groups = IndexDivisor<Index>(y.shape[2] / resize.row_repeats);
  params.by_channels = IndexDivisor<Index>(y.shape[1] / (Tile::kAreChannels ? Tile::kVec : 1));
  params.row_repeats = static_cast<int>(resize.row_repeats);
  for (size_t i = 0; i < 4; ++i) params.x_strides[i] = x.strides[i], params.y_strides[i] = y.strides[i];
  params.rows = rows, params.columns = columns;
  launch(context, "resize_kernel", resize_kernel<T, Tile, Index>,
         {.grid = grid_for(num_threads, kThreads), .block = kThreads, .overlaps_previous = true}, params,
         static_cast<const T*>(x.data), static_cast<T*>(y.data));
}

template <class T>
void choose_resize(const Context& context, const Resize& resize, const TensorView& x, const TensorView& y,
                   const ResizeTap* rows, const ResizeTap* columns) {
  constexpr int kVec = kVectorElems<T>;
  const bool is_short = num_elements(y.shape) < (int64_t{1} << 31) - kThreads;
  const bool channels = are_channels_last(y);
  const bool by_vectors =
      channels ? lies_in_vectors(x, 1, kVec) && lies_in_vectors(y, 1, kVec) : lies_in_vectors(y, 3, kVec);
  const auto run = !is_short    ? launch_resize<T, Tile<1, false>, uint64_t>
                   : by_vectors ? (channels ? launch_resize<T, Tile<kVec, true>, uint32_t>
                                            : launch_resize<T, Tile<kVec, false>, uint32_t>)
                                : (channels ? launch_resize<T, Tile<1, true>, uint32_t>
                                            : launch_resize<T, Tile<1, false>, uint32_t>);
  run(context, resize, x, y, rows, columns);
}

}  // namespace

void resize_cuda(const Context& context, const Resize& resize, const TensorView& x, const TensorView& y,
                 const ResizeTap* rows, const ResizeTap* columns) {
  if (num_elements(y.shape) == 0) return;
  auto run = size_of(x.dtype) == 4 ? choose_resize<uint32_t> : choose_resize<uint16_t>;
  if (resize.is_blended) {
    switch (x.dtype) {
      case DType::float32: run = choose_resize<float>; break;
      case DType::float16: run = choose_resize<__half>; break;
      case DType::bfloat16: run = choose_resize<__nv_bfloat16>; break;
    }
  }
  run(context, resize, x, y, rows, columns);
}

}  // namespace solder
