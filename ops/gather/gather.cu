// Elements of x at constant indices along an axis, copied into y.
//
// Grid: one thread an element of y, in row-major order, 256 a block; an element is up to 16 bytes wide (see Gather), so
// that whole rows move by vectors. The indices are read through the caches.
// Registers under 40, no shared memory. Bound: memory, y once and of x what is read; single elements of 2 bytes: issue
// slots, about 30 an element.
// Preconditions: 32-bit Index needs fewer than 2^31 elements.

#include <limits>

#include "ops/gather/gather.h"
#include "runtime/elements.cuh"
#include "runtime/launch.cuh"

namespace solder {
namespace {

constexpr int kThreads = 256;

template <class Index>
struct GatherParams {
  int rank, gathered;
  Index num_elems;
  IndexDivisor<Index> by_extent[kMaxDims];
  int64_t x_strides[kMaxDims], y_strides[kMaxDims];
};

template <class Element, class Index>
__global__ void __launch_bounds__(kThreads)
    gather_kernel(const __grid_constant__ GatherParams<Index> params, const Element* x, Element* y,
                  const int64_t* indices) {
  Index rest = static_cast<Index>(blockIdx.x) * kThreads + threadIdx.x;
  if (rest >= params.num_elems) return;
  int64_t from = 0, to = 0;
  for (int d = params.rank - 1; d >= 0; --d) {
    Index coord = rest;
    if (d > 0) rest = params.by_extent[d].divide(rest, &coord);
    const int64_t place = static_cast<int64_t>(coord);
    to += place * params.y_strides[d];
    from += (d == params.gathered ? __ldg(indices + place) : place) * params.x_strides[d];
  }
  y[to] = x[from];
}

template <class Element, class Index>
void launch_gather(const Context& context, const Gather& gather, const void* x, void* y,
                   const int64_t* indices) {
  GatherParams<Index> params{gather.rank, gather.gathered, static_cast<Index>(gather.num_elems), {}, {}, {}};
  for (int d = 0; d < gather.rank; ++d) {
    params.by_extent[d] = IndexDivisor<Index>(gather.extents[d]);
    params.x_strides[d] = gather.x_strides[d], params.y_strides[d] = gather.y_strides[d];
  }
  launch(context, "gather_kernel", gather_kernel<Element, Index>,
         {grid_for(gather.num_elems, kThreads), kThreads}, params, static_cast<const Element*>(x),
         static_cast<Element*>(y), indices);
}

template <class Element>
void choose_index(const Context& context, const Gather& gather, const void* x, void* y,
                  const int64_t* indices) {
  const bool is_short = gather.num_elems <= std::numeric_limits<int32_t>::max() - kThreads;
  is_short ? launch_gather<Element, uint32_t>(context, gather, x, y, indices)
           : launch_gather<Element, uint64_t>(context, gather, x, y, indices);
}

}  // namespace

void gather_cuda(const Context& context, const Gather& gather, const void* x, void* y,
                 const int64_t* indices) {
  if (gather.num_elems == 0) return;
  switch (gather.elem_bytes) {
    case 2: return choose_index<uint16_t>(context, gather, x, y, indices);
    case 4: return choose_index<uint32_t>(context, gather, x, y, indices);
    case 8: return choose_index<uint2>(context, gather, x, y, indices);
    default: return choose_index<uint4>(context, gather, x, y, indices);
  }
}

}  // namespace solder
