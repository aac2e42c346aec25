#pragma once
// The float64 oracle: naive, written from the definitions, sharing no code with ops/.

#include <algorithm>
#include <cmath>
#include <random>
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
        const bool is_inside = h >= 0 && h < s.H && column >= 0 && column < s.W;
        const double xv =
            is_inside ? x[static_cast<size_t>(((n * s.C + first_c + c) * s.H + h) * s.W + column)] : 0.0f;
        const double wv = w[static_cast<size_t>(((k * group_c + c) * s.R + r) * s.S + t)];
        out.value += xv * wv;
        out.sum_abs += std::abs(xv * wv);
        out.sum_w += is_inside ? std::abs(wv) : 0;
      }
    }
  }
  return out;
}

/// Of element `at` of y [N,K,P,Q].
inline ConvOutput conv_oracle(const ConvShape& s, std::span<const float> x, std::span<const float> w,
                              int64_t at) {
  const int64_t channel = at / s.gemm_n(), pixel = at % s.gemm_n();
  return conv_oracle(s, x, w, channel / s.K, channel % s.K, pixel / s.Q(), pixel % s.Q());
}

/// The contract's bound on a convolution's error (see Math) and float32's own floor; `largest` is max|x| over the
/// image, or 0 for the bound without it.
inline double conv_bound(Math math, const ConvShape& s, const ConvOutput& exact, double largest) {
  const double terms = static_cast<double>(s.gemm_k());
  const double of_products = (math == Math::tf32 ? 0x1p-10 : 0) + terms * 0x1p-24;
  const double of_largest = math == Math::tf32 ? 0x1p-24 : 0x1p-32;
  return of_products * exact.sum_abs + of_largest * largest * exact.sum_w + terms * 0x1p-149;
}

/// The largest error of y = conv(x, w) + bias (empty: none) as a fraction of its bound, over `max_outputs` outputs (the
/// first, the last and a random choice, where there are more). Infinity for a NaN or an infinity at the wrong place.
inline double worst_conv_error(Math math, const ConvShape& s, std::span<const float> x,
                               std::span<const float> w, std::span<const float> bias,
                               std::span<const float> y, bool uses_largest = true,
                               int64_t max_outputs = 20000) {
  const int64_t total = static_cast<int64_t>(y.size()), image = s.C * s.H * s.W;
  std::vector<double> largest(static_cast<size_t>(s.N));
  for (size_t i = 0; i < x.size(); ++i) {
    double& of_image = largest[i / static_cast<size_t>(image)];
    if (uses_largest && std::isfinite(x[i])) of_image = std::max(of_image, std::abs(double{x[i]}));
  }
  std::mt19937_64 engine(3);
  double worst = 0;
  for (int64_t i = 0; i < std::min(max_outputs, total); ++i) {
    int64_t at = total <= max_outputs ? i : static_cast<int64_t>(engine() % static_cast<uint64_t>(total));
    if (total > max_outputs && i < 2) at = i * (total - 1);
    const int64_t k = at / s.gemm_n() % s.K, n = at / s.gemm_n() / s.K;
    const ConvOutput exact = conv_oracle(s, x, w, at);
    const double value = exact.value + (bias.empty() ? 0.0 : bias[static_cast<size_t>(k)]);
    const double got = y[static_cast<size_t>(at)];
    if (!std::isfinite(value)) {
      if (!(got == value || (std::isnan(got) && std::isnan(value)))) return INFINITY;
      continue;
    }
    const double bound =
        conv_bound(math, s, exact, largest[static_cast<size_t>(n)]) + 0x1p-24 * std::abs(value);
    const double error = got == value ? 0 : std::abs(got - value) / bound;
    if (!(error <= worst)) worst = std::isnan(error) ? INFINITY : error;
  }
  return worst;
}

inline double mish_oracle(double x) { return x * std::tanh(std::log1p(std::exp(x))); }

}  // namespace solder::test
