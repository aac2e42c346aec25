#pragma once

#include <cstdint>
#include <string>

#include "runtime/shape.h"

namespace solder {

/// A convolution's geometry; the one place where its letters are defined. As in PyTorch this is
/// cross-correlation:
///   y[n,k,p,q] = sum_{c,r,s} w[k,c,r,s] * x[n,c,i,j],
///                i = p * stride_h + r * dil_h - pad_top,  j = q * stride_w + s * dil_w - pad_left,
/// with x = 0 outside the image: an infinite weight that meets padding makes NaN, on every device. Math says
/// how exact it is.
struct ConvShape {
  int64_t N = 0;  ///< images
  int64_t C = 0;  ///< input channels
  int64_t H = 0;  ///< input rows
  int64_t W = 0;  ///< input columns
  int64_t K = 0;  ///< output channels
  int64_t R = 0;  ///< filter rows
  int64_t S = 0;  ///< filter columns
  int64_t groups = 1;
  int64_t stride_h = 1, stride_w = 1;
  int64_t dil_h = 1, dil_w = 1;                                      ///< 1 = dense filter
  int64_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;  ///< negative crops

  /// Output rows and columns.
  constexpr int64_t P() const { return (H + pad_top + pad_bottom - dil_h * (R - 1) - 1) / stride_h + 1; }
  constexpr int64_t Q() const { return (W + pad_left + pad_right - dil_w * (S - 1) - 1) / stride_w + 1; }

  /// As a matrix product, per group and image: [gemm_m, gemm_k] weights x [gemm_k, gemm_n] columns.
  constexpr int64_t gemm_m() const { return K / groups; }
  constexpr int64_t gemm_k() const { return C / groups * R * S; }
  constexpr int64_t gemm_n() const { return P() * Q(); }

  /// Whether x is its own matrix of columns.
  constexpr bool is_pointwise() const {
    return R == 1 && S == 1 && stride_h == 1 && stride_w == 1 && pad_top == 0 && pad_left == 0 &&
           pad_bottom == 0 && pad_right == 0;
  }

  /// Multiply-adds of the whole batch.
  constexpr int64_t num_macs() const { return N * K * gemm_n() * gemm_k(); }

  bool operator==(const ConvShape&) const = default;
};

/// How far apart images lie, in elements: more than they have where a tensor is part of a wider one. Each is
/// dense.
struct ConvStrides {
  int64_t x = 0;  ///< images [C,H,W]
  int64_t y = 0;  ///< images [K,P,Q]
  bool operator==(const ConvStrides&) const = default;
  static constexpr ConvStrides dense(const ConvShape& s) { return {s.C * s.H * s.W, s.K * s.gemm_n()}; }
};

/// Of float32 values by their bits, without the sign: infinity, and above it NaN.
inline constexpr uint32_t kNonFiniteBits = 0x7f800000u;

/// "x [1, 3, 9, 9], w [4, 3, 3, 3], stride 2x2, ...": for errors and logs.
std::string to_string(const ConvShape& shape);

/// Refuses what has no meaning, naming `node`: extents or groups that do not divide, stride or dilation <= 0,
/// a kernel larger than the padded input, 2^63 bytes of a tensor. Then y has rows and columns; x need not.
void validate(const ConvShape& shape, const std::string& node);

}  // namespace solder
