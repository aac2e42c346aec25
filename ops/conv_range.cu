// The range guard's own kernels: see ops/conv_range.h.
// All launches of a convolution overlap: each kernel lets the next one start early and waits for the ones
// before it (programmatic dependent launch), which saves about 3 us a call.

#include "ops/conv_epilogue.cuh"
#include "ops/conv_range.h"
#include "runtime/launch.cuh"

namespace solder {
namespace {

constexpr int kGuessThreads = 256;
constexpr int kStrictThreads = 256;
constexpr int kSegmentElems = 32;  // one 128-byte line
constexpr int kNumSegments = kRangeSampleElems / kSegmentElems;

// Places one image's exponent from a fixed sample of it.
//   x [N, image_elems] -> ranges [N]; block n: image n. Images of at most kRangeSampleElems are read whole;
//   of others each warp reads 16 lines, one from each 128th of the image, at a place that no stride can
//   resonate with (a hash of the line's number). Bound by latency: two trips to memory.
__global__ void __launch_bounds__(kGuessThreads)
    conv_range_guess_kernel(const float* x, int64_t image_elems, Math math, ImageRange* ranges) {
  sm90::dependency_launch();
  sm90::dependency_wait();
  const float* image = x + blockIdx.x * image_elems;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  uint32_t max_bits = 0;
  if (image_elems <= kRangeSampleElems) {
#pragma unroll 4
    for (int64_t i = threadIdx.x; i < image_elems; i += kGuessThreads) {
      max_bits = max(max_bits, __float_as_uint(image[i]) & 0x7fffffffu);
    }
  } else {
    constexpr int kPerWarp = kNumSegments / (kGuessThreads / 32);
    const uint64_t room = static_cast<uint64_t>(image_elems / kNumSegments) - kSegmentElems + 1;
#pragma unroll
    for (int i = 0; i < kPerWarp; ++i) {
      const uint32_t segment = static_cast<uint32_t>(warp * kPerWarp + i);
      const uint32_t hash = (segment + 1) * 0x9E3779B1u;
      const uint64_t start =
          segment * static_cast<uint64_t>(image_elems / kNumSegments) + (hash * room >> 32);
      max_bits = max(max_bits, __float_as_uint(image[start + static_cast<uint64_t>(lane)]) & 0x7fffffffu);
    }
  }
  __shared__ uint32_t warp_max[kGuessThreads / 32];
  max_bits = __reduce_max_sync(0xffffffffu, max_bits);
  if (lane == 0) warp_max[warp] = max_bits;
  __syncthreads();
  if (threadIdx.x == 0) {
#pragma unroll
    for (int i = 1; i < kGuessThreads / 32; ++i) max_bits = max(max_bits, warp_max[i]);
    const bool is_usable = max_bits != 0 && max_bits < kNonFiniteBits;
    const uint32_t one = __float_as_uint(1.0f);
    const int exponent = range_exponent(is_usable ? max_bits : one, range_window(math).guess);
    ranges[blockIdx.x] = {exponent, 0};
  }
}

struct StrictParams {
  ConvShape shape;
  int64_t P, Q;
  Math math;
  const float* x;            // [N,C,H,W]
  const float* w;            // [K,C/groups,R,S]
  const ImageRange* ranges;  // [N]
  float* y;                  // [N,K,P,Q]
  ConvEpilogue epilogue;
};

// One output, for the epilogue.
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

__device__ float direct_sum(const StrictParams& p, int64_t n, int64_t k, int64_t row, int64_t col) {
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

// Direct convolution of the images that need it; usually there are none and every block leaves after one look
// at ranges. Output i of an image goes to thread i of the grid. Bound by nothing one would wait for.
__global__ void __launch_bounds__(kStrictThreads) conv_strict_kernel(const __grid_constant__ StrictParams p) {
  sm90::dependency_launch();
  sm90::dependency_wait();
  bool found = false;
  for (int64_t n = threadIdx.x; n < p.shape.N; n += kStrictThreads) {
    found |= range_status(p.ranges[n], p.math) == RangeStatus::strict;
  }
  if (!__syncthreads_or(found)) return;
  const int64_t image_elems = p.shape.K * p.P * p.Q;
  for (int64_t n = 0; n < p.shape.N; ++n) {
    if (range_status(p.ranges[n], p.math) != RangeStatus::strict) continue;
    for (int64_t i = int64_t{blockIdx.x} * kStrictThreads + threadIdx.x; i < image_elems;
         i += int64_t{gridDim.x} * kStrictThreads) {
      const int64_t k = i / (p.P * p.Q), pixel = i % (p.P * p.Q);
      float acc[1] = {direct_sum(p, n, k, pixel / p.Q, pixel % p.Q)};
      const StrictPlace place{static_cast<int>(k), n * image_elems + i};
      run_epilogue<EpilogueChain<ConvChain::interpreted, false>>(p.epilogue, place, acc);
      p.y[n * image_elems + i] = acc[0];
    }
  }
}

}  // namespace

void conv_range_guess(const Context& context, const ConvShape& shape, Math math, const float* x,
                      ImageRange* ranges) {
  const int64_t image_elems = shape.C * shape.H * shape.W;
  launch(
      context, "conv_range_guess_kernel", conv_range_guess_kernel,
      {.grid = dim3(static_cast<unsigned>(shape.N)), .block = dim3(kGuessThreads), .overlaps_previous = true},
      x, image_elems, math, ranges);
}

void conv_strict(const Context& context, const ConvShape& shape, Math math, const float* x, const float* w,
                 const ImageRange* ranges, const ConvEpilogue& epilogue, float* y) {
  const StrictParams params{shape, shape.P(), shape.Q(), math, x, w, ranges, y, epilogue};
  const auto num_blocks = static_cast<unsigned>(context.info().num_sms);
  launch(context, "conv_strict_kernel", conv_strict_kernel,
         {.grid = dim3(num_blocks), .block = dim3(kStrictThreads), .overlaps_previous = true}, params);
}

}  // namespace solder
