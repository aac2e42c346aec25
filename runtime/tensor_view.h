#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <utility>

#include "runtime/dtype.h"
#include "runtime/shape.h"

namespace solder {

/// A tensor as a kernel sees it: where it lies, and how. Owns nothing.
struct TensorView {
  void* data = nullptr;  ///< of the first element; null while planning, or when the tensor is empty
  DType dtype = DType::float32;
  Shape shape;
  Shape strides;  ///< elements from one index to the next, an axis each; 0 repeats

  bool operator==(const TensorView&) const = default;
};

/// Strides of a dense row-major tensor of `shape`.
inline Shape dense_strides(const Shape& shape) {
  Shape strides(shape.size());
  int64_t stride = 1;
  for (size_t axis = shape.size(); axis-- > 0; stride *= shape[axis]) strides[axis] = stride;
  return strides;
}

inline TensorView dense_view(void* data, DType dtype, Shape shape) {
  Shape strides = dense_strides(shape);
  return {data, dtype, std::move(shape), std::move(strides)};
}

/// Whether the elements lie in row-major order without gaps; strides of axes of extent 1 do not matter.
inline bool is_dense(const TensorView& view) {
  int64_t stride = 1;
  for (size_t axis = view.shape.size(); axis-- > 0; stride *= view.shape[axis])
    if (view.shape[axis] != 1 && view.strides[axis] != stride) return num_elements(view.shape) == 0;
  return true;
}

/// Whether the elements along `axis` lie as whole vectors of `length` neighbours on multiples of their size.
inline bool lies_in_vectors(const TensorView& view, size_t axis, int64_t length) {
  bool does =
      view.strides[axis] == 1 && view.shape[axis] % length == 0 &&
      reinterpret_cast<uintptr_t>(view.data) % static_cast<uintptr_t>(length * size_of(view.dtype)) == 0;
  for (size_t other = 0; other < view.shape.size(); ++other)
    does = does && (other == axis || view.shape[other] == 1 || view.strides[other] % length == 0);
  return does;
}

/// Whether an image [N,C,H,W] has its channels closer together than its columns.
inline bool are_channels_last(const TensorView& view) {
  return view.shape[1] > 1 && std::abs(view.strides[1]) < std::abs(view.strides[3]);
}

/// Whether each part along the first axis is dense; parts may lie any distance apart.
inline bool has_dense_parts(TensorView view) {
  if (!view.shape.empty()) view.shape[0] = 1;
  return is_dense(view);
}

/// [N,C,H,W] with channels innermost and pixels `pitch` >= C elements apart.
inline TensorView pixels_view(DType dtype, const Shape& shape, int64_t pitch) {
  const int64_t row = shape[3] * pitch;
  return {nullptr, dtype, shape, {shape[2] * row, 1, row, pitch}};
}

/// Whether a view of [N,C,H,W] has pixels of neighbouring channels at one distance from each other in all of an image.
inline bool has_channels_innermost(const TensorView& view) {
  if (view.shape.size() != 4) return false;
  const auto is = [&](size_t axis, int64_t stride) {
    return view.shape[axis] == 1 || view.strides[axis] == stride;
  };
  const int64_t pitch = view.strides[3], width = view.shape[3];
  return is(1, 1) && (width == 1 || pitch >= view.shape[1]) && (width == 1 || is(2, width * pitch));
}

/// `view` under another shape of as many elements, without moving any; false where its strides allow none.
inline bool view_as(const TensorView& view, const Shape& shape, TensorView* result) {
  TensorView dense = dense_view(view.data, view.dtype, shape);
  if (!is_dense(view)) {
    // Only axes of extent 1 may come and go.
    size_t from = 0;
    for (size_t to = 0; to < shape.size(); ++to) {
      if (shape[to] == 1) continue;
      while (from < view.shape.size() && view.shape[from] == 1) ++from;
      if (from == view.shape.size() || view.shape[from] != shape[to]) return false;
      dense.strides[to] = view.strides[from++];
    }
  }
  *result = std::move(dense);
  return true;
}

}  // namespace solder
