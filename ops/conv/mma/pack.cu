// The pass before conv_mma_kernel that converts x.
//   x [N,C,H,W] float32 -> packed x, see MmaInput: float16 in vectors of 8 channels, one or two parts; where filter rows
//   are folded into channels, of x' (see folded())
// Grid: tiles of pixels and up to 64 channels, each of one image. A warp converts 8 channels of 64 pixels, whose runs it
// reads whole, a thread two neighbours; shared memory turns them around, so that vectors of a pixel are written side by
// side. Registers: 48.
// Bound: memory, 4 bytes read and 2 (fp32: 4) written a value. The maxima of images are noted on the way. The repair is
// the same kernel again over the images that the guessed exponent does not fit; it leaves at once where there are none.
// Where the maxima are known before, exponents follow from them, and there is nothing to note or to repair.

#include <algorithm>

#include "ops/conv/mma/launch.h"
#include "ops/conv/range/convert.cuh"
#include "ops/ptx/follow.cuh"
#include "runtime/divide.h"
#include "runtime/launch.cuh"

namespace solder {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32, kWarpPixels = 64, kVector = 8;
constexpr int kTileVectors = kWarps * kWarpPixels;

struct PackParams {
  const float* x;  // images x_image apart
  uint4* packed;
  ImageRange* ranges;  // [N]
  int64_t x_image;
  int64_t image_vectors, part_vectors;
  Math math;
  int N, C, channels, H, W, plane, P;  // channels, plane: of packed x; P: its rows
  int stride_h, dil_h, pad_top;        // of what is folded
  int vectors, block_vectors;          // of a pixel
  int warps_across;                    // warps of a block that have the same pixels
  int tiles_pixels;
  bool is_folded, is_repair, is_known;
  bool by_pairs;  // pixels 2 i and 2 i + 1 of x lie on 8 bytes, as the channels of packed x do
  FastDivisor by_tiles, by_channels, by_w;
};

// The value of packed channel `channel` at a pixel of the packed image.
__device__ __forceinline__ float load_value(const PackParams& p, const float* image, int channel, int pixel) {
  if (pixel >= p.plane || channel >= p.channels) return 0.0f;
  if (!p.is_folded) return __ldg(image + int64_t{channel} * p.plane + pixel);
  const int r = static_cast<int>(p.by_channels.divide(static_cast<uint32_t>(channel)));
  const int row = static_cast<int>(p.by_w.divide(static_cast<uint32_t>(pixel)));
  const int h = row * p.stride_h - p.pad_top + r * p.dil_h;
  if (h < 0 || h >= p.H) return 0.0f;
  return __ldg(image + (int64_t{channel - r * p.C} * p.H + h) * p.W + (pixel - row * p.W));
}

// values[turn][c] = channel `channel` + c of pixel `pixel` + turn * apart; of neighbours by pairs, where all are there.
__device__ __forceinline__ void load_values(const PackParams& p, const float* image, int channel, int pixel,
                                            int apart, float (&values)[2][kVector]) {
  if (apart == 1) {
    const float* const from = image + (int64_t{channel} * p.plane + pixel);
#pragma unroll
    for (int c = 0; c < kVector; ++c) {
      const float2 pair = __ldg(reinterpret_cast<const float2*>(from + int64_t{c} * p.plane));
      values[0][c] = pair.x, values[1][c] = pair.y;
    }
    return;
  }
#pragma unroll
  for (int turn = 0; turn < 2; ++turn)
#pragma unroll
    for (int c = 0; c < kVector; ++c)
      values[turn][c] = load_value(p, image, channel + c, pixel + turn * apart);
}

// Where in shared memory a pixel's vector is: neighbours' stores and whole pixels' loads meet all banks.
__device__ __forceinline__ int place_of(int pixel) { return pixel ^ (pixel >> 3 & 1); }

template <int kParts>
__global__ void __launch_bounds__(kThreads) mma_pack_kernel(const __grid_constant__ PackParams p) {
  // [vector][pixel], vectors so far apart that both ways of going through it meet all banks.
  __shared__ uint4 tile[kParts][kTileVectors + 64];
  __shared__ uint32_t maxima[kWarps];
  follow_previous();
  if (p.is_repair) {
    bool found = false;
    for (int n = static_cast<int>(threadIdx.x); n < p.N; n += kThreads)
      found |= range_status(p.ranges[n], p.math) == RangeStatus::rescale;
    if (!__syncthreads_or(found)) return;
  }
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int across = p.warps_across, pixels = kTileVectors / across, pitch = pixels + kWarps / across;
  const int first_vector = static_cast<int>(blockIdx.y) * across, mine = warp % across;
  const int num_tiles = p.tiles_pixels * p.N;
#pragma unroll 1
  for (int at = static_cast<int>(blockIdx.x); at < num_tiles; at += static_cast<int>(gridDim.x)) {
    const int n = static_cast<int>(p.by_tiles.divide(static_cast<uint32_t>(at)));
    const ImageRange range = p.ranges[n];
    if (p.is_repair && range_status(range, p.math) != RangeStatus::rescale) continue;
    const bool is_exact = p.is_repair || p.is_known;
    const int exponent = is_exact ? exact_exponent(range.max_bits, p.math) : range.exponent;
    const float scale = power_of_two(exponent), *const image = p.x + n * p.x_image;
    const int first_pixel = (at - n * p.tiles_pixels) * pixels;
    const bool is_whole =
        p.by_pairs && first_pixel + pixels <= p.plane && (first_vector + across) * kVector <= p.channels;
    const int apart = is_whole ? 1 : 32, in_tile = warp / across * kWarpPixels + lane * (is_whole ? 2 : 1);
    uint32_t max_bits = 0;
    float values[2][kVector];
    load_values(p, image, (first_vector + mine) * kVector, first_pixel + in_tile, apart, values);
    __syncthreads();  // the last tile has been written
#pragma unroll
    for (int turn = 0; turn < 2; ++turn) {
      uint4 parts[2];
      split_values<kParts>(values[turn], scale, parts);
#pragma unroll
      for (int part = 0; part < kParts; ++part)
        tile[part][mine * pitch + place_of(in_tile + turn * apart)] = parts[part];
#pragma unroll
      for (int c = 0; c < kVector; ++c)
        max_bits = max(max_bits, __float_as_uint(values[turn][c]) & 0x7fffffffu);
    }
    max_bits = largest_of_warp(max_bits);
    if (lane == 0) maxima[warp] = max_bits;
    __syncthreads();
    if (p.is_known && threadIdx.x == 0 && first_pixel == 0) p.ranges[n].exponent = exponent;
    if (!is_exact && threadIdx.x == 0) {
#pragma unroll
      for (int i = 1; i < kWarps; ++i) max_bits = max(max_bits, maxima[i]);
      if (max_bits != 0) atomicMax(&p.ranges[n].max_bits, max_bits);
    }
#pragma unroll
    for (int turn = 0; turn < kTileVectors / kThreads; ++turn) {
      const int i = static_cast<int>(threadIdx.x) + turn * kThreads;
      const int q = i / across, pixel = first_pixel + q, vector = first_vector + i % across;
      if (pixel >= p.plane || vector >= p.vectors) continue;
      const int block = p.block_vectors == 4 ? vector / 4 : 0, in_block = vector - block * 4;
      uint4* const to =
          p.packed + (n * p.image_vectors + (int64_t{block} * p.plane + pixel) * p.block_vectors + in_block);
#pragma unroll
      for (int part = 0; part < kParts; ++part)
        to[part * p.part_vectors] = tile[part][i % across * pitch + place_of(q)];
    }
  }
}

}  // namespace

void mma_pack_x(const Context& context, const ConvShape& s, const ConvStrides& strides, Math math,
                bool is_folded, const MmaInput& to, const float* x, ImageRange* ranges, void* packed,
                bool is_known) {
  const ConvShape f = is_folded ? folded(s) : s;
  const auto narrow = [](int64_t value) { return static_cast<int>(value); };
  const auto divisor = [](int64_t value) { return FastDivisor(static_cast<uint32_t>(value)); };
  PackParams p{};
  p.x = x, p.packed = static_cast<uint4*>(packed), p.ranges = ranges;
  p.x_image = strides.x, p.image_vectors = to.image, p.part_vectors = to.part;
  p.math = math;
  p.N = narrow(s.N), p.C = narrow(s.C), p.channels = narrow(f.C), p.H = narrow(s.H), p.W = narrow(s.W);
  p.plane = narrow(f.H * f.W), p.P = narrow(f.H);
  p.stride_h = narrow(s.stride_h), p.dil_h = narrow(s.dil_h), p.pad_top = narrow(s.pad_top);
  p.vectors = narrow(ceil_div(f.C, kVector)), p.block_vectors = narrow(to.block_vectors);
  p.warps_across = kWarps;
  while (p.warps_across > 1 && p.warps_across / 2 >= p.vectors) p.warps_across /= 2;
  const int64_t pixels = kTileVectors / p.warps_across;
  p.tiles_pixels = narrow(ceil_div(p.plane, pixels));
  p.is_folded = is_folded, p.is_known = is_known;
  p.by_pairs =
      !is_folded && p.plane % 2 == 0 && strides.x % 2 == 0 && reinterpret_cast<uintptr_t>(x) % 8 == 0;
  p.by_tiles = divisor(p.tiles_pixels), p.by_channels = divisor(s.C), p.by_w = divisor(s.W);
  const auto kernel = math == Math::fp32 ? mma_pack_kernel<2> : mma_pack_kernel<1>;
  const int64_t num_tiles = int64_t{p.tiles_pixels} * s.N, across = ceil_div(p.vectors, p.warps_across);
  LaunchConfig grid{.grid = dim3(static_cast<unsigned>(num_tiles), static_cast<unsigned>(across)),
                    .block = dim3(kThreads),
                    .overlaps_previous = true};
  launch(context, "mma_pack_kernel", kernel, grid, p);
  if (is_known) return;
  // Almost always there is nothing to redo: few blocks leave sooner than many.
  grid.grid.x = static_cast<unsigned>(std::clamp<int64_t>(context.info().num_sms * 2 / across, 1, num_tiles));
  p.is_repair = true;
  launch(context, "mma_pack_kernel (repair)", kernel, grid, p);
}

}  // namespace solder
