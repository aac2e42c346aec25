// Filter rows folded into channels: x [N,C,H,W] of 16-bit values -> x' [N,P,W,R*C], see folded().
//
// Grid: one thread a pixel of x', neighbours along a row: a warp reads runs of x where its columns lie side by side, and
// writes one run. A thread goes through its R*C channels, which all threads do in step, 16 bytes of them at a time. Rows
// outside the image are zeros. Registers: 40. Bound: memory, x' once; x comes from caches but for the first of its
// R / stride_h times.

#include "ops/conv/nhwc/launch.h"
#include "ops/ptx/follow.cuh"
#include "runtime/divide.h"
#include "runtime/launch.cuh"

namespace solder {
namespace {

constexpr int kThreads = 256;
constexpr int kVector = 8;

struct FoldParams {
  const uint16_t* x;
  uint4* folded;
  int64_t image, channel, row, column;                                   // strides of x
  int num_pixels, C, R, H, W, P, stride_h, dil_h, pad_top, num_vectors;  // vectors of a pixel
  FastDivisor by_p, by_w;
};

__global__ void __launch_bounds__(kThreads) fold_rows_kernel(const __grid_constant__ FoldParams p) {
  follow_previous();
  const int pixel = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (pixel >= p.num_pixels) return;
  const int line = static_cast<int>(p.by_w.divide(pixel)), n = static_cast<int>(p.by_p.divide(line));
  const int top = (line - n * p.P) * p.stride_h - p.pad_top;
  const uint16_t* const x = p.x + (n * p.image + top * p.row + (pixel - line * p.W) * p.column);
  int r = 0, c = 0;
  for (int vector = 0; vector < p.num_vectors; ++vector) {
    uint32_t words[kVector / 2] = {};
#pragma unroll
    for (int e = 0; e < kVector; ++e) {
      const int down = r * p.dil_h, i = top + down;
      const uint32_t bits = r < p.R && i >= 0 && i < p.H ? x[down * p.row + c * p.channel] : 0;
      words[e / 2] |= bits << e % 2 * 16;
      if (++c == p.C) c = 0, ++r;
    }
    p.folded[int64_t{pixel} * p.num_vectors + vector] = make_uint4(words[0], words[1], words[2], words[3]);
  }
}

}  // namespace

void fold_rows_cuda(const Context& context, const ConvShape& s, const int64_t (&x_strides)[4], const void* x,
                    void* folded) {
  const auto narrow = [](int64_t value) { return static_cast<int>(value); };
  const auto divisor = [](int64_t value) { return FastDivisor(static_cast<uint32_t>(value)); };
  FoldParams p{};
  p.x = static_cast<const uint16_t*>(x), p.folded = static_cast<uint4*>(folded);
  p.image = x_strides[0], p.channel = x_strides[1], p.row = x_strides[2], p.column = x_strides[3];
  p.num_pixels = narrow(s.N * s.P() * s.W), p.num_vectors = narrow(ceil_div(s.R * s.C, kVector));
  p.C = narrow(s.C), p.R = narrow(s.R), p.H = narrow(s.H), p.W = narrow(s.W), p.P = narrow(s.P());
  p.stride_h = narrow(s.stride_h), p.dil_h = narrow(s.dil_h), p.pad_top = narrow(s.pad_top);
  p.by_p = divisor(s.P()), p.by_w = divisor(s.W);
  launch(context, "fold_rows_kernel", fold_rows_kernel,
         {.grid = grid_for(p.num_pixels, kThreads), .block = kThreads, .overlaps_previous = true}, p);
}

}  // namespace solder
