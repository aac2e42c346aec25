#pragma once
// The general convolution: im2col + cuBLAS, for every ConvShape.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ops/conv/conv.h"
#include "ops/math_mode.h"
#include "runtime/device.h"

namespace solder {

/// How a convolution is cut into GEMMs. Plain and printable; see choose_im2col_config.
struct Im2colConfig {
  Math math = Math::fp32;
  bool is_pointwise = false;  ///< 1x1, stride 1, no padding, float32: the input is the column matrix already
  bool is_half = false;       ///< columns and weights are scaled float16, with tf32; otherwise float32
  /// Columns of a whole input row serve all filter rows that meet it: a GEMM has one output row, and finds the next
  /// one's columns further down the same matrix. Otherwise each pixel has its own column.
  bool shares_rows = false;
  int64_t rows_per_gemm = 1;  ///< output rows of a call, where shared
  int64_t width = 0;          ///< pixels of a GEMM, of one row or of any images; a multiple of 8

  int64_t elem_bytes() const { return is_half ? 2 : 4; }
};

std::string to_string(const Im2colConfig& config);

/// Where columns lie, in elements, `width` a row: the value that tap (c, r, s) of a group multiplies for a pixel
///   columns[group * group_stride + block * block_stride + c * channel_stride + s * width + pixel]
/// Block r of an output row; where rows are shared blocks are input rows, and the next output row's begin stride_h
/// further. The rows of a GEMM's matrix lie `width` apart in either case: w is packed in their order.
struct Im2colLayout {
  int64_t num_blocks;      ///< of a group
  int64_t blocks_per_row;  ///< from an output row to the next
  int64_t block_stride, channel_stride, group_stride;
};

Im2colLayout im2col_layout(const ConvShape& shape, const Im2colConfig& config, int64_t num_rows,
                           int64_t width);

/// Output channels of a row of sums [rows, padded_channels(K), width]: some may mean nothing, so that all are eights.
inline constexpr int kIm2colSumChannels = 8;
constexpr int64_t padded_channels(int64_t K) {
  return (K + kIm2colSumChannels - 1) / kIm2colSumChannels * kIm2colSumChannels;
}

/// Elements from one output channel of packed weights to the next: gemm_k, and zeros.
int64_t packed_im2col_pitch(const ConvShape& shape);

/// float16 weights [K][pitch], scaled, behind the exponents [K] rounded up to 256 bytes. w: [K,C/groups,R,S].
std::vector<std::byte> pack_weights(const ConvShape& shape, const Im2colConfig& config, const float* w,
                                    std::span<const int32_t> exponents);

/// Chooses chunks that stay within `workspace_bytes`, and whose columns and sums stay in the L2 cache.
std::optional<Im2colConfig> choose_im2col_config(const ConvShape& shape, Math math, int64_t workspace_bytes,
                                                 const DeviceInfo& device, bool knows_weights,
                                                 std::string* why_not);

/// Of a chunk's columns and sums, and of the images' ranges.
int64_t im2col_scratch_bytes(const ConvShape& shape, const Im2colConfig& config);

/// Microseconds, of tiles that take turns on the multiprocessors, and of bytes.
double predict_im2col_us(const ConvShape& shape, const Im2colConfig& config, const DeviceInfo& device);

/// The same of a node with Math::tf32 on Hopper, one group, an epilogue included; nullopt elsewhere. Of x itself that is a pass,
/// which counts whether there is one or not: what is chosen is not to depend on what has been fused.
std::optional<double> fitted_im2col_us(const ConvShape& shape, const Im2colConfig& config,
                                       const DeviceInfo& device);

}  // namespace solder
