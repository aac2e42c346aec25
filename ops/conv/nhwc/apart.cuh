#pragma once
// How sums of conv_nhwc_kernel get to memory as anything but 16-bit vectors: float32, or in planes.

#include "ops/conv/nhwc/epilogue.cuh"
#include "ops/conv/nhwc/scaled.cuh"

namespace solder::nhwc {

/// A whole tile of sums whose results are no 16-bit vectors: half a pass' channels at a time cross shared memory as floats,
/// so that a lane has 8 channels of a pixel and neighbours lie along pixels. Blocks of one tile run this code once, so
/// there is little of it: instructions that are not in a cache yet take longer than what they do.
template <class Tile, Values kValues, ConvChain kChain, Scaling kScaling>
__device__ __forceinline__ void store_tile_apart(const Params& p, uint32_t staging, const Work& work,
                                                 int warp, int lane, uint32_t channels,
                                                 const ImageScale& of_row, int pixel,
                                                 const float (&acc)[Tile::kChannels / 2]) {
  constexpr DType kDtype = dtype_of(kValues);
  constexpr int kColumns = Tile::kStaged / 2, kSums = kColumns / 2,
                kPitch = nhwc_pass_bytes(Tile::kStaged) / 16;
#pragma unroll 1
  for (int index = 0; index < Tile::kChannels / kColumns; ++index) {
    __syncwarp();  // what was there has been read
#pragma unroll
    for (int i = 0; i < kSums; i += 2) {
      float pair[2] = {acc[i], acc[i + 1]};
#pragma unroll
      for (int known = 1; known < Tile::kChannels / kColumns; ++known)
#pragma unroll
        for (int e = 0; e < 2; ++e) pair[e] = known == index ? acc[known * kSums + i + e] : pair[e];
      sm80::store_shared(staging + (lane / 4 + i / 2 % 2 * 8) * kPitch + (i / 4 * 8 + lane % 4 * 2) * 4,
                         pair[0], pair[1]);
    }
    __syncwarp();
#pragma unroll 1
    for (int first = 0; first < kColumns; first += 2 * kVector) {
      const int column = first + lane / 16 * kVector, in_tile = index * kColumns + column,
                channel = work.channel + in_tile;
      const uint32_t from = staging + lane % 16 * kPitch + column * 4;
      const float4 low = sm80::load_shared(from), high = sm80::load_shared(from + 16);
      float values[kVector] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
      const auto scale = [&](int table, float(&to)[kVector]) {
        const uint32_t pairs =
            channels + table * p.config.table_channels * 8 + in_tile / 2 * kChannelPairBytes;
        const float sums = kScaling == Scaling::rows && table == 0 ? nearest_power(of_row.sums) : 1.0f;
#pragma unroll
        for (int e = 0; e < kVector; e += 2) {
          const float4 pair = sm80::load_shared(pairs + e / 2 * kChannelPairBytes);
          to[e] = fmaf(to[e], pair.x * sums, pair.z), to[e + 1] = fmaf(to[e + 1], pair.y * sums, pair.w);
        }
      };
      finish<kChain, false>(
          p, values, scale,
          [&](float(&to)[kVector]) {
            if (pixel < 0 || channel >= p.K) return;
            const uint4 bits =
                __ldg(static_cast<const uint4*>(p.residual.data) + vector_of(p.residual, pixel, channel));
            const float power =
                kScaling == Scaling::none ? 1.0f : nearest_power(residual_exponent<kScaling, kChain>(of_row));
            add_pairs<kDtype>({bits.x, bits.y, bits.z, bits.w}, 0, to, power, power);
          },
          [](float(&)[kVector]) {});
      if constexpr (kScalesResults<kScaling, kChain>) {
#pragma unroll
        for (float& value : values) value *= nearest_power(of_row.results);
      }
      store_apart<kDtype>(p, pixel, channel, values);
    }
  }
}

}  // namespace solder::nhwc
