#pragma once
// What outputs side by side see of a row of the image.

#include <algorithm>
#include <cstring>

#include "ops/conv/conv.h"
#include "ops/matmul/panel_cpu.h"

namespace solder {

/// Those outputs that see a column of the image: low <= j < high.
struct InsideRange {
  int64_t low, high;
};

/// Of `count` outputs, the first of them at column w_begin.
inline InsideRange inside_range(const ConvShape& s, int64_t w_begin, int64_t count) {
  // The first output that sees column w or one to the right of it.
  const auto first = [&](int64_t w) {
    return s.stride_w == 1 ? w - w_begin : ceil_div(std::max(w - w_begin, int64_t{0}), s.stride_w);
  };
  const int64_t low = std::clamp(first(0), int64_t{0}, count);
  return {low, std::clamp(first(s.W), low, count)};
}

/// to[j] = from[j * stride].
inline void copy_strided(const float* from, int64_t stride, int64_t count, float* to) {
  if (stride == 1 && count == kPanelColumns)  // of panels most, and faster without a call
    std::memcpy(to, from, kPanelColumns * sizeof(float));
  else if (stride == 1)
    std::copy_n(from, count, to);
  else if (stride == 2)  // the most frequent one, vectorised
    for (int64_t j = 0; j < count; ++j) to[j] = from[2 * j];
  else
    for (int64_t j = 0; j < count; ++j) to[j] = from[j * stride];
}

}  // namespace solder
