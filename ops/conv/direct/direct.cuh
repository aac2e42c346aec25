#pragma once

#include "ops/conv/conv.h"

namespace solder {

/// One output of a convolution before its bias, on CUDA cores in float32: the terms in order of c, r, s.
/// x: one image [C,H,W], w [K,channels,R,S] with `channels` = C / groups; output row `p`, column `q`.
/// `kFinite`: the weights are finite, so that padding may be left out.
template <bool kFinite>
__device__ float direct_sum(const ConvShape& shape, int64_t channels, const float* x, const float* w,
                            int64_t k, int64_t p, int64_t q) {
  const int64_t first_c = k / (shape.K / shape.groups) * channels;
  float sum = 0;
  for (int64_t c = 0; c < channels; ++c) {
    const float* plane = x + (first_c + c) * shape.H * shape.W;
    const float* filter = w + (k * channels + c) * shape.R * shape.S;
    for (int64_t r = 0; r < shape.R; ++r) {
      const int64_t row = p * shape.stride_h + r * shape.dil_h - shape.pad_top;
      const bool is_row = row >= 0 && row < shape.H;
      if (kFinite && !is_row) continue;
      for (int64_t s = 0; s < shape.S; ++s) {
        const int64_t col = q * shape.stride_w + s * shape.dil_w - shape.pad_left;
        const bool is_inside = is_row && col >= 0 && col < shape.W;
        if (is_inside || !kFinite)
          sum = fmaf(is_inside ? plane[row * shape.W + col] : 0.0f, filter[r * shape.S + s], sum);
      }
    }
  }
  return sum;
}

}  // namespace solder
