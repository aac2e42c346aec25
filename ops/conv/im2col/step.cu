// What runs between cuBLAS's kernels, in one launch: blocks that build the columns of the next chunk, and among them
// blocks that finish the sums of the last one: undo the scales, add the bias, run the chain. Neither waits for the
// other.
//
// Columns: a thread owns two neighbouring pixels of a block of columns (one filter row; where rows are shared one row
// of x) and walks a slice of a group's channels, a 4-byte store a tap (float32: 8). Sums: a thread owns a pixel and
// kChannels output channels, whose scales and biases lie in shared memory. Bound by instructions first, then by the L2
// cache, which columns and sums do not leave, and by writing y.

#include <cuda_fp16.h>

#include <algorithm>

#include "ops/conv/epilogue/epilogue.cuh"
#include "ops/conv/im2col/params.cuh"
#include "ops/ptx/follow.cuh"
#include "runtime/divide.h"
#include "runtime/launch.cuh"

namespace solder {
namespace im2col {
namespace {

constexpr int kThreads = 256;
constexpr int kPixels = 2;                     // a thread that builds
constexpr int kTaps = 4;                       // loads of a pixel under way where it is at an edge
constexpr int kChannels = kIm2colSumChannels;  // a thread that finishes

__device__ inline void store_pair(float* columns, float a, float b) {
  *reinterpret_cast<float2*>(columns) = make_float2(a, b);
}
__device__ inline void store_pair(__half* columns, float a, float b) {
  *reinterpret_cast<__half2*>(columns) = __floats2half2_rn(a, b);
}

/// Three taps side by side of two pixels side by side, which share what they load. w0: the first tap's column in x;
/// W: 0 where the row lies outside x.
template <class T, class Index>
__device__ void build_neighbours(const StepParams<Index>& p, const float* in, uint32_t w0, uint32_t W,
                                 float scale, T* out, Index channels) {
  const Index width = static_cast<Index>(p.step.build.width);
  bool is_inside[4];
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i) is_inside[i] = w0 + i < W;
#pragma unroll 4
  for (Index c = 0; c < channels; ++c) {
    float v[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] = is_inside[i] ? __ldg(in + i) : 0.0f;
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] *= scale;
    store_pair(out, v[0], v[1]);
    store_pair(out + width, v[1], v[2]);
    store_pair(out + 2 * width, v[2], v[3]);
    in += p.plane_elems;
    out += p.channel_stride;
  }
}

template <class T, class Index>
__device__ void build_columns(const StepParams<Index>& p, Index block) {
  const ConvShape& s = p.shape;
  Index slice, pair, r, group_slice;
  const Index entry = p.by_build_slices.divide(block, &slice) * kThreads + static_cast<Index>(threadIdx.x);
  if (entry >= p.num_pairs) return;
  const Index j = p.by_pairs.divide(entry, &pair);
  const Index row = p.by_blocks_per_row.divide(j, &r);
  const Index group = p.by_group_slices.divide(slice, &group_slice);
  const Index first_c = group_slice * p.slice_channels;
  const Index channels = min(p.slice_channels, p.group_channels - first_c);
  const Index S = static_cast<Index>(s.S), dil_w = static_cast<Index>(s.dil_w);
  Place<Index> at[kPixels];
  bool is_pixel[kPixels];     // others are never looked at
  const float* src[kPixels];  // the first tap's value of the first channel, which need not exist
  uint32_t w0[kPixels];       // its column, negative ones beyond all
  uint32_t W[kPixels];        // 0: the row lies outside x
  float scale[kPixels];
#pragma unroll
  for (int i = 0; i < kPixels; ++i) {
    const Index pixel = pair * kPixels + i;
    is_pixel[i] = pixel < static_cast<Index>(p.step.build.num_pixels);
    at[i] = locate(p, p.step.build, row, pixel);
    const Index h = at[i].p * static_cast<Index>(s.stride_h) + r * static_cast<Index>(s.dil_h) -
                    static_cast<Index>(s.pad_top);
    const Index w = at[i].q * static_cast<Index>(s.stride_w) - static_cast<Index>(s.pad_left);
    const bool is_row = is_pixel[i] && h >= 0 && h < static_cast<Index>(s.H);
    w0[i] = static_cast<uint32_t>(w);
    W[i] = is_row ? static_cast<uint32_t>(s.W) : 0;
    src[i] = p.step.x;
    scale[i] = 1;
    if (!is_row) continue;
    src[i] += at[i].n * p.strides.x + (group * p.group_channels + first_c) * int64_t{p.plane_elems} +
              (h * static_cast<Index>(s.W) + w);
    if (p.step.ranges != nullptr) scale[i] = power_of_two(image_exponent(p, at[i].n));
  }
  T* out = static_cast<T*>(p.step.columns) + j * int64_t{p.block_stride} + group * int64_t{p.group_stride} +
           first_c * int64_t{p.channel_stride} + pair * kPixels;
  const bool are_neighbours = !is_pixel[1] || at[1].q > at[0].q;
  if (S == 3 && dil_w == 1 && s.stride_w == 1 && are_neighbours)
    return build_neighbours(p, src[0], w0[0], W[0], scale[0], out, channels);

  const Index width = static_cast<Index>(p.step.build.width), num_taps = channels * S;
  Index t = 0, offset = 0;  // of the tap under way in its row; of its values from src
#pragma unroll 1
  for (Index first = 0; first < num_taps; first += kTaps) {
    float values[kTaps][kPixels];
    T* to[kTaps];
#pragma unroll
    for (int tap = 0; tap < kTaps; ++tap) {
      const Index shift = t * dil_w;
#pragma unroll
      for (int i = 0; i < kPixels; ++i) {
        const bool is_inside = first + tap < num_taps && w0[i] + static_cast<uint32_t>(shift) < W[i];
        values[tap][i] = is_inside ? __ldg(src[i] + (offset + shift)) * scale[i] : 0.0f;
      }
      to[tap] = out;
      out += width;
      if (++t < S) continue;
      t = 0;
      offset += p.plane_elems;
      out += p.channel_stride - S * width;
    }
#pragma unroll
    for (int tap = 0; tap < kTaps; ++tap)
      if (first + tap < num_taps) store_pair(to[tap], values[tap][0], values[tap][1]);
  }
}

/// Where a thread's sums belong in y: one pixel of neighbouring channels, the last of them again beyond all.
template <class Index>
struct SumPlace {
  int64_t first;  ///< offset of the first in its image
  Index plane_elems;
  int last;

  template <int N>
  __device__ void load(const float* image, float (&values)[N]) const {
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] = __ldg(image + first + min(i, last) * plane_elems);
  }
};

template <bool kScaled, class Index>
__device__ void finish_sums(const StepParams<Index>& p, Index block) {
  const Im2colChunk& chunk = p.step.finish;
  const Index K = static_cast<Index>(p.shape.K), width = static_cast<Index>(chunk.width);
  Index slice, pixel;
  const Index entry = p.by_finish_slices.divide(block, &slice) * kThreads + static_cast<Index>(threadIdx.x);
  const Index row = p.by_width.divide(entry, &pixel);
  const bool is_pixel = entry < p.num_sums && pixel < static_cast<Index>(chunk.num_pixels);
  const Index k = slice * kChannels;
  const int last = static_cast<int>(min(Index{kChannels}, K - k)) - 1;
  const float* sums =
      p.step.sums + ((row * static_cast<Index>(padded_channels(K)) + k) * int64_t{width} + pixel);
  float acc[kChannels];
  if (is_pixel) {
#pragma unroll
    for (int i = 0; i < kChannels; ++i) acc[i] = sums[min(i, last) * width];
  }
  __shared__ float scales[kChannels], biases[kChannels];
  if (threadIdx.x < kChannels) {
    const Index mine = min(k + static_cast<Index>(threadIdx.x), K - 1);
    // NOTE: weights are within [2^-100, 2^60], so that sum * 2^-exponent neither overflows nor loses bits.
    if constexpr (kScaled) scales[threadIdx.x] = power_of_two(-p.step.exponents[mine]);
    biases[threadIdx.x] = epilogue_bias(p.epilogue, static_cast<int>(mine));
  }
  const Place<Index> at = locate(p, chunk, row, pixel);
  const float scale = kScaled && is_pixel ? power_of_two(-image_exponent(p, at.n)) : 1.0f;
  __syncthreads();
  if (!is_pixel) return;
  using Chain = EpilogueChain<ConvChain::any, kScaled>;
#pragma unroll
  for (int i = 0; i < kChannels; ++i) {
    if constexpr (kScaled) acc[i] *= scales[i];
    acc[i] = scale_and_bias<Chain>(acc[i], scale, biases[i]);
  }
  const SumPlace<Index> place{k * int64_t{p.y_plane_elems} + (at.p * p.Q + at.q), p.y_plane_elems, last};
  ConvEpilogue epilogue = p.epilogue;
  epilogue.residual += at.n * epilogue.residual_image;
  run_epilogue<Chain>(epilogue, place, acc);
  float* const y = p.step.y + at.n * p.strides.y + place.first;
  if (last == kChannels - 1) {
#pragma unroll
    for (int i = 0; i < kChannels; ++i) y[i * p.y_plane_elems] = acc[i];
  } else {  // apart, or each of the stores above would get a branch
#pragma unroll
    for (int i = 0; i < kChannels - 1; ++i)
      if (i <= last) y[i * p.y_plane_elems] = acc[i];
  }
}

/// T: of columns, float16 (scaled, fast chains) or float32. Block b of the grid builds where build_share puts a whole
/// number between b and b + 1.
template <class T, class Index>
__global__ void __launch_bounds__(kThreads) im2col_step_kernel(const __grid_constant__ StepParams<Index> p) {
  follow_previous();
  const Index before = static_cast<Index>(blockIdx.x * p.build_share >> 32);
  if (static_cast<Index>((blockIdx.x + 1) * p.build_share >> 32) != before)
    build_columns<T>(p, before);
  else
    finish_sums<sizeof(T) == 2>(p, static_cast<Index>(blockIdx.x) - before);
}

template <class Index>
void launch_step(const Context& context, const ConvShape& s, const ConvStrides& strides,
                 const Im2colConfig& config, const ConvEpilogue& epilogue, const Im2colStep& step) {
  const auto index = [](int64_t n) { return static_cast<Index>(n); };
  const auto divisor = [](int64_t n) { return IndexDivisor<Index>(std::max<int64_t>(n, 1)); };
  const Im2colLayout layout = im2col_layout(s, config, step.build.num_rows, step.build.width);
  const int64_t pairs = step.build.num_rows == 0 ? 0 : layout.num_blocks * (step.build.width / kPixels);
  const int64_t sums = step.finish.num_rows * step.finish.width, group_channels = s.C / s.groups;
  // Half as many blocks as the device holds: finding a thread's pixels costs as much as six channels of columns.
  const int64_t wanted = int64_t{context.info().num_sms} * (2048 / kThreads) / 2;
  const int64_t pair_blocks = ceil_div(pairs, kThreads);
  const int64_t most_slices =
      std::clamp<int64_t>(wanted / std::max<int64_t>(pair_blocks * s.groups, 1), 1, group_channels);
  const int64_t slice_channels = ceil_div(group_channels, most_slices);
  const int64_t group_slices = ceil_div(group_channels, slice_channels),
                finish_slices = ceil_div(s.K, kChannels);
  const int64_t build_blocks = pair_blocks * group_slices * s.groups;
  const int64_t all_blocks = build_blocks + ceil_div(sums, kThreads) * finish_slices;
  StepParams<Index> p{.shape = s,
                      .strides = strides,
                      .step = step,
                      .math = config.math,
                      .shares_rows = config.shares_rows,
                      .Q = index(s.Q()),
                      .plane_elems = index(s.H * s.W),
                      .y_plane_elems = index(s.gemm_n()),
                      .group_channels = index(group_channels),
                      .block_stride = index(layout.block_stride),
                      .channel_stride = index(layout.channel_stride),
                      .group_stride = index(layout.group_stride),
                      .by_image = divisor(s.gemm_n()),
                      .by_row = divisor(s.Q()),
                      .by_blocks_per_row = divisor(layout.blocks_per_row),
                      .by_pairs = divisor(step.build.width / kPixels),
                      .by_width = divisor(step.finish.width),
                      .by_build_slices = divisor(group_slices * s.groups),
                      .by_group_slices = divisor(group_slices),
                      .by_finish_slices = divisor(finish_slices),
                      .slice_channels = index(slice_channels),
                      .num_pairs = index(pairs),
                      .num_sums = index(sums),
                      .epilogue = epilogue};
  const unsigned grid = grid_for(all_blocks, 1);
  p.build_share = ((static_cast<uint64_t>(build_blocks) << 32) + grid - 1) / grid;
  const auto kernel = config.is_half ? im2col_step_kernel<__half, Index> : im2col_step_kernel<float, Index>;
  launch(context, "im2col_step_kernel", kernel, {.grid = grid, .block = kThreads, .overlaps_previous = true},
         p);
}

}  // namespace
}  // namespace im2col

void im2col_step(const Context& context, const ConvShape& s, const ConvStrides& strides,
                 const Im2colConfig& config, const ConvEpilogue& epilogue, const Im2colStep& step) {
  // Coordinates reach a padding and a dilated kernel beyond the image.
  const Im2colLayout layout = im2col_layout(s, config, config.rows_per_gemm, config.width);
  const int64_t most =
      std::max({s.H + s.dil_h * s.R + std::abs(s.pad_top), s.W + s.dil_w * s.S + std::abs(s.pad_left),
                s.P() * s.stride_h, s.Q() * s.stride_w, s.C * s.H * s.W, s.N * s.gemm_n() + config.width,
                layout.group_stride * s.groups, config.rows_per_gemm * config.width * padded_channels(s.K),
                s.gemm_n() * kIm2colSumChannels});
  if (most < int64_t{1} << 30)
    im2col::launch_step<int32_t>(context, s, strides, config, epilogue, step);
  else
    im2col::launch_step<int64_t>(context, s, strides, config, epilogue, step);
}

}  // namespace solder
