// The pass before conv_window_kernel that converts x once, where x is packed.
//   x [N,C,H,W] float32 -> packed x [part][C/8][phase][position][8] float16, zeros where a position is
//   padding
// Grid: x over blocks of positions, y over the rows' phases and slices of the channels. A thread converts one
// position, 8 channels at a time: its warp reads neighbouring pixels of a channel and writes 512 bytes in one
// piece. Bound by memory: 4 bytes read and 2 (fp32: 4) written a value. The repair is the same kernel again,
// over the images that the guessed exponent does not fit; it leaves at once when there are none.

#include <algorithm>

#include "ops/conv/range/range.h"
#include "ops/conv/window/producer.cuh"
#include "ops/ptx/sm80.cuh"
#include "ops/ptx/sm90.cuh"
#include "runtime/divide.h"
#include "runtime/launch.cuh"

namespace solder::window {
namespace {

constexpr int kPackThreads = 256;
constexpr int kGroup = 8;  // channels (terms) of 16 bytes

struct PackParams {
  Params window;
  int num_groups;    // of all channels
  int slice_groups;  // of a block
};

/// Loads the group's values `right` of `pixel`; what lies outside x is zero.
template <bool kColumns>
__device__ __forceinline__ void load_group(const Params& p, const Pixel& pixel, int right, int group,
                                           float (&values)[kGroup]) {
  const uint32_t plane_elems = static_cast<uint32_t>(p.H * p.W);
  const int first_column = pixel.w + right;
  const float* src = p.x + (pixel.image * p.x_image + (int64_t{pixel.h} * p.W + first_column));
  if constexpr (kColumns) {
    const int channel_bits = p.config.filter_cols == 4 ? 2 : 3;
#pragma unroll
    for (int i = 0; i < kGroup; ++i) {
      const int e = group * kGroup + i;
      const int channel = e & ((1 << channel_bits) - 1), shift = (e >> channel_bits) * p.dil_w;
      const int column = first_column + shift;
      const bool is_valid = pixel.is_row && channel < p.C && column >= 0 && column < p.W;
      values[i] = is_valid ? __ldg(src + channel * int64_t{plane_elems} + shift) : 0.0f;
    }
  } else {
    const int first = group * kGroup;
    src += first * int64_t{plane_elems};
    const bool is_inside = pixel.is_row && first_column >= 0 && first_column < p.W;
#pragma unroll
    for (int i = 0; i < kGroup; ++i) {
      const bool is_valid = is_inside && first + i < p.C;
      values[i] = is_valid ? __ldg(sm80::advance_bytes(src, plane_elems * 4, i)) : 0.0f;
    }
  }
}

/// Reports the maxima of a block's positions, of which the first lies in `first_image`. One atomic to memory
/// for each image of the block: all blocks meet at a few addresses.
__device__ __forceinline__ void record_max(const Params& p, int image, int first_image, uint32_t max_bits) {
  __shared__ uint32_t maxima[kPackThreads];  // by image, from the block's first one
  const uint32_t same_image = __match_any_sync(0xffffffffu, image);
  max_bits = __reduce_max_sync(same_image, max_bits);
  const bool is_leader = __ffs(static_cast<int>(same_image)) - 1 == static_cast<int>(threadIdx.x % 32);
  __syncthreads();
  maxima[threadIdx.x] = 0;
  __syncthreads();
  if (is_leader && max_bits != 0) atomicMax(&maxima[image - first_image], max_bits);
  __syncthreads();
  max_bits = maxima[threadIdx.x];
  if (max_bits != 0) atomicMax(&p.ranges[first_image + static_cast<int>(threadIdx.x)].max_bits, max_bits);
}

template <int kParts, bool kColumns>
__global__ void __launch_bounds__(kPackThreads) window_pack_kernel(const __grid_constant__ PackParams pack) {
  const Params& p = pack.window;
  const WindowConfig& c = p.config;
  sm90::dependency_launch();
  sm90::dependency_wait();
  if (p.is_repair) {
    bool found = false;
    for (int n = static_cast<int>(threadIdx.x); n < p.N; n += kPackThreads) found |= needs_rescale(p, n);
    if (!__syncthreads_or(found)) return;
  }
  const int slice = static_cast<int>(blockIdx.y) / c.phases_h;
  const int first_plane = static_cast<int>(blockIdx.y) % c.phases_h * c.phases_w;
  const int first_group = slice * pack.slice_groups;
  const int last_group = min(first_group + pack.slice_groups, pack.num_groups);
#pragma unroll 1
  for (int64_t first = int64_t{blockIdx.x} * kPackThreads; first < c.packed_positions;
       first += int64_t{gridDim.x} * kPackThreads) {
    const int64_t position = first + threadIdx.x;
    const Pixel pixel = locate_pixel(p, first_plane, static_cast<uint32_t>(position));
    const bool is_image = pixel.image < p.N;
    int exponent = 0;
    bool is_written = position < c.packed_positions;
    if (p.is_repair) {
      is_written = is_written && is_image && needs_rescale(p, pixel.image);
      if (is_written) exponent = image_exponent(p, pixel.image);
    } else if (is_image) {
      exponent = p.ranges[pixel.image].exponent;  // its status means nothing while others record maxima
    }
    const float scale = power_of_two(exponent);
    uint32_t max_bits = 0;
    if (is_written) {
#pragma unroll 1
      for (int group = first_group; group < last_group; ++group) {
        // The phases of a row share its cache lines.
#pragma unroll 1
        for (int phase = 0; phase < c.phases_w; ++phase) {
          float values[kGroup];
          load_group<kColumns>(p, pixel, phase * p.dil_w % p.stride_w, group, values);
          uint4 parts[2];
          split_values<kParts>(values, scale, parts);
#pragma unroll
          for (int part = 0; part < kParts; ++part) {
            const int64_t run =
                (int64_t{part} * pack.num_groups + group) * c.num_planes() + first_plane + phase;
            p.packed_x[run * c.packed_positions + position] = parts[part];
          }
#pragma unroll
          for (int i = 0; i < kGroup; ++i) {
            max_bits = max(max_bits, __float_as_uint(values[i]) & 0x7fffffffu);
          }
        }
      }
    }
    if (!p.is_repair)
      record_max(p, pixel.image, locate_pixel(p, first_plane, static_cast<uint32_t>(first)).image, max_bits);
  }
}

}  // namespace

void pack_x(const Context& context, const Params& params) {
  const WindowConfig& c = params.config;
  PackParams pack{params, c.num_steps / c.num_taps * 2, 0};
  const int64_t blocks_x = ceil_div(c.packed_positions, kPackThreads);
  // Enough blocks to fill the device twice; beyond that a thread's position is worth finding only once.
  const int64_t wanted = int64_t{context.info().num_sms} * (2048 / kPackThreads) * 2;
  const int64_t slices = std::clamp<int64_t>(wanted / (blocks_x * c.phases_h), 1, pack.num_groups);
  pack.slice_groups = static_cast<int>(ceil_div(pack.num_groups, slices));
  const int64_t blocks_y = ceil_div(pack.num_groups, pack.slice_groups) * c.phases_h;
  LaunchConfig grid{.grid = dim3(static_cast<unsigned>(blocks_x), static_cast<unsigned>(blocks_y)),
                    .block = dim3(kPackThreads),
                    .overlaps_previous = true};
  const bool is_columns = c.filter_cols > 1;
  const auto kernel = c.num_parts == 2
                          ? (is_columns ? window_pack_kernel<2, true> : window_pack_kernel<2, false>)
                          : (is_columns ? window_pack_kernel<1, true> : window_pack_kernel<1, false>);
  launch(context, "window_pack_kernel", kernel, grid, pack);
  // Almost always there is nothing to redo: few blocks leave sooner than many.
  grid.grid.x =
      static_cast<unsigned>(std::clamp<int64_t>(context.info().num_sms * 2 / blocks_y, 1, blocks_x));
  pack.window.is_repair = true;
  launch(context, "window_pack_kernel (repair)", kernel, grid, pack);
}

}  // namespace solder::window
