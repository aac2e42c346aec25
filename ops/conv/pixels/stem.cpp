// The layout of a first convolution, on the host's side, and the scales of 16-bit weights.

#include <algorithm>
#include <cmath>

#include "ops/conv/pixels/pixels.h"
#include "ops/elementwise/formulas.h"
#include "runtime/divide.h"

namespace solder {

namespace {

int64_t block_channels(const ConvShape& s) { return round_up(stem_rows(s) * s.stride_w * s.C, 8); }

}  // namespace

ConvShape stem_windows(const ConvShape& s) {
  ConvShape windows{.N = s.N, .C = ceil_div(s.S, s.stride_w) * block_channels(s), .W = s.Q(), .K = s.K};
  windows.R = ceil_div(s.R, stem_rows(s));
  windows.H = s.P() + windows.R - 1;
  windows.S = 1;
  return windows;
}

PixelStrides stem_strides(const ConvShape& s) {
  const int64_t pixel = block_channels(s), row = (s.Q() + ceil_div(s.S, s.stride_w) - 1) * pixel;
  return {pixel, row, stem_windows(s).H * row};
}

std::vector<float> stem_weights(const ConvShape& s, std::span<const float> w) {
  const ConvShape windows = stem_windows(s);
  const int64_t block = stem_strides(s).pixel, rows = stem_rows(s);
  std::vector<float> result(static_cast<size_t>(windows.K * windows.gemm_k()));
  size_t from = 0;
  for (int64_t k = 0; k < s.K; ++k)
    for (int64_t c = 0; c < s.C; ++c)
      for (int64_t r = 0; r < s.R; ++r)
        for (int64_t t = 0; t < s.S; ++t, ++from) {
          const int64_t in_block = (r % rows * s.stride_w + t % s.stride_w) * s.C + c;
          const int64_t channel = t / s.stride_w * block + in_block;
          result[static_cast<size_t>((k * windows.C + channel) * windows.R + r / rows)] = w[from];
        }
  return result;
}

std::vector<int32_t> pixel_exponents(const ConvShape& s, DType dtype, const float* w) {
  std::vector<int32_t> exponents(static_cast<size_t>(s.K));
  if (dtype != DType::float16) return exponents;
  for (int32_t& exponent : exponents) {
    float largest = 0;
    for (const float* const end = w + s.gemm_k(); w < end; ++w)
      if (std::isfinite(*w)) largest = std::max(largest, std::abs(*w));
    if (largest > 0) exponent = std::min(15 - std::ilogb(largest), 149);
  }
  return exponents;
}

bool has_all(DType dtype, std::span<const float> values) {
  return std::ranges::all_of(values, [&](float value) {
    const float rounded = dtype == DType::float16 ? math::to_float16(value) : math::to_bfloat16(value);
    return std::isfinite(value) && rounded == value;
  });
}

}  // namespace solder
