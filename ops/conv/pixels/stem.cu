// The layout of a first convolution: x [N,C,H,W] of 16-bit values -> x' [N,H',W',rows*stride_w*C], see is_stem().
//
// Grid: one thread a pixel of x', neighbours along a row: a warp reads runs of x where its columns lie side by side. A
// thread goes through its channels, which all threads do in step, a vector of 8 at a time. Rows and columns outside the
// image are zeros. Values of float32 become scaled ones, by the exponents of their images. Registers: 40. Bound: memory, x once and x' once.

#include "ops/conv/pixels/pixels.h"
#include "ops/conv/range/convert.cuh"
#include "ops/ptx/follow.cuh"
#include "runtime/divide.h"
#include "runtime/launch.cuh"

namespace solder {
namespace {

constexpr int kThreads = 256;
constexpr int kVector = 8;

struct StemParams {
  const void* x;
  uint4* blocks;
  ImageRange* ranges;
  int64_t image;  // strides of x, in elements; within an image every distance fits 32 bits
  int channel, row, column;
  int num_pixels, pixel_vectors, width, height;  // of x'
  int C, H, W, rows, stride_h, stride_w, pad_top, pad_left;
  FastDivisor by_width, by_height;
};

inline __device__ uint32_t bits_of(uint16_t value, float /*scale*/) { return value; }
inline __device__ uint32_t bits_of(float value, float scale) { return pack_halves(value * scale, 0); }

template <class T>
__global__ void __launch_bounds__(kThreads) stem_kernel(const __grid_constant__ StemParams p) {
  follow_previous();
  const int pixel = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (pixel >= p.num_pixels) return;
  const int line = static_cast<int>(p.by_width.divide(pixel)), n = static_cast<int>(p.by_height.divide(line));
  const int top = (line - n * p.height) * p.stride_h - p.pad_top,
            left = (pixel - line * p.width) * p.stride_w - p.pad_left;
  const auto is_in = [](int index, int extent) {
    return static_cast<unsigned>(index) < static_cast<unsigned>(extent);
  };
  const T* const x = static_cast<const T*>(p.x) + n * p.image;
  float scale = 1;
  if constexpr (sizeof(T) == 4) {
    const int exponent = range_exponent(p.ranges[n].max_bits, kTopExponent);
    scale = power_of_two(exponent);
    if (line == n * p.height && pixel == line * p.width) p.ranges[n].exponent = exponent;
  }
  uint4* const to = p.blocks + int64_t{pixel} * p.pixel_vectors;
  // Unsigned, as it may leave the range where nothing is read.
  const unsigned corner = static_cast<unsigned>(top) * static_cast<unsigned>(p.row) +
                          static_cast<unsigned>(left) * static_cast<unsigned>(p.column);
  bool is_row = is_in(top, p.H), is_inside = is_row && is_in(left, p.W);
  int i = 0, j = 0, c = 0, ahead = 0;  // of a block: the same in all threads
  for (int vector = 0; vector < p.pixel_vectors; ++vector) {
    uint32_t words[kVector / 2] = {};
#pragma unroll
    for (int e = 0; e < kVector; ++e) {
      if (i == p.rows) break;  // padding
      const T value = is_inside ? x[static_cast<int>(corner + static_cast<unsigned>(ahead))] : T{0};
      const uint32_t bits = bits_of(value, scale);
      words[e / 2] |= bits << e % 2 * 16;
      ahead += p.channel;
      if (++c < p.C) continue;
      c = 0;
      if (++j == p.stride_w) j = 0, ++i, is_row = is_in(top + i, p.H);
      is_inside = is_row && is_in(left + j, p.W);
      ahead = i * p.row + j * p.column;
    }
    to[vector] = make_uint4(words[0], words[1], words[2], words[3]);
  }
}

}  // namespace

void lay_out_stem(const Context& context, const ConvShape& s, const int64_t (&x_strides)[4], const void* x,
                  void* blocks, ImageRange* ranges) {
  const auto narrow = [](int64_t value) { return static_cast<int>(value); };
  const auto divisor = [](int64_t value) { return FastDivisor(static_cast<uint32_t>(value)); };
  const PixelStrides strides = stem_strides(s);
  const int64_t pixel_vectors = strides.pixel / kVector, width = strides.row / strides.pixel,
                height = strides.image / strides.row;
  StemParams p{};
  p.x = x, p.blocks = static_cast<uint4*>(blocks), p.ranges = ranges;
  p.image = x_strides[0];
  p.channel = narrow(x_strides[1]), p.row = narrow(x_strides[2]), p.column = narrow(x_strides[3]);
  p.num_pixels = narrow(s.N * strides.image / strides.pixel);
  p.pixel_vectors = narrow(pixel_vectors), p.width = narrow(width), p.height = narrow(height);
  p.C = narrow(s.C), p.H = narrow(s.H), p.W = narrow(s.W), p.rows = narrow(stem_rows(s));
  p.stride_h = narrow(s.stride_h), p.stride_w = narrow(s.stride_w);
  p.pad_top = narrow(s.pad_top), p.pad_left = narrow(s.pad_left);
  p.by_width = divisor(width), p.by_height = divisor(height);
  launch(context, "stem_kernel", ranges != nullptr ? stem_kernel<float> : stem_kernel<uint16_t>,
         {.grid = grid_for(p.num_pixels, kThreads), .block = kThreads, .overlaps_previous = true}, p);
}

}  // namespace solder
