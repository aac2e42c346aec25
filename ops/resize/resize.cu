// Images at another size: x [N,C,H,W] -> y [N,C,P,Q], any strides. What each row and column of y shows is in two
// tables, so that the kernels know nothing of coordinates and rounding.
//
// Grid: a thread writes kVec neighbours of a row of y, where rows allow it one 16-byte store, 256 threads a block;
// threads in row-major order of y. Of rows that are the same a thread writes all, from one set of loads: a 2x nearest
// upscaling reads x once and stores 2 * 16 bytes a thread. Loads are of single elements: those of neighbours share
// sectors, which the first-level cache serves.
// No shared memory. Bound: memory, x and y once.
// Preconditions: 32-bit Index needs fewer than 2^31 elements of y.

#include <type_traits>

#include "ops/resize/resize.h"
#include "runtime/elements.cuh"
#include "runtime/launch.cuh"

namespace solder {
namespace {

constexpr int kThreads = 256;

template <class Index>
struct ResizeParams {
  Index num_threads;
  IndexDivisor<Index> by_vectors, by_groups,
      by_channels;  // vectors a row, groups of equal rows an image, channels
  int row_repeats;
  int64_t x_strides[4], y_strides[4];
  const ResizeTap *rows, *columns;  // [P], [Q]
};

__device__ float blend(float a, float b, float weight) { return a * (1 - weight) + b * weight; }

// Of a row of x, what `column` shows.
template <class T>
__device__ float blended_at(const T* row, int64_t stride, ResizeTap column) {
  const T* from = row + column.index * stride;
  const float value = to_float(*from);
  return column.weight == 0 ? value : blend(value, to_float(from[stride]), column.weight);
}

// T: the stored type where values are blended; an unsigned integer of its size where they are copied.
template <class T, int kVec, class Index>
__global__ void __launch_bounds__(kThreads)
    resize_kernel(const __grid_constant__ ResizeParams<Index> params, const T* x, T* y) {
  const Index thread = static_cast<Index>(blockIdx.x) * kThreads + threadIdx.x;
  if (thread >= params.num_threads) return;
  Index vector, group, c;
  const Index n = params.by_channels.divide(
      params.by_groups.divide(params.by_vectors.divide(thread, &vector), &group), &c);
  const int64_t q = static_cast<int64_t>(vector) * kVec, p = static_cast<int64_t>(group) * params.row_repeats;
  const ResizeTap row = params.rows[p];
  x += static_cast<int64_t>(n) * params.x_strides[0] + static_cast<int64_t>(c) * params.x_strides[1] +
       row.index * params.x_strides[2];
  y += static_cast<int64_t>(n) * params.y_strides[0] + static_cast<int64_t>(c) * params.y_strides[1] +
       p * params.y_strides[2] + q * params.y_strides[3];

  Elements<T, kVec> values;
#pragma unroll
  for (int i = 0; i < kVec; ++i) {
    const ResizeTap column = params.columns[q + i];
    if constexpr (std::is_integral_v<T>) {
      values.at[i] = x[column.index * params.x_strides[3]];
    } else {
      float value = blended_at(x, params.x_strides[3], column);
      if (row.weight != 0)
        value = blend(value, blended_at(x + params.x_strides[2], params.x_strides[3], column), row.weight);
      values.at[i] = from_float<T>(value);
    }
  }
  for (int repeat = 0; repeat < params.row_repeats; ++repeat, y += params.y_strides[2])
    *reinterpret_cast<Elements<T, kVec>*>(y) = values;
}

template <class T, int kVec, class Index>
void launch_resize(const Context& context, const Resize& resize, const TensorView& x, const TensorView& y,
                   const ResizeTap* rows, const ResizeTap* columns) {
  ResizeParams<Index> params;
  const int64_t num_threads = num_elements(y.shape) / kVec / resize.row_repeats;
  params.num_threads = static_cast<Index>(num_threads);
  params.by_vectors = IndexDivisor<Index>(y.shape[3] / kVec);
  params.by_groups = IndexDivisor<Index>(y.shape[2] / resize.row_repeats);
  params.by_channels = IndexDivisor<Index>(y.shape[1]);
  params.row_repeats = static_cast<int>(resize.row_repeats);
  for (size_t i = 0; i < 4; ++i) params.x_strides[i] = x.strides[i], params.y_strides[i] = y.strides[i];
  params.rows = rows, params.columns = columns;
  launch(context, "resize_kernel", resize_kernel<T, kVec, Index>, {grid_for(num_threads, kThreads), kThreads},
         params, static_cast<const T*>(x.data), static_cast<T*>(y.data));
}

template <class T>
void choose_resize(const Context& context, const Resize& resize, const TensorView& x, const TensorView& y,
                   const ResizeTap* rows, const ResizeTap* columns) {
  constexpr int kVec = kVectorElems<T>;
  const bool is_short = num_elements(y.shape) < (int64_t{1} << 31) - kThreads;
  bool is_aligned =
      y.strides[3] == 1 && y.shape[3] % kVec == 0 && reinterpret_cast<uintptr_t>(y.data) % 16 == 0;
  for (size_t i = 0; i < 3; ++i) is_aligned = is_aligned && (y.shape[i] == 1 || y.strides[i] % kVec == 0);
  const auto run = !is_short    ? launch_resize<T, 1, uint64_t>
                   : is_aligned ? launch_resize<T, kVec, uint32_t>
                                : launch_resize<T, 1, uint32_t>;
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
