#pragma once
// The direct convolution of the images that float16 operands cannot hold.

#include "ops/conv/direct/direct.cuh"
#include "ops/conv/epilogue/epilogue.cuh"
#include "ops/conv/range/range.h"

namespace solder {

/// A convolution and its images' states. Every ConvShape.
struct StrictParams {
  ConvShape shape;
  ConvStrides strides;
  int64_t P, Q;
  Math math;
  const float* x;            // [N,C,H,W]
  const float* w;            // [K,C/groups,R,S]
  const ImageRange* ranges;  // [N]
  float* y;                  // [N,K,P,Q]
};

inline StrictParams strict_params(const ConvShape& shape, const ConvStrides& strides, Math math,
                                  const float* x, const float* w, const ImageRange* ranges, float* y) {
  return {shape, strides, shape.P(), shape.Q(), math, x, w, ranges, y};
}

/// Computes the images whose status is `strict`: output i of an image by thread i of the grid, whose blocks
/// are all of one row. Bound by nothing one would wait for.
inline __device__ void direct_images(const StrictParams& p, const ConvEpilogue& epilogue) {
  const int64_t image_elems = p.shape.K * p.P * p.Q;
  for (int64_t n = 0; n < p.shape.N; ++n) {
    if (range_status(p.ranges[n], p.math) != RangeStatus::strict) continue;
    const float* const x = p.x + n * p.strides.x;
    const float* const residual = epilogue.residual + n * epilogue.residual_image;
    float* const y = p.y + n * p.strides.y;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < image_elems;
         i += int64_t{gridDim.x} * blockDim.x) {
      const int64_t k = i / (p.P * p.Q), pixel = i % (p.P * p.Q);
      float acc[1] = {
          direct_sum<true>(p.shape, p.shape.C / p.shape.groups, x, p.w, k, pixel / p.Q, pixel % p.Q)};
      acc[0] += epilogue_bias(epilogue, static_cast<int>(k));
      if (epilogue.residual_at == ResidualAt::before) acc[0] += residual[i];
      run_any_activation<false>(epilogue, acc);
      if (epilogue.residual_at == ResidualAt::after) acc[0] += residual[i];
      y[i] = acc[0];
    }
  }
}

}  // namespace solder
