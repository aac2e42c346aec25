#pragma once
// What conv_mma_kernel does with its sums where y takes quads of pixels (see Params): the common case, without branches
// that two warps a scheduler do not hide.

#include <type_traits>

#include "ops/conv/epilogue/epilogue.cuh"
#include "ops/conv/mma/params.cuh"

namespace solder::mma {

/// Of a row of a warp's tile, a thread holds two neighbours of each piece of 8 columns.
template <class T>
constexpr int kRowSums = T::kPieces * 2;

/// Calls what(integral constant of index) for an index below `kCount`, at most 8: registers have no index.
template <int kCount, class What>
__device__ __forceinline__ void with_constant(int index, const What& what) {
  static_assert(kCount <= 8);
  const auto call = [&](auto known) {
    if constexpr (known < kCount) what(known);
  };
  switch (index) {
    case 0: call(std::integral_constant<int, 0>()); break;
    case 1: call(std::integral_constant<int, 1>()); break;
    case 2: call(std::integral_constant<int, 2>()); break;
    case 3: call(std::integral_constant<int, 3>()); break;
    case 4: call(std::integral_constant<int, 4>()); break;
    case 5: call(std::integral_constant<int, 5>()); break;
    case 6: call(std::integral_constant<int, 6>()); break;
    default: call(std::integral_constant<int, 7>()); break;
  }
}

/// The epilogue of `num_groups` of a warp's groups of 16 channels by quads of pixels (see Params), a channel after the
/// other, hardly with a branch, as two warps a scheduler do not hide them; block: that of the sums, row, column: this
/// thread's first in it.
template <class T, int kGroups>
__device__ __forceinline__ void finish_quads(const Params& p, const ScaleSmem<T>& smem, const Place& block,
                                             int row, int column, int num_groups,
                                             const float (&sums)[kGroups][T::kPieces][4]) {
  constexpr int kRow = kRowSums<T>;
  const int plane = p.P * p.Q, pixel = block.pixel + column, left = p.num_pixels - pixel;
  const bool swapped = column / 8 % 2 != 0;  // see pixel_of_column
  const auto place_of_quad = [&](int i) {
    const int at = min(pixel + i, p.num_pixels - 4);
    const int image = static_cast<int>(p.by_pixels.divide(static_cast<uint32_t>(at)));
    return image * p.y_image + (at - image * plane);
  };
  const int64_t from = place_of_quad(0);
  float* to = p.y_planes + (from + int64_t{block.channel + row} * plane);
  uint32_t quads[kRow / 4];  // elements from there to each
#pragma unroll
  for (int i = 0; i < kRow / 4; ++i)
    quads[i] = sm80::opaque(static_cast<uint32_t>(place_of_quad(i * 16) - from));
  ConvEpilogue epilogue;
  epilogue.slope = p.slope;
#pragma unroll 1
  for (int group = 0; group < num_groups; ++group) {
    float values[2][kRow];
    const float scales[2] = {sm80::load_shared_one(smem.channels + row * 4),
                             sm80::load_shared_one(smem.channels + (row + 8) * 4)};
    with_constant<kGroups>(group, [&](auto known) {
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int i = 0; i < kRow; ++i)
          values[half][i] = sm80::opaque_float(sums[known][i / 2][half * 2 + i % 2] * scales[half]);
    });
    with_chain<T::kParts == 1>(p.activation, [&](auto chain) {
      using Chain = decltype(chain);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float bias = sm80::load_shared_one(smem.channels + (T::kChannels + row + half * 8) * 4);
#pragma unroll
        for (int i = 0; i < kRow; i += 4) {
          const float4 of_pixels = sm80::load_shared(smem.pixels + (column + i * 4) * 4);
          float* const quad = values[half] + i;
          const float before[4] = {quad[0], quad[1], quad[2], quad[3]};
          quad[0] = scale_and_bias<Chain>(swapped ? before[2] : before[0], of_pixels.x, bias);
          quad[1] = scale_and_bias<Chain>(swapped ? before[3] : before[1], of_pixels.y, bias);
          quad[2] = scale_and_bias<Chain>(swapped ? before[0] : before[2], of_pixels.z, bias);
          quad[3] = scale_and_bias<Chain>(swapped ? before[1] : before[3], of_pixels.w, bias);
        }
        run_activation<Chain>(epilogue, values[half]);
#pragma unroll
        for (int i = 0; i < kRow; i += 4)
          sm80::store_quad_if(i * 4 < left, to + half * int64_t{8} * plane + quads[i / 4],
                              reinterpret_cast<float(&)[4]>(values[half][i]));
      }
    });
    row += 16, to += int64_t{16} * plane;
  }
}

}  // namespace solder::mma
