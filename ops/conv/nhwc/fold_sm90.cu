// Filter rows folded into channels: x [N,C,H,W] of 16-bit values -> x' [N,P,W,R*C], see folded().
//
// Grid: one thread a pixel of x' and 8 of its channels, which it gathers from up to 8 rows of x and stores as 16
// bytes; neighbours are neighbouring pixels, so that a warp reads runs. Rows that lie outside the image are zeros.
// Registers: 40. Bound: memory, x' once; x comes from caches but for the first of its R / stride_h times.

#include "ops/conv/nhwc/launch.h"
#include "ops/ptx/sm90.cuh"
#include "runtime/divide.h"
#include "runtime/launch.cuh"

namespace solder {
namespace {

constexpr int kThreads = 256;
constexpr int kVector = 8;

struct FoldParams {
  const uint16_t* x;
  uint4* folded;
  int64_t strides[4];
  int64_t num_vectors;
  int C, H, W, P, stride_h, dil_h, pad_top, num_channels, vectors;  // channels of x', and vectors of a pixel
  FastDivisor by_c, by_p, by_w, by_vectors;
};

__global__ void __launch_bounds__(kThreads) fold_rows_kernel(const __grid_constant__ FoldParams p) {
  sm90::dependency_launch();
  sm90::dependency_wait();
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= p.num_vectors) return;
  const auto idx = static_cast<uint32_t>(index);
  const uint32_t pixel = p.by_vectors.divide(idx), vector = idx - pixel * p.vectors;
  const uint32_t row = p.by_w.divide(pixel), j = pixel - row * p.W;
  const uint32_t n = p.by_p.divide(row), top = (row - n * p.P) * p.stride_h;
  const uint16_t* const x = p.x + n * p.strides[0] + j * p.strides[3];
  uint32_t words[kVector / 2] = {};
#pragma unroll
  for (int e = 0; e < kVector; ++e) {
    const uint32_t channel = vector * kVector + e, r = p.by_c.divide(channel), c = channel - r * p.C;
    const int i = static_cast<int>(top + r * p.dil_h) - p.pad_top;
    const bool is_inside = channel < p.num_channels && i >= 0 && i < p.H;
    const uint32_t bits = is_inside ? x[c * p.strides[1] + i * p.strides[2]] : 0;
    words[e / 2] |= bits << e % 2 * 16;
  }
  p.folded[index] = make_uint4(words[0], words[1], words[2], words[3]);
}

}  // namespace

void fold_rows_cuda(const Context& context, const ConvShape& s, const int64_t (&x_strides)[4], const void* x,
                    void* folded) {
  const auto narrow = [](int64_t value) { return static_cast<int>(value); };
  const auto divisor = [](int64_t value) { return FastDivisor(static_cast<uint32_t>(value)); };
  FoldParams p{};
  p.x = static_cast<const uint16_t*>(x), p.folded = static_cast<uint4*>(folded);
  for (int i = 0; i < 4; ++i) p.strides[i] = x_strides[i];
  p.num_channels = narrow(s.R * s.C), p.vectors = narrow(ceil_div(s.R * s.C, kVector));
  p.num_vectors = s.N * s.P() * s.W * p.vectors;
  p.C = narrow(s.C), p.H = narrow(s.H), p.W = narrow(s.W), p.P = narrow(s.P());
  p.stride_h = narrow(s.stride_h), p.dil_h = narrow(s.dil_h), p.pad_top = narrow(s.pad_top);
  p.by_c = divisor(s.C), p.by_p = divisor(s.P()), p.by_w = divisor(s.W), p.by_vectors = divisor(p.vectors);
  launch(context, "fold_rows_kernel", fold_rows_kernel,
         {.grid = grid_for(p.num_vectors, kThreads), .block = kThreads, .overlaps_previous = true}, p);
}

}  // namespace solder
