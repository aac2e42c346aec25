#pragma once
// Arguments that several rows read alike, of tensors known and computed.

#include <vector>

#include "graph/onnx/import.h"

namespace solder {

/// Axes from 0 on; Error(io) where they leave the rank.
std::vector<int> as_axes(const std::vector<int64_t>& axes, int rank);
int as_axis(int64_t axis, int rank);
std::vector<int> axes_from(int axis, int rank);  ///< axis, axis + 1, ..., rank - 1

/// One axis of a Slice, as Graph::slice() takes it.
struct OnnxSlice {
  int axis;
  int64_t start, stop, step;
};
std::vector<OnnxSlice> slices_of(OnnxCall& call);

/// Indices from 0 on, and the result's shape.
struct OnnxGather {
  int axis;
  std::vector<int64_t> indices;
  Shape shape;
};
OnnxGather gather_of(OnnxCall& call);

/// Of the parts of a Split of `axis`.
std::vector<int64_t> split_sizes(OnnxCall& call, int axis);

/// The one element of which a ConstantOfShape is made.
OnnxConstant fill_value(OnnxCall& call);

/// Transpose's, reversed where none are given.
std::vector<int> permutation(OnnxCall& call);

/// `given`, or else `count` times the fallback; Error(io) unless there are `count`, from `least` to below 2^31.
std::vector<int64_t> numbers_of(std::vector<int64_t> given, size_t count, int64_t fallback, int64_t least,
                                const char* what);

/// Windows of convolutions and pools over the last one or two axes: kernel_shape, strides, dilations, pads, auto_pad.
struct OnnxWindow {
  Pair kernel = 1, stride = 1, dilation = 1;
  Padding padding = 0;
  bool is_same = false;  ///< auto_pad SAME: the result has ceil(extent / stride)
};
/// Of x [N,C,H,W], or [N,C,W] as an image of one row; the kernel is that of input 1 where that is filters.
OnnxWindow window_of(OnnxCall& call, bool has_filters = false);

}  // namespace solder
