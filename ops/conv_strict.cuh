#pragma once
// The direct convolution of the images that float16 operands cannot hold: see conv_strict in
// ops/conv_range.h.

#include "ops/conv_epilogue.cuh"
#include "ops/conv_range.h"

namespace solder {

/// A convolution and its images' states. Every ConvShape.
struct StrictParams {
  ConvShape shape;
  int64_t P, Q;
  Math math;
  const float* x;            // [N,C,H,W]
  const float* w;            // [K,C/groups,R,S]
  const ImageRange* ranges;  // [N]
  float* y;                  // [N,K,P,Q]
};

inline StrictParams strict_params(const ConvShape& shape, Math math, const float* x, const float* w,
                                  const ImageRange* ranges, float* y) {
  return {shape, shape.P(), shape.Q(), math, x, w, ranges, y};
}

/// One output, for the epilogue.
struct StrictPlace {
  int k;
  int64_t offset;
  __device__ int channel(int) const { return k; }
  template <int N>
  __device__ void load(const float* tensor, float (&values)[N]) const {
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] = tensor[offset];
  }
};

inline __device__ float direct_sum(const StrictParams& p, int64_t n, int64_t k, int64_t row, int64_t col) {
  const ConvShape& s = p.shape;
  const int64_t group_c = s.C / s.groups;
  const int64_t first_c = k / (s.K / s.groups) * group_c;
  float sum = 0;
  for (int64_t c = 0; c < group_c; ++c) {
    const float* plane = p.x + (n * s.C + first_c + c) * s.H * s.W;
    const float* filter = p.w + (k * group_c + c) * s.R * s.S;
    for (int64_t r = 0; r < s.R; ++r) {
      const int64_t h = row * s.stride_h + r * s.dil_h - s.pad_top;
      if (h < 0 || h >= s.H) continue;
      for (int64_t t = 0; t < s.S; ++t) {
        const int64_t w = col * s.stride_w + t * s.dil_w - s.pad_left;
        if (w >= 0 && w < s.W) sum = fmaf(plane[h * s.W + w], filter[r * s.S + t], sum);
      }
    }
  }
  return sum;
}

/// Computes the images whose status is `strict`: output i of an image by thread i of the grid, whose blocks
/// are all of one row. Bound by nothing one would wait for.
inline __device__ void direct_images(const StrictParams& p, const ConvEpilogue& epilogue) {
  const int64_t image_elems = p.shape.K * p.P * p.Q;
  for (int64_t n = 0; n < p.shape.N; ++n) {
    if (range_status(p.ranges[n], p.math) != RangeStatus::strict) continue;
    for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < image_elems;
         i += int64_t{gridDim.x} * blockDim.x) {
      const int64_t k = i / (p.P * p.Q), pixel = i % (p.P * p.Q);
      float acc[1] = {direct_sum(p, n, k, pixel / p.Q, pixel % p.Q)};
      const StrictPlace place{static_cast<int>(k), n * image_elems + i};
      run_epilogue<EpilogueChain<ConvChain::interpreted, false>>(epilogue, place, acc);
      p.y[n * image_elems + i] = acc[0];
    }
  }
}

}  // namespace solder
