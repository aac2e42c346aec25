// im2col + cuBLAS, and the direct kernel for one input channel a group.
//
// im2col_kernel: columns [images, C, R, S, pixels] from x [N,C,H,W], one chunk of output pixels. A thread
// owns four neighbouring pixels: it works out their places once, then walks the taps of its (image, c) rows
// with four loads and one 16-byte store a tap. Grid: x = blocks of 1,024 pixels, y = (image, channel) rows,
// grid-stride. No shared memory. Index is the type of an offset inside one image plane: 32 bits wherever H *
// W allows. Bound: writing the columns, R*S times the input; chunks that stay in the L2 cache are found there
// by the GEMM.
//
// conv_direct_kernel: one thread an output, R*S terms in order of r, s; float32 in either Math mode. Bound:
// memory, as the R*S reads of neighbouring threads overlap in the L1 cache.

#include <algorithm>

#include "ops/conv/direct.cuh"
#include "ops/conv/im2col/im2col.h"
#include "ops/matmul/gemm.h"
#include "runtime/divide.h"
#include "runtime/launch.cuh"

namespace solder {
namespace {

constexpr int kThreads = 256;

constexpr int kPixels = 4;  // a thread

struct Im2colChunk {
  ConvShape shape;
  int64_t Q;                        // output columns
  int64_t first_pixel, num_pixels;  // of each image
  int64_t num_rows;                 // images * C
};

template <class Index>
__global__ void __launch_bounds__(kThreads)
    im2col_kernel(const __grid_constant__ Im2colChunk chunk, const float* __restrict__ x,
                  float* __restrict__ columns) {
  const ConvShape& s = chunk.shape;
  const int64_t first = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kPixels;
  if (first >= chunk.num_pixels) return;
  const int num_mine = static_cast<int>(min(int64_t{kPixels}, chunk.num_pixels - first));
  const Index H = static_cast<Index>(s.H), W = static_cast<Index>(s.W);
  const Index dil_h = static_cast<Index>(s.dil_h), dil_w = static_cast<Index>(s.dil_w);
  const int R = static_cast<int>(s.R), S = static_cast<int>(s.S);
  Index h0[kPixels], w0[kPixels];
#pragma unroll
  for (int i = 0; i < kPixels; ++i) {
    const Index pixel = static_cast<Index>(chunk.first_pixel + first + min(i, num_mine - 1));
    const Index p = pixel / static_cast<Index>(chunk.Q), q = pixel - p * static_cast<Index>(chunk.Q);
    h0[i] = p * static_cast<Index>(s.stride_h) - static_cast<Index>(s.pad_top);
    w0[i] = q * static_cast<Index>(s.stride_w) - static_cast<Index>(s.pad_left);
  }
  // Rows of the column matrix start num_pixels apart: 16-byte stores need that to be a multiple of four.
  const bool vector_store = num_mine == kPixels && chunk.num_pixels % kPixels == 0;
  for (int64_t row = blockIdx.y; row < chunk.num_rows; row += gridDim.y) {
    const float* image = x + row * s.H * s.W;
    float* out = columns + row * R * S * chunk.num_pixels + first;
    for (int r = 0; r < R; ++r) {
#pragma unroll 3
      for (int t = 0; t < S; ++t, out += chunk.num_pixels) {
        float value[kPixels];
#pragma unroll
        for (int i = 0; i < kPixels; ++i) {
          const Index h = h0[i] + r * dil_h, w = w0[i] + t * dil_w;
          value[i] = h >= 0 && h < H && w >= 0 && w < W ? image[h * W + w] : 0.0f;
        }
        if (vector_store) {
          *reinterpret_cast<float4*>(out) = make_float4(value[0], value[1], value[2], value[3]);
        } else {
#pragma unroll
          for (int i = 0; i < kPixels; ++i)
            if (i < num_mine) out[i] = value[i];
        }
      }
    }
  }
}

__global__ void __launch_bounds__(kThreads)
    conv_direct_kernel(const __grid_constant__ ConvShape s, int64_t num_outputs, const float* x,
                       const float* w, float* y) {
  const int64_t P = s.P(), Q = s.Q(), step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < num_outputs; i += step) {
    const int64_t q = i % Q, p = i / Q % P, k = i / (Q * P) % s.K, n = i / (Q * P * s.K);
    y[i] = direct_sum(s, 1, x, w, n, k, p, q);
  }
}

void conv_direct_cuda(const Context& context, const ConvShape& s, const float* x, const float* w, float* y) {
  const int64_t num_outputs = s.N * s.K * s.gemm_n();
  const int64_t blocks = std::min(ceil_div(num_outputs, kThreads), int64_t{context.info().num_sms} * 32);
  launch(context, "conv_direct_kernel", conv_direct_kernel, {static_cast<unsigned>(blocks), kThreads}, s,
         num_outputs, x, w, y);
}

// One GEMM call covers either several images or several groups; the other is a loop. Images go into the call
// unless there are groups, whose weights differ.
void multiply(const Context& context, const ConvShape& s, Math math, int64_t images, int64_t pixels,
              const float* columns, const float* w, float* y) {
  const int64_t columns_per_group = s.gemm_k() * pixels;
  GemmShape gemm{.m = s.gemm_m(), .n = pixels, .k = s.gemm_k(), .ld_b = pixels, .ld_c = s.gemm_n()};
  if (s.groups == 1) {
    gemm.count = images;
    gemm.stride_b = columns_per_group;
    gemm.stride_c = s.K * s.gemm_n();
    gemm_cuda(context, gemm, math, w, columns, y);
    return;
  }
  gemm.count = s.groups;
  gemm.stride_a = s.gemm_m() * s.gemm_k();
  gemm.stride_b = columns_per_group;
  gemm.stride_c = s.gemm_m() * s.gemm_n();
  for (int64_t n = 0; n < images; ++n)
    gemm_cuda(context, gemm, math, w, columns + n * s.groups * columns_per_group, y + n * s.K * s.gemm_n());
}

}  // namespace

void conv_im2col_cuda(const Context& context, const ConvShape& s, const Im2colPlan& plan, Math math,
                      const float* x, const float* w, float* y, float* workspace) {
  if (s.N == 0 || s.gemm_n() == 0) return;
  if (plan.kind == Im2colPlan::Kind::direct) return conv_direct_cuda(context, s, x, w, y);
  if (plan.kind == Im2colPlan::Kind::pointwise) return multiply(context, s, math, s.N, s.gemm_n(), x, w, y);

  // Coordinates reach a padding and a dilated kernel beyond the image.
  const int64_t reach =
      std::max({s.H, s.pad_top, s.dil_h * s.R}) * 2 + std::max({s.W, s.pad_left, s.dil_w * s.S}) * 2;
  const bool narrow =
      std::max({s.H * s.W, s.gemm_n() * std::max(s.stride_h, s.stride_w), reach}) < (int64_t{1} << 30);
  const auto kernel = narrow ? im2col_kernel<int32_t> : im2col_kernel<int64_t>;
  for (int64_t n = 0; n < s.N; n += plan.images_per_gemm) {
    const int64_t images = std::min(plan.images_per_gemm, s.N - n);
    for (int64_t first = 0; first < s.gemm_n(); first += plan.pixels_per_gemm) {
      const int64_t pixels = std::min(plan.pixels_per_gemm, s.gemm_n() - first);
      const Im2colChunk chunk{s, s.Q(), first, pixels, images * s.C};
      const dim3 grid(static_cast<unsigned>(ceil_div(pixels, kThreads * kPixels)),
                      static_cast<unsigned>(std::min<int64_t>(chunk.num_rows, 65535)));
      launch(context, "im2col_kernel", kernel, {grid, kThreads}, chunk, x + n * s.C * s.H * s.W, workspace);
      multiply(context, s, math, images, pixels, workspace, w, y + n * s.K * s.gemm_n() + first);
    }
  }
}

}  // namespace solder
