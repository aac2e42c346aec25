#include <algorithm>

#include "ops/conv/im2col/im2col.h"
#include "runtime/check.h"
#include "runtime/divide.h"

namespace solder {

std::string to_string(const Im2colConfig& config) {
  if (config.is_pointwise) return "cuBLAS on x itself";
  return str(config.images_per_gemm, " x ", config.pixels_per_gemm, " pixels a GEMM, ",
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
  if (s.N == 0 || s.gemm_n() == 0) return 0;
  // Of one GEMM: tiles of 128 x 128 that take turns on 132 multiprocessors, or the memory.
  const int64_t tiles =
      s.groups * config.images_per_gemm * ceil_div(s.gemm_m(), 128) * ceil_div(config.pixels_per_gemm, 128);
  const double tile_us =
      static_cast<double>(s.gemm_k()) * 2 * 128 * 128 * 132 / (math == Math::tf32 ? 300e6 : 45e6);
  const double multiply = static_cast<double>(ceil_div(tiles, 132)) * tile_us;
  const double images = static_cast<double>(config.images_per_gemm);
  const double columns = 4 * images * static_cast<double>(s.C * s.R * s.S * config.pixels_per_gemm);
  const double out = 4 * images * static_cast<double>(s.K * config.pixels_per_gemm);
  const double num_gemms = static_cast<double>(ceil_div(s.N, config.images_per_gemm) *
                                               ceil_div(s.gemm_n(), config.pixels_per_gemm));
  const double build = config.is_pointwise ? 0 : 3 + columns / 1.5e6;
  // Twofold: numbers this rough displace a fused kernel only where they leave no doubt.
  return 2 * num_gemms * (5 + build + std::max(multiply, (columns + out) / 2.5e6));
}

}  // namespace solder
