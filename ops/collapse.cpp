#include "ops/collapse.h"

#include "runtime/check.h"

namespace solder {

void put_around(std::vector<StridedAxis>* axes, StridedAxis outer) {
  if (outer.extent == 1) return;
  bool joins = !axes->empty();
  for (size_t i = 0; joins && i < outer.strides.size(); ++i)
    joins = outer.strides[i] == axes->back().strides[i] * axes->back().extent;
  if (joins)
    axes->back().extent *= outer.extent;
  else
    axes->push_back(std::move(outer));
}

void set_axes(std::vector<StridedAxis> axes, int* count, int64_t (&extents)[kMaxDims], int64_t (&x)[kMaxDims],
              int64_t (&y)[kMaxDims]) {
  if (axes.empty()) axes.push_back({1, {0, 0}});
  SOLDER_REQUIRE(axes.size() <= kMaxDims, unsupported, axes.size(), " axes remain after collapsing; at most ",
                 kMaxDims, " are supported");
  *count = static_cast<int>(axes.size());
  for (size_t i = 0; i < axes.size(); ++i) {
    const StridedAxis& axis = axes[axes.size() - 1 - i];
    extents[i] = axis.extent, x[i] = axis.strides[0], y[i] = axis.strides[1];
  }
}

}  // namespace solder
