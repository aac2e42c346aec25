#pragma once
// The general convolution: im2col + cuBLAS, for every ConvShape.

#include <cstdint>
#include <optional>
#include <string>

#include "ops/conv/conv.h"
#include "ops/math_mode.h"

namespace solder {

/// How a convolution is cut into GEMMs. Plain and printable; see choose_im2col_config.
struct Im2colConfig {
  bool is_pointwise = false;    ///< 1x1, stride 1, no padding: the input is the column matrix already
  int64_t images_per_gemm = 1;  ///< images batched into one GEMM call
  int64_t pixels_per_gemm = 0;  ///< output pixels of an image in one GEMM call; gemm_n when an image fits
  int64_t workspace_bytes = 0;  ///< column memory it needs
  bool operator==(const Im2colConfig&) const = default;
};

std::string to_string(const Im2colConfig& config);

/// Chooses chunks that stay within `workspace_bytes`, and near `target_bytes` where that is smaller: columns
/// that fit in the L2 cache never reach DRAM. At least one 32-pixel chunk is needed; nullopt, with the bytes
/// it would take in `why_not`, when the budget is below that.
std::optional<Im2colConfig> choose_im2col_config(const ConvShape& shape, int64_t workspace_bytes,
                                                 int64_t target_bytes, std::string* why_not);

/// Microseconds on an H100.
double predict_im2col_us(const ConvShape& shape, Math math, const Im2colConfig& config);

}  // namespace solder
