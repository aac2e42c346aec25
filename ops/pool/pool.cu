// Maximum and mean of windows of an image: x [N,C,H,W] -> y [N,C,P,Q], any strides.
//
// Grid: one thread an element of y, in row-major order, 256 a block. Neighbouring windows share places, which the
// caches keep: each place is read from memory once. Windows of 2x2 and 3x3 without dilation are unrolled, so that all
// their loads are in flight together; others loop over rows, then columns, in the same order.
// Registers on Hopper: up to 34, with 64-bit Index 48 (maximum) and 64 (mean); no shared memory. Bound: memory, x and y
// once; large windows with small strides: loads from the first-level cache, one a tap.
// Preconditions: 32-bit Index needs fewer than 2^31 elements of y and padded extents below 2^31.

#include <limits>
#include <type_traits>

#include "ops/pool/pool.h"
#include "runtime/elements.cuh"
#include "runtime/launch.cuh"

namespace solder {
namespace {

constexpr int kThreads = 256;

// A window as a type: what is taken of it, and its size where it is unrolled (0: any).
template <bool kIsMax_, int kSize_>
struct Window {
  static constexpr bool kIsMax = kIsMax_;
  static constexpr int kSize = kSize_;
};

template <class Index>
struct AxisParams {
  std::make_signed_t<Index> size, stride, dilation, before, after, extent;
};

template <class Index>
struct PoolParams {
  Index num_elems;  // of y
  IndexDivisor<Index> by_q, by_p, by_c;
  AxisParams<Index> h, w;
  int64_t x_strides[4], y_strides[4];
  bool count_padding;
};

// The taps of window `start` whose places are at least 0 and below `end`: [first, last).
template <class Int>
struct Taps {
  Int first, last;
};

template <class Index, class Int = std::make_signed_t<Index>>
__device__ Taps<Int> taps_within(const AxisParams<Index>& axis, Int start, Int end) {
  Int first = start < 0 ? -start : 0, last = start < end ? end - start : 0;
  if (axis.dilation != 1) {
    first = (first + axis.dilation - 1) / axis.dilation;
    last = (last + axis.dilation - 1) / axis.dilation;
  }
  return {min(first, axis.size), min(last, axis.size)};
}

// Places of window `start` that the mean is over.
template <class Index, class Int = std::make_signed_t<Index>>
__device__ Int count_along(const AxisParams<Index>& axis, Int start, bool count_padding) {
  const Taps<Int> taps = taps_within(axis, start, count_padding ? axis.extent + axis.after : axis.extent);
  return max(count_padding ? taps.last : taps.last - taps.first, Int{0});
}

template <bool kIsMax>
__device__ float take(float acc, float value) {
  if (!kIsMax) return acc + value;
  return value > acc || value != value ? value : acc;
}

template <class T, class Window, class Index>
__global__ void __launch_bounds__(kThreads)
    pool2d_kernel(const __grid_constant__ PoolParams<Index> params, const T* x, T* y) {
  using Int = std::make_signed_t<Index>;
  const Index idx = static_cast<Index>(blockIdx.x) * kThreads + threadIdx.x;
  if (idx >= params.num_elems) return;
  Index q, p, c;
  const Index n = params.by_c.divide(params.by_p.divide(params.by_q.divide(idx, &q), &p), &c);
  const auto at = [](Index i, int64_t stride) { return static_cast<int64_t>(i) * stride; };
  x += at(n, params.x_strides[0]) + at(c, params.x_strides[1]);
  y += at(n, params.y_strides[0]) + at(c, params.y_strides[1]) + at(p, params.y_strides[2]) +
       at(q, params.y_strides[3]);

  const Int top = static_cast<Int>(p) * params.h.stride - params.h.before;
  const Int left = static_cast<Int>(q) * params.w.stride - params.w.before;
  const Taps rows = taps_within(params.h, top, params.h.extent);
  const Taps columns = taps_within(params.w, left, params.w.extent);
  constexpr float kStart = Window::kIsMax ? -std::numeric_limits<float>::infinity() : 0.0f;
  float acc = kStart;
  if constexpr (Window::kSize > 0) {
    x += top * params.x_strides[2] + left * params.x_strides[3];
    float values[Window::kSize][Window::kSize];
#pragma unroll
    for (int r = 0; r < Window::kSize; ++r)
#pragma unroll
      for (int s = 0; s < Window::kSize; ++s) {
        const bool is_inside = r >= rows.first && r < rows.last && s >= columns.first && s < columns.last;
        values[r][s] = is_inside ? to_float(x[r * params.x_strides[2] + s * params.x_strides[3]]) : kStart;
      }
#pragma unroll
    for (int r = 0; r < Window::kSize; ++r)
#pragma unroll
      for (int s = 0; s < Window::kSize; ++s) acc = take<Window::kIsMax>(acc, values[r][s]);
  } else {
    const int64_t step = params.w.dilation * params.x_strides[3];
    for (Int r = rows.first; r < rows.last; ++r) {
      const T* row = x + (top + r * params.h.dilation) * params.x_strides[2] +
                     (left + columns.first * params.w.dilation) * params.x_strides[3];
      for (Int s = columns.first; s < columns.last; ++s, row += step)
        acc = take<Window::kIsMax>(acc, to_float(*row));
    }
  }
  if constexpr (!Window::kIsMax)
    acc /= static_cast<float>(int64_t{count_along(params.h, top, params.count_padding)} *
                              count_along(params.w, left, params.count_padding));
  *y = from_float<T>(acc);
}

template <class Index>
AxisParams<Index> axis_params(const PoolAxis& axis, int64_t extent) {
  using Int = std::make_signed_t<Index>;
  return {static_cast<Int>(axis.size),   static_cast<Int>(axis.stride), static_cast<Int>(axis.dilation),
          static_cast<Int>(axis.before), static_cast<Int>(axis.after),  static_cast<Int>(extent)};
}

template <class T, class Window, class Index>
void launch_pool(const Context& context, const Pool2d& pool, const TensorView& x, const TensorView& y) {
  PoolParams<Index> params;
  const int64_t num_elems = num_elements(y.shape);
  params.num_elems = static_cast<Index>(num_elems);
  params.by_q = IndexDivisor<Index>(y.shape[3]);
  params.by_p = IndexDivisor<Index>(y.shape[2]);
  params.by_c = IndexDivisor<Index>(y.shape[1]);
  params.h = axis_params<Index>(pool.h, x.shape[2]);
  params.w = axis_params<Index>(pool.w, x.shape[3]);
  for (size_t i = 0; i < 4; ++i) params.x_strides[i] = x.strides[i], params.y_strides[i] = y.strides[i];
  params.count_padding = pool.count_padding;
  launch(context, "pool2d_kernel", pool2d_kernel<T, Window, Index>, {grid_for(num_elems, kThreads), kThreads},
         params, static_cast<const T*>(x.data), static_cast<T*>(y.data));
}

// Whether windows, padded extents and what is added to them stay below 2^31.
bool fits_32_bits(const PoolAxis& axis, int64_t extent) {
  constexpr int64_t kMost = int64_t{1} << 28;
  return axis.size < kMost && axis.stride < kMost && axis.dilation < kMost && axis.before < kMost &&
         axis.after < kMost && extent < kMost && axis.size * axis.dilation < kMost;
}

template <class T, bool kIsMax>
void choose_window(const Context& context, const Pool2d& pool, const TensorView& x, const TensorView& y) {
  const bool is_short = num_elements(y.shape) < (int64_t{1} << 31) - kThreads &&
                        fits_32_bits(pool.h, x.shape[2]) && fits_32_bits(pool.w, x.shape[3]);
  if (!is_short) return launch_pool<T, Window<kIsMax, 0>, uint64_t>(context, pool, x, y);
  const bool is_plain = pool.h.size == pool.w.size && pool.h.dilation == 1 && pool.w.dilation == 1;
  if (is_plain && pool.h.size == 2) return launch_pool<T, Window<kIsMax, 2>, uint32_t>(context, pool, x, y);
  if (is_plain && pool.h.size == 3) return launch_pool<T, Window<kIsMax, 3>, uint32_t>(context, pool, x, y);
  launch_pool<T, Window<kIsMax, 0>, uint32_t>(context, pool, x, y);
}

template <class T>
void choose_reduction(const Context& context, const Pool2d& pool, const TensorView& x, const TensorView& y) {
  pool.is_max ? choose_window<T, true>(context, pool, x, y) : choose_window<T, false>(context, pool, x, y);
}

}  // namespace

void pool2d_cuda(const Context& context, const Pool2d& pool, const TensorView& x, const TensorView& y) {
  if (num_elements(y.shape) == 0) return;
  switch (x.dtype) {
    case DType::float32: return choose_reduction<float>(context, pool, x, y);
    case DType::float16: return choose_reduction<__half>(context, pool, x, y);
    case DType::bfloat16: return choose_reduction<__nv_bfloat16>(context, pool, x, y);
  }
}

}  // namespace solder
