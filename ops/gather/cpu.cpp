#include <algorithm>
#include <cstring>

#include "ops/collapse.h"
#include "ops/gather/gather.h"
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
  const auto gathered = static_cast<size_t>(axis);
  std::vector<StridedAxis> axes, outer;  // innermost first; the gathered axis joins no other
  for (size_t d = y.shape.size(); d-- > 0;) {
    const StridedAxis next{y.shape[d], {x.strides[d], y.strides[d]}};
    if (d == gathered)
      axes.push_back(next);
    else
      put_around(d > gathered ? &axes : &outer, next);
  }
  gather.gathered = static_cast<int>(outer.size());
  axes.insert(axes.end(), outer.begin(), outer.end());
  set_axes(std::move(axes), &gather.rank, gather.extents, gather.x_strides, gather.y_strides);
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
  parallel_parts(pool, gather.num_elems, kShare, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      int64_t coord[kMaxDims] = {}, rest = begin;
      for (int d = gather.rank; d-- > 0; rest /= gather.extents[d]) coord[d] = rest % gather.extents[d];
      const int last = gather.rank - 1;
      const int64_t count = std::min(end - begin, gather.extents[last] - coord[last]);
      copy_run(gather, x, y, indices, coord, count);
      begin += count;
    }
  });
}

}  // namespace solder
