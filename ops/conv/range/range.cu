// The range guard's own kernels.
// All launches of a convolution overlap: each kernel lets the next one start early and waits for the ones
// before it (programmatic dependent launch), which saves about 3 us a call.

#include <algorithm>

#include "ops/conv/epilogue/epilogue.h"
#include "ops/conv/range/convert.cuh"
#include "ops/conv/range/range.h"
#include "ops/conv/range/strict.cuh"
#include "ops/ptx/follow.cuh"
#include "runtime/divide.h"
#include "runtime/launch.cuh"

namespace solder {
namespace {

constexpr int kGuessThreads = 256;
constexpr int kStrictThreads = 256;
constexpr int kSegmentElems = 32;  // one 128-byte line
constexpr int kNumSegments = kRangeSampleElems / kSegmentElems;

// Places one image's exponent from a fixed sample of it.
//   x [N, image_elems], images x_image apart -> ranges [N]; block n: image n. Images of at most kRangeSampleElems are
//   read whole; of others each warp reads 16 lines, one from each 128th of the image, at a place that no stride can
//   resonate with (a hash of the line's number). Bound by latency: two trips to memory.
__global__ void __launch_bounds__(kGuessThreads)
    conv_range_guess_kernel(const float* x, int64_t x_image, int64_t image_elems, Math math,
                            ImageRange* ranges) {
  follow_previous();
  const float* image = x + blockIdx.x * x_image;
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
  max_bits = largest_of_warp(max_bits);
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

// The maxima of whole images, of what lies below `end` by its bits: x [N, image_elems], images x_image apart -> ranges
// [N].max_bits, 0 before. Block (b, n):
// every gridDim.x-th run of kGuessThreads vectors of image n. Bound by reading x.
__global__ void __launch_bounds__(kGuessThreads)
    conv_range_find_kernel(const float* x, int64_t x_image, int64_t image_elems, int64_t N, uint32_t end,
                           ImageRange* ranges) {
  follow_previous();
  __shared__ uint32_t block_max;
  for (int64_t n = blockIdx.y; n < N; n += gridDim.y) {
    const float* image = x + n * x_image;
    uint32_t max_bits = 0;
    const auto see = [&](float value) {
      const uint32_t bits = __float_as_uint(value) & 0x7fffffffu;
      max_bits = max(max_bits, bits < end ? bits : 0);
    };
    const int64_t first = int64_t{blockIdx.x} * kGuessThreads + threadIdx.x,
                  step = int64_t{gridDim.x} * kGuessThreads;
    const bool is_aligned = reinterpret_cast<uintptr_t>(image) % sizeof(float4) == 0;
    const int64_t num_vectors = is_aligned ? image_elems / 4 : 0;
#pragma unroll 4
    for (int64_t i = first; i < num_vectors; i += step) {
      const float4 four = __ldg(reinterpret_cast<const float4*>(image) + i);
      see(four.x), see(four.y), see(four.z), see(four.w);
    }
#pragma unroll 4
    for (int64_t i = num_vectors * 4 + first; i < image_elems; i += step) see(__ldg(image + i));
    if (threadIdx.x == 0) block_max = 0;
    __syncthreads();
    atomicMax(&block_max, max_bits);
    __syncthreads();
    if (threadIdx.x == 0 && block_max != 0) atomicMax(&ranges[n].max_bits, block_max);
  }
}

// Direct convolution of the images that need it; usually there are none and every block leaves after one look
// at ranges.
__global__ void __launch_bounds__(kStrictThreads)
    conv_strict_kernel(const __grid_constant__ StrictParams p,
                       const __grid_constant__ ConvEpilogue epilogue) {
  follow_previous();
  bool found = false;
  for (int64_t n = threadIdx.x; n < p.shape.N; n += kStrictThreads) {
    found |= range_status(p.ranges[n], p.math) == RangeStatus::strict;
  }
  if (__syncthreads_or(found)) direct_images(p, epilogue);
}

}  // namespace

void conv_range_guess(const Context& context, const ConvShape& shape, const ConvStrides& strides, Math math,
                      const float* x, ImageRange* ranges) {
  const int64_t image_elems = shape.C * shape.H * shape.W;
  launch(
      context, "conv_range_guess_kernel", conv_range_guess_kernel,
      {.grid = dim3(static_cast<unsigned>(shape.N)), .block = dim3(kGuessThreads), .overlaps_previous = true},
      x, strides.x, image_elems, math, ranges);
}

void conv_range_find(const Context& context, const ConvShape& shape, const ConvStrides& strides,
                     const float* x, ImageRange* ranges, bool of_finite) {
  const int64_t image_elems = shape.C * shape.H * shape.W;
  if (image_elems == 0) return;
  // Enough blocks to fill the device twice, of at least 16 elements a thread.
  const int64_t wanted = ceil_div(int64_t{context.info().num_sms} * (2048 / kGuessThreads) * 2, shape.N);
  const int64_t blocks = std::clamp<int64_t>(wanted, 1, ceil_div(image_elems, kGuessThreads * 16));
  launch(
      context, "conv_range_find_kernel", conv_range_find_kernel,
      {.grid = dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(std::min<int64_t>(shape.N, 65535))),
       .block = dim3(kGuessThreads),
       .overlaps_previous = true},
      x, strides.x, image_elems, shape.N, of_finite ? kNonFiniteBits : ~0u, ranges);
}

void conv_strict(const Context& context, const ConvShape& shape, const ConvStrides& strides, Math math,
                 const float* x, const float* w, const ImageRange* ranges, const ConvEpilogue& epilogue,
                 float* y) {
  launch(context, "conv_strict_kernel", conv_strict_kernel,
         {.grid = dim3(static_cast<unsigned>(context.info().num_sms)),
          .block = dim3(kStrictThreads),
          .overlaps_previous = true},
         strict_params(shape, strides, math, x, w, ranges, y), epilogue);
}

}  // namespace solder
