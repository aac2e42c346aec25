// im2col + cuBLAS: the family for everything.
//
// im2col_kernel: columns [images, C, R, S, pixels] from x [N,C,H,W], one chunk of output pixels. A thread
// owns four neighbouring pixels: it works out their places once, then walks the taps of its (image, c) rows
// with four loads and one 16-byte store a tap. Grid: x = blocks of 1,024 pixels, y = channels, z = images,
// grid-stride. No shared memory. Index is the type of an offset inside one image plane: 32 bits wherever H *
// W allows. Bound: writing the columns, R*S times the input; chunks that stay in the L2 cache are found there
// by the GEMM.

#include <algorithm>

#include "ops/conv/im2col/im2col.h"
#include "ops/conv/kernels.h"
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
  int64_t num_images;
  int64_t x_image;  // elements from one image of x to the next
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
  for (int64_t image = blockIdx.z; image < chunk.num_images; image += gridDim.z) {
    for (int64_t c = blockIdx.y; c < s.C; c += gridDim.y) {
      const float* plane = x + image * chunk.x_image + c * s.H * s.W;
      float* out = columns + (image * s.C + c) * R * S * chunk.num_pixels + first;
      for (int r = 0; r < R; ++r) {
#pragma unroll 3
        for (int t = 0; t < S; ++t, out += chunk.num_pixels) {
          float value[kPixels];
#pragma unroll
          for (int i = 0; i < kPixels; ++i) {
            const Index h = h0[i] + r * dil_h, w = w0[i] + t * dil_w;
            value[i] = h >= 0 && h < H && w >= 0 && w < W ? plane[h * W + w] : 0.0f;
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
}

// One GEMM call covers either several images or several groups; the other is a loop. Images go into the call
// unless there are groups, whose weights differ. Images of columns lie `columns_image` elements apart, those
// of y `y_image`.
void multiply(const Context& context, const ConvShape& s, Math math, int64_t images, int64_t pixels,
              const float* columns, int64_t columns_image, const float* w, float* y, int64_t y_image) {
  GemmShape gemm{.m = s.gemm_m(), .n = pixels, .k = s.gemm_k(), .ld_b = pixels, .ld_c = s.gemm_n()};
  if (s.groups == 1) {
    gemm.count = images;
    gemm.stride_b = columns_image;
    gemm.stride_c = y_image;
    gemm_cuda(context, gemm, math, w, columns, y);
    return;
  }
  gemm.count = s.groups;
  gemm.stride_a = s.gemm_m() * s.gemm_k();
  gemm.stride_b = s.gemm_k() * pixels;
  gemm.stride_c = s.gemm_m() * s.gemm_n();
  for (int64_t n = 0; n < images; ++n)
    gemm_cuda(context, gemm, math, w, columns + n * columns_image, y + n * y_image);
}

void enqueue_columns(const Context& context, const ConvShape& s, const ConvStrides& strides,
                     const Im2colConfig& config, Math math, const ConvTensors& t) {
  // Coordinates reach a padding and a dilated kernel beyond the image.
  const int64_t reach =
      std::max({s.H, s.pad_top, s.dil_h * s.R}) * 2 + std::max({s.W, s.pad_left, s.dil_w * s.S}) * 2;
  const bool narrow =
      std::max({s.H * s.W, s.gemm_n() * std::max(s.stride_h, s.stride_w), reach}) < (int64_t{1} << 30);
  const auto kernel = narrow ? im2col_kernel<int32_t> : im2col_kernel<int64_t>;
  const auto columns = static_cast<float*>(t.scratch);
  for (int64_t n = 0; n < s.N; n += config.images_per_gemm) {
    const int64_t images = std::min(config.images_per_gemm, s.N - n);
    for (int64_t first = 0; first < s.gemm_n(); first += config.pixels_per_gemm) {
      const int64_t pixels = std::min(config.pixels_per_gemm, s.gemm_n() - first);
      const Im2colChunk chunk{s, s.Q(), first, pixels, images, strides.x};
      const dim3 grid(static_cast<unsigned>(ceil_div(pixels, kThreads * kPixels)),
                      static_cast<unsigned>(std::min<int64_t>(s.C, 65535)),
                      static_cast<unsigned>(std::min<int64_t>(images, 65535)));
      launch(context, "im2col_kernel", kernel, {grid, kThreads}, chunk, t.x_floats() + n * strides.x,
             columns);
      multiply(context, s, math, images, pixels, columns, s.groups * s.gemm_k() * pixels, t.w,
               t.y_floats() + n * strides.y + first, strides.y);
    }
  }
}

struct Im2colPlan final : ConvPlan {
  ConvShape shape;
  ConvStrides strides;
  Math math = Math::fp32;
  Im2colConfig config;

  void enqueue(const Context* context, const ConvTensors& t) const override {
    if (shape.N == 0 || shape.gemm_n() == 0) return;
    if (!config.is_pointwise) return enqueue_columns(*context, shape, strides, config, math, t);
    multiply(*context, shape, math, shape.N, shape.gemm_n(), t.x_floats(), strides.x, t.w, t.y_floats(),
             strides.y);
  }
};

}  // namespace

std::unique_ptr<ConvPlan> make_im2col_conv(const ConvProblem& problem, const DeviceInfo*,
                                           std::string* why_not) {
  // Columns that fit in the L2 cache save DRAM traffic, larger GEMMs run faster: on the headline model with
  // TF32 an H100 takes 15.7, 12.1, 10.7 and 10.9 ms with 10, 19, 30 and 40 MB.
  constexpr int64_t kColumnTargetBytes = int64_t{32} << 20;
  const auto config =
      choose_im2col_config(problem.shape, problem.workspace_bytes, kColumnTargetBytes, why_not);
  if (!config) return nullptr;
  auto plan = std::make_unique<Im2colPlan>();
  plan->shape = problem.shape;
  plan->strides = problem.strides();
  plan->math = problem.math;
  plan->config = *config;
  plan->words = to_string(*config);
  plan->scratch_bytes = config->workspace_bytes;
  plan->uses_cublas = true;
  plan->predicted_us = predict_im2col_us(problem.shape, problem.math, *config) + conv_pass_us(problem);
  return plan;
}

}  // namespace solder
