#pragma once

#include <cstdint>
#include <string>

#include "runtime/tensor_view.h"

namespace solder {

class Context;
class ThreadPool;

/// Axes that may be padded, and axes after collapsing: the others of x and y, if those have kMaxDims each.
inline constexpr int kMaxPaddedAxes = 6, kMaxPadDims = 24;

enum class PadFill : uint8_t {
  value,    ///< the given one
  reflect,  ///< the mirror image about the first and the last element
  edge      ///< the first or the last element
};

/// A pad of x into y, axes collapsed as far as strides and counts allow, outermost first. Elements are moved as they
/// lie, bit for bit.
struct Pad {
  struct Axis {
    int64_t from = 1, to = 1;  ///< extents of x and y
    int64_t before = 0;        ///< place j of y shows place j - before of x spread; may be negative
    int64_t step = 1;          ///< neighbours of x lie so far apart in x spread
    int64_t x_stride = 0, y_stride = 0;
  };
  int rank = 1;
  Axis axes[kMaxPadDims];
  PadFill fill = PadFill::value;
  uint32_t value_bits = 0;  ///< of one element
  DType dtype = DType::float32;
  int64_t num_elems = 0;  ///< of y
};

/// `before`, `steps` (1 + the fillers between neighbours): an entry an axis. Of `reflect` and `edge` steps are 1 and
/// the counts such that every element shows one of x. Error(unsupported) naming `node` when more than kMaxPadDims axes
/// remain.
Pad make_pad(const TensorView& x, const TensorView& y, const Shape& before, const Shape& steps, PadFill fill,
             float value, const std::string& node);

void pad_cpu(const Pad& pad, const void* x, void* y, ThreadPool* threads);
/// Enqueues it.
void pad_cuda(const Context& context, const Pad& pad, const void* x, void* y);

}  // namespace solder
