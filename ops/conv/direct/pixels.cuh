#pragma once
// The direct convolution of one input channel a group, of 16-bit values with channels innermost.
//   x [N,C,H,W] in vectors of 8 channels; weights float32 [R * S][K up to whole vectors]; y, residual: PixelSurface
// A thread computes a vector of kRun neighbouring pixels of a row, which share its weights; neighbouring threads have
// neighbouring channels, then pixels. float32 sums, tap by tap; outside the image x is 0, which an infinite weight makes
// NaN. Registers: 72. Bound: memory; of 5x5 filters and larger ones the path to L1, where the R * S reads of x overlap.

#include "ops/conv/epilogue/epilogue.cuh"
#include "ops/conv/pixels/epilogue.cuh"
#include "ops/ptx/follow.cuh"
#include "runtime/divide.h"

namespace solder::direct {

constexpr int kThreads = 128, kRun = 4;

struct Params {
  const uint4* x;
  const float4* weights;
  const float* bias;  ///< [K]; null: none
  PixelSurface y, residual;
  ConvChain activation;
  ResidualAt residual_at;
  float slope;
  int64_t x_image, x_row, x_pixel;  ///< vectors
  int H, W, K, P, Q, R, S, stride_h, stride_w, dil_h, dil_w, pad_top, pad_left;
  int num_vectors, num_items;                        ///< of a pixel; threads that have work
  FastDivisor by_vectors, by_runs, by_p, by_pixels;  ///< runs: of a row
};

/// sums += the taps of the pixels from column `q` on, row `p`.
template <DType kDtype>
__device__ __forceinline__ void add_taps(const Params& p, const uint4* image, int vector, int row, int column,
                                         float (&sums)[kRun][pixels::kVector]) {
  const float4* weights = p.weights + vector * 2;
#pragma unroll 1
  for (int r = 0; r < p.R; ++r) {
    const int h = row * p.stride_h - p.pad_top + r * p.dil_h;
    const uint4* const line = image + h * p.x_row + vector;
#pragma unroll 1
    for (int s = 0; s < p.S; ++s, weights += p.num_vectors * 2) {
      const float4 low = __ldg(weights), high = __ldg(weights + 1);
      const float w[pixels::kVector] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
      uint4 x[kRun];
#pragma unroll
      for (int j = 0; j < kRun; ++j) {
        const int col = (column + j) * p.stride_w - p.pad_left + s * p.dil_w;
        const bool is_inside = h >= 0 && h < p.H && col >= 0 && col < p.W;
        x[j] = is_inside ? __ldg(line + col * p.x_pixel) : make_uint4(0, 0, 0, 0);
      }
#pragma unroll
      for (int j = 0; j < kRun; ++j) {
        const uint32_t words[4] = {x[j].x, x[j].y, x[j].z, x[j].w};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float2 pair = unpack_pair(kDtype, words[i]);
          sums[j][2 * i] = fmaf(pair.x, w[2 * i], sums[j][2 * i]);
          sums[j][2 * i + 1] = fmaf(pair.y, w[2 * i + 1], sums[j][2 * i + 1]);
        }
      }
    }
  }
}

/// The epilogue of 8 channels of a pixel, and its stores.
template <DType kDtype>
__device__ __forceinline__ void finish_vector(const Params& p, int pixel, int channel,
                                              float (&values)[pixels::kVector]) {
  const auto add_residual = [&] {
    if (channel >= p.K) return;
    const uint4 bits =
        static_cast<const uint4*>(p.residual.data)[pixels::vector_of(p.residual, pixel, channel)];
    pixels::add_pairs<kDtype>({bits.x, bits.y, bits.z, bits.w}, 0, values);
  };
  if (p.residual_at == ResidualAt::before) add_residual();
  ConvEpilogue epilogue;
  epilogue.activation = p.activation, epilogue.slope = p.slope;
  run_any_activation<true>(epilogue, values);
  if (p.residual_at == ResidualAt::after) add_residual();
  pixels::store_results<kDtype>(p, pixel, channel, values);
}

template <DType kDtype>
__global__ void __launch_bounds__(kThreads) conv_direct_pixels_kernel(const __grid_constant__ Params p) {
  follow_previous();
  const int item = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (item >= p.num_items) return;
  const int runs = (p.Q + kRun - 1) / kRun;
  const int run = static_cast<int>(p.by_vectors.divide(static_cast<uint32_t>(item)));
  const int line = static_cast<int>(p.by_runs.divide(static_cast<uint32_t>(run)));
  const int n = static_cast<int>(p.by_p.divide(static_cast<uint32_t>(line)));
  const int vector = item - run * p.num_vectors, column = (run - line * runs) * kRun, row = line - n * p.P;
  float sums[kRun][pixels::kVector] = {};
  add_taps<kDtype>(p, p.x + n * p.x_image, vector, row, column, sums);
  const int channel = vector * pixels::kVector, first_pixel = line * p.Q + column;
  float bias[pixels::kVector];
#pragma unroll
  for (int e = 0; e < pixels::kVector; ++e)
    bias[e] = p.bias != nullptr && channel + e < p.K ? __ldg(p.bias + channel + e) : -0.0f;
#pragma unroll 1
  for (int j = 0; j < kRun && column + j < p.Q; ++j) {
    float values[pixels::kVector];
#pragma unroll
    for (int e = 0; e < pixels::kVector; ++e) values[e] = sums[0][e] + bias[e];
    finish_vector<kDtype>(p, first_pixel + j, channel, values);
    // Registers have no index: the next pixel moves up.
#pragma unroll
    for (int i = 0; i + 1 < kRun; ++i)
#pragma unroll
      for (int e = 0; e < pixels::kVector; ++e) sums[i][e] = sums[i + 1][e];
  }
}

}  // namespace solder::direct
