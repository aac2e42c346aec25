// The layout of a first convolution: x [N,C,H,W] of 16-bit values -> x' [N,H',W',stride_h*stride_w*C], see is_stem().
//
// Grid: one thread a vector of 8 channels of x', neighbours along a pixel and then a row: a warp writes one run, and
// reads runs of x where its columns lie side by side. Rows and columns outside the image are zeros. Registers: 40.
// Bound: memory, x once and x' once.

#include "ops/conv/nhwc/launch.h"
#include "ops/ptx/follow.cuh"
#include "runtime/divide.h"
#include "runtime/launch.cuh"

namespace solder {
namespace {

constexpr int kThreads = 256;
constexpr int kVector = 8;

struct StemParams {
  const uint16_t* x;
  uint4* blocks;
  int64_t image, channel, row, column;  // strides of x
  int num_vectors, C, H, W, stride_h, stride_w, pad_top, pad_left;
  FastDivisor by_pixel, by_width, by_height, by_row, by_channels;  // by_row: of a block, stride_w * C
};

__global__ void __launch_bounds__(kThreads) stem_kernel(const __grid_constant__ StemParams p, int pixel_vectors,
                                                        int width, int height) {
  follow_previous();
  const int vector = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (vector >= p.num_vectors) return;
  const int pixel = static_cast<int>(p.by_pixel.divide(vector)), line = static_cast<int>(p.by_width.divide(pixel));
  const int n = static_cast<int>(p.by_height.divide(line));
  const int top = (line - n * height) * p.stride_h - p.pad_top, left = (pixel - line * width) * p.stride_w - p.pad_left;
  const int first = (vector - pixel * pixel_vectors) * kVector;
  int i = static_cast<int>(p.by_row.divide(first)), rest = first - i * p.stride_w * p.C;
  int j = static_cast<int>(p.by_channels.divide(rest)), c = rest - j * p.C;
  const uint16_t* const x = p.x + n * p.image;
  uint32_t words[kVector / 2] = {};
#pragma unroll
  for (int e = 0; e < kVector; ++e) {
    const int h = top + i, w = left + j;
    const bool is_inside = i < p.stride_h && h >= 0 && h < p.H && w >= 0 && w < p.W;
    const uint32_t bits = is_inside ? x[c * p.channel + h * p.row + w * p.column] : 0;
    words[e / 2] |= bits << e % 2 * 16;
    if (++c == p.C) c = 0, ++j;
    if (j == p.stride_w) j = 0, ++i;
  }
  p.blocks[vector] = make_uint4(words[0], words[1], words[2], words[3]);
}

}  // namespace

void lay_out_stem_cuda(const Context& context, const ConvShape& s, const int64_t (&x_strides)[4], const void* x,
                       void* blocks) {
  const auto narrow = [](int64_t value) { return static_cast<int>(value); };
  const auto divisor = [](int64_t value) { return FastDivisor(static_cast<uint32_t>(value)); };
  const NhwcStrides strides = stem_strides(s);
  const int64_t pixel_vectors = strides.pixel / kVector, width = strides.row / strides.pixel,
                height = strides.image / strides.row;
  StemParams p{};
  p.x = static_cast<const uint16_t*>(x), p.blocks = static_cast<uint4*>(blocks);
  p.image = x_strides[0], p.channel = x_strides[1], p.row = x_strides[2], p.column = x_strides[3];
  p.num_vectors = narrow(s.N * strides.image / kVector);
  p.C = narrow(s.C), p.H = narrow(s.H), p.W = narrow(s.W);
  p.stride_h = narrow(s.stride_h), p.stride_w = narrow(s.stride_w);
  p.pad_top = narrow(s.pad_top), p.pad_left = narrow(s.pad_left);
  p.by_pixel = divisor(pixel_vectors), p.by_width = divisor(width), p.by_height = divisor(height);
  p.by_row = divisor(s.stride_w * s.C), p.by_channels = divisor(s.C);
  launch(context, "stem_kernel", stem_kernel,
         {.grid = grid_for(p.num_vectors, kThreads), .block = kThreads, .overlaps_previous = true}, p,
         narrow(pixel_vectors), narrow(width), narrow(height));
}

}  // namespace solder
