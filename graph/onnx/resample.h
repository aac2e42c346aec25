#pragma once
// Resizes that solder's own has no node for: cubic, antialiased, cropped, of more than two axes.

#include "graph/onnx/import.h"

namespace solder {

/// What an axis becomes.
struct OnnxTarget {
  int64_t size = 0;
  double scale = 0;           ///< by which coordinates are worked out; 0: that of the extents
  double begin = 0, end = 1;  ///< of tf_crop_and_resize
};

/// How, as the attributes say.
struct OnnxResizing {
  ResizeOptions options;
  bool is_cubic = false;    ///< and mode bilinear
  bool is_cropped = false;  ///< tf_crop_and_resize, whatever the coordinates
  bool antialias = false, excludes_outside = false;
  double cubic_a = -0.75, extrapolation = 0;
};

/// x with `axis` resized: times a matrix [extent, size], each column the shares of x's elements in one of the result's.
Value resample(OnnxCall& call, Value x, int axis, const OnnxTarget& target, const OnnxResizing& rules);

}  // namespace solder
