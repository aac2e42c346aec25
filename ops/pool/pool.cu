// Maximum and mean of windows of an image: x [N,C,H,W] -> y [N,C,P,Q], any strides.
//
// Grid: a thread writes one element of y, 256 a block, in row-major order; where channels are innermost, in the order of
// memory, and whole 16-byte vectors of them where x and y lie so. Neighbouring windows share places, which the caches
// keep: each place is read from memory once. Windows of 2x2 and 3x3 without dilation are unrolled, so that all their
// loads are in flight together; others loop over rows, then columns, in the same order. Larger maxima of vectors that
// step by one row are made kRows below one another by a thread: the maximum along a row, the first of equals, is taken
// once for all windows that the row is in. 16-bit maxima are taken as they are, two at a time.
// Registers on Hopper: up to 64; no shared memory. Bound: memory, x and y once; large windows with small
// strides: issue slots, for k x k maxima of vectors (k (kRows + k - 1) / kRows + k) 2 an element.
// Preconditions: 32-bit Index needs fewer than 2^31 elements of y and padded extents below 2^31; kVec above 1 lines of
// kVec elements in x and y.

#include <bit>
#include <limits>
#include <type_traits>

#include "ops/pool/pool.h"
#include "ops/ptx/follow.cuh"
#include "runtime/elements.cuh"
#include "runtime/launch.cuh"

namespace solder {
namespace {

constexpr int kThreads = 256;

// A window as a type: what is taken of it, its size where it is unrolled (0: any), and what a thread makes: channels,
// and windows below one another.
template <bool kIsMax_, int kSize_, int kVec_ = 1, int kRows_ = 1>
struct Window {
  static constexpr bool kIsMax = kIsMax_;
  static constexpr int kSize = kSize_, kVec = kVec_, kRows = kRows_;
};

template <class Index>
struct AxisParams {
  std::make_signed_t<Index> size, stride, dilation, before, after, extent;
};

template <class Index>
struct PoolParams {
  Index num_threads;
  IndexDivisor<Index> by_q, by_p, by_c;  // columns, groups of kRows rows, vectors of channels
  Index num_rows;                        // of y
  AxisParams<Index> h, w;
  int64_t x_strides[4], y_strides[4];
  bool count_padding, channels_last;
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

// The largest of each of kVec elements so far, the first of equals; NaN once there was one.
template <class T, int kVec>
struct Largest {
  using Vector = Elements<T, kVec>;
  Vector best;

  static __device__ Vector nothing() {
    Vector lowest;
#pragma unroll
    for (T& value : lowest.at) value = from_float<T>(-std::numeric_limits<float>::infinity());
    return lowest;
  }
  __device__ void take(const Vector& values) {
    if constexpr (sizeof(T) == 2 && kVec % 2 == 0) {
      using Pair = std::conditional_t<std::is_same_v<T, __half>, __half2, __nv_bfloat162>;
      using Bits = Elements<uint32_t, kVec / 2>;
      const Bits news = std::bit_cast<Bits>(values);
      Bits bits = std::bit_cast<Bits>(best);
#pragma unroll
      for (int i = 0; i < kVec / 2; ++i) {
        const Pair value = reinterpret_cast<const Pair&>(news.at[i]);
        const uint32_t wins =
            __hgt2_mask(value, reinterpret_cast<const Pair&>(bits.at[i])) | __hneu2_mask(value, value);
        bits.at[i] = (news.at[i] & wins) | (bits.at[i] & ~wins);
      }
      best = std::bit_cast<Vector>(bits);
    } else {
#pragma unroll
      for (int i = 0; i < kVec; ++i) {
        const float value = to_float(values.at[i]);
        if (value > to_float(best.at[i]) || value != value) best.at[i] = values.at[i];
      }
    }
  }
  __device__ Vector result(float) const { return best; }
};

// Their sum, in order.
template <class T, int kVec>
struct Sum {
  using Vector = Elements<T, kVec>;
  Elements<float, kVec> sum;

  static __device__ Vector nothing() { return {}; }
  __device__ void take(const Vector& values) {
#pragma unroll
    for (int i = 0; i < kVec; ++i) sum.at[i] += to_float(values.at[i]);
  }
  __device__ Vector result(float count) const {
    Vector mean;
#pragma unroll
    for (int i = 0; i < kVec; ++i) mean.at[i] = from_float<T>(sum.at[i] / count);
    return mean;
  }
};

template <class T, class Window>
using Taken = std::conditional_t<Window::kIsMax, Largest<T, Window::kVec>, Sum<T, Window::kVec>>;

// The kSize x kSize window at x, of which `rows` and `columns` are in the image.
template <class T, class Window, class Index, class Int>
__device__ void take_unrolled(const PoolParams<Index>& params, const T* x, Taps<Int> rows, Taps<Int> columns,
                              Taken<T, Window>* taken) {
  using Vector = Elements<T, Window::kVec>;
  Vector values[Window::kSize][Window::kSize];
#pragma unroll
  for (int r = 0; r < Window::kSize; ++r)
#pragma unroll
    for (int s = 0; s < Window::kSize; ++s) {
      const bool is_inside = r >= rows.first && r < rows.last && s >= columns.first && s < columns.last;
      const T* from = x + r * params.x_strides[2] + s * params.x_strides[3];
      values[r][s] = is_inside ? *reinterpret_cast<const Vector*>(from) : Taken<T, Window>::nothing();
    }
#pragma unroll
  for (int r = 0; r < Window::kSize; ++r)
#pragma unroll
    for (int s = 0; s < Window::kSize; ++s) taken->take(values[r][s]);
}

// kRows windows from `top` on, one row further down each where there are several.
template <class T, class Window, class Index, class Int>
__device__ void take_rows(const PoolParams<Index>& params, const T* x, Int top, Taps<Int> columns,
                          Taken<T, Window> (&taken)[Window::kRows]) {
  using Vector = Elements<T, Window::kVec>;
  AxisParams<Index> together = params.h;
  together.size += Window::kRows - 1;
  const Taps<Int> rows = taps_within(together, top, params.h.extent);
  const int64_t step = params.w.dilation * params.x_strides[3];
  for (Int r = rows.first; r < rows.last; ++r) {
    const T* from = x + (top + r * params.h.dilation) * params.x_strides[2] + columns.first * step;
    if constexpr (Window::kIsMax) {
      Taken<T, Window> row{Taken<T, Window>::nothing()};
      for (Int s = columns.first; s < columns.last; ++s, from += step)
        row.take(*reinterpret_cast<const Vector*>(from));
#pragma unroll
      for (int i = 0; i < Window::kRows; ++i)
        if (r >= i && r < i + params.h.size) taken[i].take(row.best);
    } else {
      for (Int s = columns.first; s < columns.last; ++s, from += step)
        taken[0].take(*reinterpret_cast<const Vector*>(from));
    }
  }
}

template <class T, class Window, class Index>
__global__ void __launch_bounds__(kThreads)
    pool2d_kernel(const __grid_constant__ PoolParams<Index> params, const T* x, T* y) {
  using Int = std::make_signed_t<Index>;
  follow_previous();
  Index idx = static_cast<Index>(blockIdx.x) * kThreads + threadIdx.x;
  if (idx >= params.num_threads) return;
  Index q, p, c;
  if (params.channels_last) idx = params.by_c.divide(idx, &c);
  idx = params.by_p.divide(params.by_q.divide(idx, &q), &p);
  if (!params.channels_last) idx = params.by_c.divide(idx, &c);
  p *= Window::kRows, c *= Window::kVec;
  const auto at = [](Index i, int64_t stride) { return static_cast<int64_t>(i) * stride; };
  x += at(idx, params.x_strides[0]) + at(c, params.x_strides[1]);
  y += at(idx, params.y_strides[0]) + at(c, params.y_strides[1]) + at(p, params.y_strides[2]) +
       at(q, params.y_strides[3]);

  const Int top = static_cast<Int>(p) * params.h.stride - params.h.before;
  const Int left = static_cast<Int>(q) * params.w.stride - params.w.before;
  const Taps<Int> columns = taps_within(params.w, left, params.w.extent);
  x += left * params.x_strides[3];
  Taken<T, Window> taken[Window::kRows];
#pragma unroll
  for (auto& one : taken) one = {};
  if constexpr (Window::kIsMax)
#pragma unroll
    for (auto& one : taken) one.best = one.nothing();
  if constexpr (Window::kSize > 0)
    take_unrolled<T, Window>(params, x + top * params.x_strides[2],
                             taps_within(params.h, top, params.h.extent), columns, taken);
  else
    take_rows<T, Window>(params, x, top, columns, taken);
  float count = 1;
  if constexpr (!Window::kIsMax)
    count = static_cast<float>(int64_t{count_along(params.h, top, params.count_padding)} *
                               count_along(params.w, left, params.count_padding));
#pragma unroll
  for (int i = 0; i < Window::kRows; ++i, y += params.y_strides[2])
    if (i == 0 || p + i < params.num_rows)
      *reinterpret_cast<Elements<T, Window::kVec>*>(y) = taken[i].result(count);
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
  const int64_t vectors = y.shape[1] / Window::kVec, groups = ceil_div(y.shape[2], Window::kRows);
  const int64_t num_threads = y.shape[0] * vectors * groups * y.shape[3];
  params.num_threads = static_cast<Index>(num_threads);
  params.by_q = IndexDivisor<Index>(y.shape[3]);
  params.by_p = IndexDivisor<Index>(groups);
  params.by_c = IndexDivisor<Index>(vectors);
  params.num_rows = static_cast<Index>(y.shape[2]);
  params.h = axis_params<Index>(pool.h, x.shape[2]);
  params.w = axis_params<Index>(pool.w, x.shape[3]);
  for (size_t i = 0; i < 4; ++i) params.x_strides[i] = x.strides[i], params.y_strides[i] = y.strides[i];
  params.count_padding = pool.count_padding;
  params.channels_last = are_channels_last(y);
  launch(context, "pool2d_kernel", pool2d_kernel<T, Window, Index>,
         {.grid = grid_for(num_threads, kThreads), .block = kThreads, .overlaps_previous = true}, params,
         static_cast<const T*>(x.data), static_cast<T*>(y.data));
}

// Whether windows, padded extents and what is added to them stay below 2^31.
bool fits_32_bits(const PoolAxis& axis, int64_t extent) {
  constexpr int64_t kMost = int64_t{1} << 28;
  return axis.size < kMost && axis.stride < kMost && axis.dilation < kMost && axis.before < kMost &&
         axis.after < kMost && extent < kMost && axis.size * axis.dilation < kMost;
}

template <class T, bool kIsMax, int kVec>
void choose_size(const Context& context, const Pool2d& pool, const TensorView& x, const TensorView& y) {
  const bool is_plain = pool.h.size == pool.w.size && pool.h.dilation == 1 && pool.w.dilation == 1;
  if (is_plain && pool.h.size == 2)
    return launch_pool<T, Window<kIsMax, 2, kVec>, uint32_t>(context, pool, x, y);
  if (is_plain && pool.h.size == 3)
    return launch_pool<T, Window<kIsMax, 3, kVec>, uint32_t>(context, pool, x, y);
  constexpr int kRows = kIsMax && kVec > 1 ? 4 : 1;
  if (pool.h.stride == 1 && pool.h.dilation == 1 && pool.h.size > kRows)
    return launch_pool<T, Window<kIsMax, 0, kVec, kRows>, uint32_t>(context, pool, x, y);
  launch_pool<T, Window<kIsMax, 0, kVec>, uint32_t>(context, pool, x, y);
}

template <class T, bool kIsMax>
void choose_window(const Context& context, const Pool2d& pool, const TensorView& x, const TensorView& y) {
  constexpr int kVec = kVectorElems<T>;
  const bool is_short = num_elements(y.shape) < (int64_t{1} << 31) - kThreads &&
                        fits_32_bits(pool.h, x.shape[2]) && fits_32_bits(pool.w, x.shape[3]);
  if (!is_short) return launch_pool<T, Window<kIsMax, 0>, uint64_t>(context, pool, x, y);
  const bool by_vectors = lies_in_vectors(x, 1, kVec) && lies_in_vectors(y, 1, kVec);
  by_vectors ? choose_size<T, kIsMax, kVec>(context, pool, x, y)
             : choose_size<T, kIsMax, 1>(context, pool, x, y);
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
