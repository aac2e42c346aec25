// y = x with values before, after and between its elements, or without its outermost ones; any strides, up to
// kMaxPadDims axes.
//
// Grid: a thread writes kVec neighbours of y in row-major order, 256 threads a block; where y is dense and aligned
// these are 16 bytes and one store. A thread finds its row once, by multiplications for divisions, and steps to the
// next row where its neighbours reach into it; loads are of single elements (a row of x begins anywhere), which the
// first-level cache serves.
// No shared memory. Bound: memory, x and y once.
// Preconditions: 32-bit Index needs fewer than 2^31 elements of y and places below 2^30.

#include <type_traits>

#include "ops/pad/pad.h"
#include "runtime/elements.cuh"
#include "runtime/launch.cuh"

namespace solder {
namespace {

constexpr int kThreads = 256;

template <class Index>
struct AxisParams {
  std::make_signed_t<Index> from, before;
  IndexDivisor<Index> by_to, by_step;
  int64_t x_stride, y_stride;
};

template <class Index>
struct PadParams {
  AxisParams<Index> axes[kMaxPadDims];
  int rank;
  PadFill fill;
  uint32_t value_bits;
  Index num_elems;  // of y
};

// Place `to` of an axis of y in x; -1: there is none.
template <class Index, class Int = std::make_signed_t<Index>>
__device__ Int source(const AxisParams<Index>& axis, PadFill fill, Index to) {
  Int j = static_cast<Int>(to) - axis.before;
  if (fill == PadFill::edge) return min(max(j, Int{0}), axis.from - 1);
  if (fill == PadFill::reflect) {
    j = j < 0 ? -j : j;
    return j < axis.from ? j : 2 * (axis.from - 1) - j;
  }
  if (axis.by_step.divisor != 1 && j >= 0) {
    Index rest;
    j = static_cast<Int>(axis.by_step.divide(static_cast<Index>(j), &rest));
    if (rest != 0) return -1;
  }
  return j < axis.from ? j : -1;  // negative ones are none
}

// Where a row of y and what it shows of x begin.
struct Row {
  int64_t x_offset, y_offset;
  bool is_inside;
};

template <class Index>
__device__ Row locate(const PadParams<Index>& params, Index row) {
  Row place{0, 0, true};
  for (int d = params.rank - 1; d-- > 0;) {
    const AxisParams<Index>& axis = params.axes[d];
    Index to;
    row = axis.by_to.divide(row, &to);
    const auto from = source(axis, params.fill, to);
    place.is_inside = place.is_inside && from >= 0;
    place.x_offset += from * axis.x_stride;
    place.y_offset += static_cast<int64_t>(to) * axis.y_stride;
  }
  return place;
}

template <class Bits, int kVec, class Index>
__global__ void __launch_bounds__(kThreads)
    pad_kernel(const __grid_constant__ PadParams<Index> params, const Bits* x, Bits* y) {
  const Index first = (static_cast<Index>(blockIdx.x) * kThreads + threadIdx.x) * kVec;
  if (first >= params.num_elems) return;
  const AxisParams<Index>& inner = params.axes[params.rank - 1];
  Index column;
  Index row = inner.by_to.divide(first, &column);
  Row place = locate(params, row);
  Elements<Bits, kVec> values;
#pragma unroll
  for (int i = 0; i < kVec; ++i) {
    if (i > 0 && ++column == inner.by_to.divisor) {
      column = 0;
      place = locate(params, ++row);
    }
    const auto from = source(inner, params.fill, column);
    values.at[i] = static_cast<Bits>(params.value_bits);
    if (place.is_inside && from >= 0 && (kVec == 1 || first + i < params.num_elems))
      values.at[i] = x[place.x_offset + from * inner.x_stride];
  }
  if constexpr (kVec == 1) {
    y[place.y_offset + static_cast<int64_t>(column) * inner.y_stride] = values.at[0];
  } else if (first + kVec <= params.num_elems) {
    *reinterpret_cast<Elements<Bits, kVec>*>(y + first) = values;
  } else {
#pragma unroll
    for (int i = 0; i < kVec; ++i)
      if (first + i < params.num_elems) y[first + i] = values.at[i];
  }
}

template <class Bits, int kVec, class Index>
void launch_pad(const Context& context, const Pad& pad, const void* x, void* y) {
  using Int = std::make_signed_t<Index>;
  PadParams<Index> params;
  params.rank = pad.rank, params.fill = pad.fill, params.value_bits = pad.value_bits;
  params.num_elems = static_cast<Index>(pad.num_elems);
  for (int d = 0; d < pad.rank; ++d) {
    const Pad::Axis& axis = pad.axes[d];
    params.axes[d] = {static_cast<Int>(axis.from),
                      static_cast<Int>(axis.before),
                      IndexDivisor<Index>(axis.to),
                      IndexDivisor<Index>(axis.step),
                      axis.x_stride,
                      axis.y_stride};
  }
  launch(context, "pad_kernel", pad_kernel<Bits, kVec, Index>,
         {grid_for(pad.num_elems, kThreads * kVec), kThreads}, params, static_cast<const Bits*>(x),
         static_cast<Bits*>(y));
}

template <class Bits>
void choose_pad(const Context& context, const Pad& pad, const void* x, void* y) {
  constexpr int kVec = kVectorElems<Bits>;
  bool is_short = pad.num_elems < (int64_t{1} << 31) - kThreads * kVec;
  bool is_dense = reinterpret_cast<uintptr_t>(y) % 16 == 0;
  int64_t stride = 1;
  for (int d = pad.rank; d-- > 0;) {
    const Pad::Axis& axis = pad.axes[d];
    constexpr int64_t kMost = int64_t{1} << 30;
    is_short = is_short && axis.from < kMost && axis.to < kMost && axis.before < kMost &&
               axis.before > -kMost && axis.step < kMost;
    is_dense = is_dense && axis.y_stride == stride;
    stride *= axis.to;
  }
  if (!is_short) return launch_pad<Bits, 1, uint64_t>(context, pad, x, y);
  if (!is_dense) return launch_pad<Bits, 1, uint32_t>(context, pad, x, y);
  launch_pad<Bits, kVec, uint32_t>(context, pad, x, y);
}

}  // namespace

void pad_cuda(const Context& context, const Pad& pad, const void* x, void* y) {
  if (pad.num_elems == 0) return;
  pad.dtype == DType::float32 ? choose_pad<uint32_t>(context, pad, x, y)
                              : choose_pad<uint16_t>(context, pad, x, y);
}

}  // namespace solder
