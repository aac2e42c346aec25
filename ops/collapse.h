#pragma once
// Axes of an index space that several tensors are walked over, as few as their strides allow.

#include <cstdint>
#include <vector>

#include "ops/elementwise/params.h"
#include "runtime/shape.h"

namespace solder {

/// An axis with the stride of each tensor.
struct StridedAxis {
  int64_t extent = 1;
  Shape strides;
};

/// Puts `outer` around `axes`, which come innermost first: joined to the last of them when every tensor steps over both
/// with one stride; left out where its extent is 1.
void put_around(std::vector<StridedAxis>* axes, StridedAxis outer);

/// The axes of tensors x and y for a kernel, outermost first, one at least. Error(unsupported) above kMaxDims.
void set_axes(std::vector<StridedAxis> axes, int* count, int64_t (&extents)[kMaxDims], int64_t (&x)[kMaxDims],
              int64_t (&y)[kMaxDims]);

}  // namespace solder
