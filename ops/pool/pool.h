#pragma once

#include <cstdint>

#include "runtime/tensor_view.h"

namespace solder {

class Context;
class ThreadPool;

/// Windows along one axis of an image: window i has the places i * stride - before + j * dilation, j < size. Places
/// outside the image and within `before` and `after` of it are padding.
struct PoolAxis {
  int64_t size = 1, stride = 1, dilation = 1, before = 0, after = 0;

  /// Windows over `extent` places; with `ceil_mode` also one that reaches beyond the padding, if it starts in the
  /// image or before it. Not positive where none fits.
  int64_t num_windows(int64_t extent, bool ceil_mode) const;
};

/// A pool of x [N,C,H,W] -> y [N,C,P,Q], views of one dtype and any strides.
///   maximum: of the places in the image; NaN if one is NaN, -infinity if there is none; of zeros the first
///   mean: the float32 sum of these places, row by row from the left, over their number or, with `count_padding`, that
///     of places in the image and its padding. T places: within (T + 1) 2^-24 sum|x| / number, before it is rounded to
///     the dtype. NaN where the number is 0.
/// CPU and GPU give the same bits, NaN's payload aside.
struct Pool2d {
  bool is_max = true;
  bool count_padding = true;
  PoolAxis h, w;
};

void pool2d_cpu(const Pool2d& pool, const TensorView& x, const TensorView& y, ThreadPool* threads);
/// Enqueues it.
void pool2d_cuda(const Context& context, const Pool2d& pool, const TensorView& x, const TensorView& y);

}  // namespace solder
