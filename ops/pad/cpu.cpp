#include <algorithm>
#include <bit>

#include "ops/pad/pad.h"
#include "runtime/check.h"
#include "runtime/divide.h"
#include "runtime/parallel.h"

namespace solder {
namespace {

// Whether the axis is taken as it is.
bool is_whole(const Pad::Axis& axis) { return axis.from == axis.to && axis.before == 0 && axis.step == 1; }

// Place `j` of an axis of y in x; -1: there is none.
int64_t source(const Pad::Axis& axis, PadFill fill, int64_t j) {
  j -= axis.before;
  if (fill == PadFill::edge) return std::clamp<int64_t>(j, 0, axis.from - 1);
  if (fill == PadFill::reflect) {
    j = j < 0 ? -j : j;
    return j < axis.from ? j : 2 * (axis.from - 1) - j;
  }
  if (j < 0 || j % axis.step != 0) return -1;
  j /= axis.step;
  return j < axis.from ? j : -1;
}

// One innermost row of y, of elements of type Bits. `x` is null where the row is filled.
template <class Bits>
void pad_row(const Pad& pad, const Bits* x, Bits* y) {
  const Pad::Axis& axis = pad.axes[pad.rank - 1];
  const Bits value = static_cast<Bits>(pad.value_bits);
  const auto pad_places = [&](int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; ++j) {
      const int64_t from = x != nullptr ? source(axis, pad.fill, j) : -1;
      y[j * axis.y_stride] = from >= 0 ? x[from * axis.x_stride] : value;
    }
  };
  if (x == nullptr || axis.step != 1) return pad_places(0, axis.to);
  // What lies in x is a copy.
  const int64_t begin = std::clamp<int64_t>(axis.before, 0, axis.to);
  const int64_t end = std::clamp<int64_t>(axis.before + axis.from, begin, axis.to);
  pad_places(0, begin);
  if (axis.x_stride == 1 && axis.y_stride == 1 && begin < end)
    std::copy_n(x + (begin - axis.before), end - begin, y + begin);
  else
    for (int64_t j = begin; j < end; ++j) y[j * axis.y_stride] = x[(j - axis.before) * axis.x_stride];
  pad_places(end, axis.to);
}

template <class Bits>
void pad_rows(const Pad& pad, const Bits* x, Bits* y, int64_t first, int64_t last) {
  for (int64_t row = first; row < last; ++row) {
    int64_t from = 0, to = 0, rest = row;
    bool is_inside = x != nullptr;  // of an empty tensor
    for (int d = pad.rank - 1; d-- > 0;) {
      const Pad::Axis& axis = pad.axes[d];
      const int64_t j = rest % axis.to, place = source(axis, pad.fill, j);
      rest /= axis.to;
      is_inside = is_inside && place >= 0;
      from += place * axis.x_stride, to += j * axis.y_stride;
    }
    pad_row(pad, is_inside ? x + from : nullptr, y + to);
  }
}

}  // namespace

Pad make_pad(const TensorView& x, const TensorView& y, const Shape& before, const Shape& steps, PadFill fill,
             float value, const std::string& node) {
  Pad pad{.fill = fill, .dtype = x.dtype, .num_elems = num_elements(y.shape)};
  pad.value_bits = x.dtype == DType::float32   ? std::bit_cast<uint32_t>(value)
                   : x.dtype == DType::float16 ? float16_from_float(value)
                                               : bfloat16_from_float(value);
  int rank = 0;
  for (size_t i = 0; i < x.shape.size(); ++i) {
    const Pad::Axis axis{x.shape[i], y.shape[i], before[i], steps[i], x.strides[i], y.strides[i]};
    if (axis.to == 1 && is_whole(axis)) continue;
    Pad::Axis* outer = rank > 0 ? &pad.axes[rank - 1] : nullptr;
    if (outer != nullptr && is_whole(*outer) && is_whole(axis) &&
        outer->x_stride == axis.x_stride * axis.from && outer->y_stride == axis.y_stride * axis.to) {
      *outer = {outer->from * axis.from, outer->to * axis.to, 0, 1, axis.x_stride, axis.y_stride};
      continue;
    }
    SOLDER_REQUIRE(rank < kMaxPadDims, unsupported, node, ": padding ", to_string(x.shape), " to ",
                   to_string(y.shape), " needs more than ", kMaxPadDims, " axes after collapsing");
    pad.axes[rank++] = axis;
  }
  pad.rank = std::max(rank, 1);
  return pad;
}

void pad_cpu(const Pad& pad, const void* x, void* y, ThreadPool* threads) {
  if (pad.num_elems == 0) return;
  constexpr int64_t kShareElems = 16384;  // worth waking a thread
  const int64_t width = pad.axes[pad.rank - 1].to, num_rows = pad.num_elems / width;
  parallel_parts(threads, num_rows, ceil_div(kShareElems, width), [&](int64_t first, int64_t last) {
    if (pad.dtype == DType::float32)
      pad_rows(pad, static_cast<const uint32_t*>(x), static_cast<uint32_t*>(y), first, last);
    else
      pad_rows(pad, static_cast<const uint16_t*>(x), static_cast<uint16_t*>(y), first, last);
  });
}

}  // namespace solder
