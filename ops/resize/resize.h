#pragma once

#include <cstdint>

#include "runtime/tensor_view.h"

namespace solder {

class Context;
class ThreadPool;

/// What a row or a column of the result shows: x[index] * (1 - weight) + x[index + 1] * weight along its axis, with
/// 0 <= weight < 1; where the weight is 0, x[index] alone, whatever its neighbour is.
struct ResizeTap {
  int32_t index = 0;
  float weight = 0;
};

constexpr float blend(float a, float b, float weight) { return a * (1 - weight) + b * weight; }

/// A resize of x [N,C,H,W] -> y [N,C,P,Q], views of one dtype and any strides.
struct Resize {
  bool is_blended = false;  ///< some weight is not 0; otherwise elements are copied bit for bit
  /// Each `row_repeats` neighbouring rows of the result from a multiple of it on are the same, and it divides P.
  int64_t row_repeats = 1;
};

/// `rows` [P], `columns` [Q], on the device. Blended, first along W, then H, in float32: within 2^-21 of the largest
/// |x| of the four, before it is rounded to the dtype; CPU and GPU give the same bits, NaN's payload aside.
void resize_cpu(const Resize& resize, const TensorView& x, const TensorView& y, const ResizeTap* rows,
                const ResizeTap* columns, ThreadPool* threads);
/// Enqueues it.
void resize_cuda(const Context& context, const Resize& resize, const TensorView& x, const TensorView& y,
                 const ResizeTap* rows, const ResizeTap* columns);

}  // namespace solder
