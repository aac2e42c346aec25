#include <algorithm>
#include <cstring>

#include "ops/gather/gather.h"
#include "runtime/check.h"
#include "runtime/divide.h"
#include "runtime/parallel.h"

namespace solder {
namespace {

// Neighbours that can be moved as one element: as many as make 16 bytes at most.
int64_t neighbours(const Gather& gather, const void* x, const void* y) {
  const int last = gather.rank - 1;
  if (last == gather.gathered || gather.x_strides[last] != 1 || gather.y_strides[last] != 1) return 1;
  for (int64_t count = 16 / gather.elem_bytes; count > 1; count /= 2) {
    const auto line = static_cast<uintptr_t>(count * gather.elem_bytes);
    bool fits = gather.extents[last] % count == 0 && reinterpret_cast<uintptr_t>(x) % line == 0 &&
                reinterpret_cast<uintptr_t>(y) % line == 0;
    for (int d = 0; d < last; ++d)
      fits = fits && gather.x_strides[d] % count == 0 && gather.y_strides[d] % count == 0;
    if (fits) return count;
  }
  return 1;
}

// Elements [begin, begin + count) along the innermost axis of a place given by `coord`.
void copy_run(const Gather& g, const void* x, void* y, const int64_t* indices,
              const int64_t (&coord)[kMaxDims], int64_t count) {
  const int last = g.rank - 1;
  int64_t from = 0, to = 0;
  for (int d = 0; d < g.rank; ++d) {
    to += coord[d] * g.y_strides[d];
    if (d < last || d != g.gathered)
      from += (d == g.gathered ? indices[coord[d]] : coord[d]) * g.x_strides[d];
  }
  const auto* source = static_cast<const char*>(x);
  auto* target = static_cast<char*>(y) + to * g.elem_bytes;
  if (last != g.gathered && g.x_strides[last] == 1 && g.y_strides[last] == 1) {
    std::memcpy(target, source + from * g.elem_bytes, static_cast<size_t>(count * g.elem_bytes));
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    const int64_t step = last == g.gathered ? indices[coord[last] + i] : i;
    std::memcpy(target + i * g.y_strides[last] * g.elem_bytes,
                source + (from + step * g.x_strides[last]) * g.elem_bytes, static_cast<size_t>(g.elem_bytes));
  }
}

}  // namespace

Gather gather_of(const TensorView& x, const TensorView& y, int axis) {
  Gather gather{.elem_bytes = size_of(x.dtype)};
  // Innermost first; the gathered axis joins no other.
  struct Axis {
    int64_t extent, x_stride, y_stride;
    bool joins;
  };
  std::vector<Axis> axes;
  for (size_t d = y.shape.size(); d-- > 0;) {
    const bool is_gathered = d == static_cast<size_t>(axis);
    const Axis next{y.shape[d], x.strides[d], y.strides[d], !is_gathered};
    if (next.extent == 1 && !is_gathered) continue;
    Axis* const last = axes.empty() ? nullptr : &axes.back();
    if (last != nullptr && last->joins && next.joins && next.x_stride == last->x_stride * last->extent &&
        next.y_stride == last->y_stride * last->extent) {
      last->extent *= next.extent;
      continue;
    }
    axes.push_back(next);
  }
  SOLDER_REQUIRE(axes.size() <= kMaxDims, unsupported, axes.size(), " axes remain after collapsing; at most ",
                 kMaxDims, " are supported");
  gather.rank = static_cast<int>(axes.size());
  for (int d = 0; d < gather.rank; ++d) {
    const Axis& from = axes[axes.size() - 1 - static_cast<size_t>(d)];
    if (!from.joins) gather.gathered = d;
    gather.extents[d] = from.extent, gather.x_strides[d] = from.x_stride, gather.y_strides[d] = from.y_stride;
  }
  const int64_t wide = neighbours(gather, x.data, y.data);
  gather.elem_bytes *= wide;
  gather.extents[gather.rank - 1] /= wide;
  for (int d = 0; d + 1 < gather.rank; ++d) gather.x_strides[d] /= wide, gather.y_strides[d] /= wide;
  gather.num_elems = num_elements(y.shape) / wide;
  return gather;
}

void gather_cpu(const Gather& gather, const void* x, void* y, const int64_t* indices, ThreadPool* pool) {
  if (gather.num_elems == 0) return;
  constexpr int64_t kShare = 16384;  // elements worth waking a thread
  parallel_for(gather.num_elems > kShare ? pool : nullptr, ceil_div(gather.num_elems, kShare),
               [&](int64_t share) {
                 const int64_t end = std::min(gather.num_elems, (share + 1) * kShare);
                 for (int64_t begin = share * kShare; begin < end;) {
                   int64_t coord[kMaxDims] = {}, rest = begin;
                   for (int d = gather.rank; d-- > 0; rest /= gather.extents[d])
                     coord[d] = rest % gather.extents[d];
                   const int last = gather.rank - 1;
                   const int64_t count = std::min(end - begin, gather.extents[last] - coord[last]);
                   copy_run(gather, x, y, indices, coord, count);
                   begin += count;
                 }
               });
}

}  // namespace solder
