#include "ops/conv/im2col/im2col.h"

#include <algorithm>

#include "runtime/check.h"
#include "runtime/divide.h"

namespace solder {

std::string to_string(const Im2colPlan& plan) {
  switch (plan.kind) {
    case Im2colPlan::Kind::direct: return "direct";
    case Im2colPlan::Kind::pointwise: return "cuBLAS on the input";
    case Im2colPlan::Kind::columns: break;
  }
  return str("im2col + cuBLAS, ", plan.images_per_gemm, " x ", plan.pixels_per_gemm, " pixels a GEMM, ",
             plan.workspace_bytes, " B of columns");
}

Im2colPlan choose_im2col_plan(const ConvShape& s, int64_t workspace_bytes, int64_t target_bytes,
                              const std::string& node) {
  Im2colPlan plan;
  plan.pixels_per_gemm = s.gemm_n();
  if (s.C == s.groups) {
    plan.kind = Im2colPlan::Kind::direct;
    return plan;
  }
  const bool no_padding = s.pad_top == 0 && s.pad_left == 0 && s.pad_bottom == 0 && s.pad_right == 0;
  if (s.R == 1 && s.S == 1 && s.stride_h == 1 && s.stride_w == 1 && no_padding) {
    plan.kind = Im2colPlan::Kind::pointwise;
    return plan;
  }
  if (s.N == 0 || s.gemm_n() == 0) return plan;

  constexpr int64_t kPixelStep = 32;  // keeps every GEMM's row pitch a multiple of 128 bytes
  const int64_t pixel_bytes = s.C * s.R * s.S * int64_t{sizeof(float)};  // a pixel's column, all groups
  const int64_t least_bytes = std::min(kPixelStep, s.gemm_n()) * pixel_bytes;
  SOLDER_REQUIRE(workspace_bytes >= least_bytes, invalid_argument, node, ": workspace_bytes is ",
                 workspace_bytes, "; im2col for ", to_string(s), " needs at least ", least_bytes);
  const int64_t budget = std::clamp(target_bytes, least_bytes, workspace_bytes);
  const int64_t pixels = budget / pixel_bytes;
  if (pixels >= s.gemm_n()) {
    plan.images_per_gemm = std::min(s.N, pixels / s.gemm_n());
  } else {
    // Even chunks: the last one would otherwise be a sliver that fills few multiprocessors.
    const int64_t most = std::max(kPixelStep, pixels / kPixelStep * kPixelStep);
    const int64_t even = ceil_div(s.gemm_n(), ceil_div(s.gemm_n(), most));
    plan.pixels_per_gemm = std::min(most, round_up(even, kPixelStep));
  }
  plan.workspace_bytes = plan.images_per_gemm * plan.pixels_per_gemm * pixel_bytes;
  return plan;
}

void conv_cpu(const ConvShape& s, const float* x, const float* w, float* y) {
  const int64_t P = s.P(), Q = s.Q(), group_c = s.C / s.groups, group_k = s.K / s.groups;
  for (int64_t n = 0; n < s.N; ++n) {
    for (int64_t k = 0; k < s.K; ++k) {
      float* y_image = y + (n * s.K + k) * P * Q;
      std::fill_n(y_image, P * Q, 0.0f);
      for (int64_t c = 0; c < group_c; ++c) {
        const float* x_image = x + (n * s.C + k / group_k * group_c + c) * s.H * s.W;
        for (int64_t r = 0; r < s.R; ++r) {
          for (int64_t column = 0; column < s.S; ++column) {
            const float weight = w[((k * group_c + c) * s.R + r) * s.S + column];
            // Output columns whose input column lies inside the image: q_begin <= q < q_end.
            const int64_t shift = column * s.dil_w - s.pad_left;
            const int64_t q_begin = shift >= 0 ? 0 : std::min(Q, (-shift + s.stride_w - 1) / s.stride_w);
            const int64_t last = s.W - 1 - shift;
            const int64_t q_end = last < 0 ? 0 : std::min(Q, last / s.stride_w + 1);
            for (int64_t p = 0; p < P; ++p) {
              const int64_t h = p * s.stride_h + r * s.dil_h - s.pad_top;
              if (h < 0 || h >= s.H) continue;
              const float* x_row = x_image + h * s.W + shift;
              float* y_row = y_image + p * Q;
              if (s.stride_w == 1) {
                for (int64_t q = q_begin; q < q_end; ++q) y_row[q] += weight * x_row[q];
              } else {
                for (int64_t q = q_begin; q < q_end; ++q) y_row[q] += weight * x_row[q * s.stride_w];
              }
            }
          }
        }
      }
    }
  }
}

}  // namespace solder
