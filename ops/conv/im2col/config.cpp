#include <algorithm>

#include "ops/conv/im2col/im2col.h"
#include "runtime/check.h"
#include "runtime/divide.h"

namespace solder {

std::string to_string(const Im2colConfig& config) {
  if (config.is_pointwise) return "cuBLAS on the input";
  return str("im2col + cuBLAS, ", config.images_per_gemm, " x ", config.pixels_per_gemm, " pixels a GEMM, ",
             config.workspace_bytes, " B of columns");
}

std::optional<Im2colConfig> choose_im2col_config(const ConvShape& s, int64_t workspace_bytes,
                                                 int64_t target_bytes, std::string* why_not) {
  Im2colConfig config;
  config.pixels_per_gemm = s.gemm_n();
  const bool no_padding = s.pad_top == 0 && s.pad_left == 0 && s.pad_bottom == 0 && s.pad_right == 0;
  config.is_pointwise = s.R == 1 && s.S == 1 && s.stride_h == 1 && s.stride_w == 1 && no_padding;
  if (config.is_pointwise || s.N == 0 || s.gemm_n() == 0) return config;

  constexpr int64_t kPixelStep = 32;  // keeps every GEMM's row pitch a multiple of 128 bytes
  const int64_t pixel_bytes = s.C * s.R * s.S * int64_t{sizeof(float)};  // a pixel's column, all groups
  const int64_t least_bytes = std::min(kPixelStep, s.gemm_n()) * pixel_bytes;
  if (workspace_bytes < least_bytes) {
    *why_not =
        str("workspace_bytes leaves ", workspace_bytes, " B and the columns need at least ", least_bytes);
    return std::nullopt;
  }
  const int64_t budget = std::clamp(target_bytes, least_bytes, workspace_bytes);
  const int64_t pixels = budget / pixel_bytes;
  if (pixels >= s.gemm_n()) {
    config.images_per_gemm = std::min(s.N, pixels / s.gemm_n());
  } else {
    // Even chunks: the last one would otherwise be a sliver that fills few multiprocessors.
    const int64_t most = std::max(kPixelStep, pixels / kPixelStep * kPixelStep);
    const int64_t even = ceil_div(s.gemm_n(), ceil_div(s.gemm_n(), most));
    config.pixels_per_gemm = std::min(most, round_up(even, kPixelStep));
  }
  config.workspace_bytes = config.images_per_gemm * config.pixels_per_gemm * pixel_bytes;
  return config;
}

double predict_im2col_us(const ConvShape& s, Math math, const Im2colConfig& config) {
  const double gemm_us = 2 * static_cast<double>(s.num_macs()) / (math == Math::tf32 ? 200e6 : 40e6);
  const double y_elems = static_cast<double>(s.N * s.K * s.gemm_n());
  const double x_elems = static_cast<double>(s.N * s.C * s.H * s.W);
  if (config.is_pointwise) return 5 + std::max(gemm_us, (x_elems + y_elems) * 4 / 2.5e6);
  const double columns = static_cast<double>(s.N * s.C * s.R * s.S * s.gemm_n());
  const double num_gemms =
      static_cast<double>(ceil_div(s.N, config.images_per_gemm) *
                          ceil_div(s.gemm_n(), std::max<int64_t>(config.pixels_per_gemm, 1)));
  return 6 * num_gemms + columns * 4 / 1.5e6 + gemm_us;
}

}  // namespace solder
