#pragma once
// The float64 oracle: naive, written from the definitions, sharing no code with ops/.

#include <cmath>
#include <span>
#include <vector>

#include "ops/conv/conv.h"
#include "ops/math_mode.h"

namespace solder::test {

/// A convolution's exact value (to float64) with what its error bounds need.
struct ConvOutput {
  double value = 0;    ///< sum of x * w
  double sum_abs = 0;  ///< sum of |x * w|
  double sum_w = 0;    ///< sum of |w| over the terms inside the image
};

inline ConvOutput conv_oracle(const ConvShape& s, std::span<const float> x, std::span<const float> w,
                              int64_t n, int64_t k, int64_t p, int64_t q) {
  ConvOutput out;
  const int64_t group_c = s.C / s.groups, first_c = k / (s.K / s.groups) * group_c;
  for (int64_t c = 0; c < group_c; ++c) {
    for (int64_t r = 0; r < s.R; ++r) {
      for (int64_t t = 0; t < s.S; ++t) {
        const int64_t h = p * s.stride_h + r * s.dil_h - s.pad_top;
        const int64_t column = q * s.stride_w + t * s.dil_w - s.pad_left;
        if (h < 0 || h >= s.H || column < 0 || column >= s.W) continue;
        const double xv = x[static_cast<size_t>(((n * s.C + first_c + c) * s.H + h) * s.W + column)];
        const double wv = w[static_cast<size_t>(((k * group_c + c) * s.R + r) * s.S + t)];
        out.value += xv * wv;
        out.sum_abs += std::abs(xv * wv);
        out.sum_w += std::abs(wv);
      }
    }
  }
  return out;
}

/// The contract's bound on a convolution's error (see Math); `largest` is max|x| over the image.
inline double conv_bound(Math math, const ConvShape& s, const ConvOutput& exact, double largest) {
  if (math == Math::tf32) return 0x1p-10 * exact.sum_abs + 0x1p-24 * largest * exact.sum_w;
  return static_cast<double>(s.gemm_k()) * 0x1p-24 * exact.sum_abs + 0x1p-32 * largest * exact.sum_w;
}

inline double mish_oracle(double x) { return x * std::tanh(std::log1p(std::exp(x))); }

}  // namespace solder::test
