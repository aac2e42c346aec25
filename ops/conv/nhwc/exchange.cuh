#pragma once
// How the sums of conv_nhwc_kernel get to memory where blocks of a cluster have split the terms: each
// sends its part of the sums to the block that finishes those pixels.

#include "ops/conv/nhwc/epilogue.cuh"
#include "ops/conv/nhwc/scaled.cuh"

namespace solder::nhwc {

// Split sums: where a row of `kColumns` floats has its columns: even groups of four in the first half, odd ones behind,
// so that neither fragments nor vectors meet in a bank. Rows are kColumns + 8 floats apart, halves kColumns / 2 + 4.

/// Stores a tile whose terms are split: row `row` of the tile is finished by block row * split / rows.
template <class Tile, Values kValues, ConvChain kChain, Scaling kScaling>
__device__ __forceinline__ void exchange_tile(const Params& p, const Smem& smem, const Work& work, int warp,
                                              int lane, uint32_t channels, const ImageScale& only,
                                              const float (&acc)[Tile::kChannels / 2]) {
  constexpr DType kDtype = dtype_of(kValues);
  constexpr bool kIsScaled = kScaling != Scaling::none;
  constexpr int kColumns = Tile::kChannels, kPitch = kColumns + 8, kVectors = kColumns / kVector;
  constexpr uint32_t kHalfBytes = (kColumns / 2 + 4) * 4;
  constexpr int kThreads = Tile::kConsumerWarps * 32, kItems = Tile::kPixels / 2 * kVectors / kThreads;
  const int split = p.config.split, share = Tile::kPixels / split,
            rank = static_cast<int>(sm90::cluster_rank());
  constexpr int kRowsAtOnce = 32 / kVectors, kRowsOfWarp = kItems * kRowsAtOnce;
  const int thread = warp * 32 + lane, vector = thread % kVectors, channel = work.channel + vector * kVector;
  int rows[kItems], pixels[kItems];
  uint4 residuals[kItems];
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    rows[i] = (thread + i * kThreads) / kVectors;
    pixels[i] = rows[i] < share ? pixel_of<Tile>(p, work, rank * share + rows[i]) : -1;
    residuals[i] = {};  // of scaled values the largest is also looked for behind the last channel
    if (p.residual.data != nullptr && pixels[i] >= 0 && channel < p.K)
      residuals[i] = static_cast<const uint4*>(p.residual.data)[vector_of(p.residual, pixels[i], channel)];
  }
  // Two lanes hold four neighbours of two rows; they swap, so that each has four of one.
  const bool is_odd = lane % 2 == 1;
  const int row = warp * 16 + lane / 4 + (is_odd ? 8 : 0), owner = row / share;
  const uint32_t place = (rank * share + row - owner * share) * kPitch * 4 + lane % 4 / 2 * kHalfBytes;
  const uint32_t to = sm90::map_to_rank(smem.staging + place, owner),
                 bar = sm90::map_to_rank(smem.parts, owner);
#pragma unroll
  for (int j = 0; j < kColumns / 8; ++j) {
    const float upper[2] = {acc[j * 4], acc[j * 4 + 1]}, lower[2] = {acc[j * 4 + 2], acc[j * 4 + 3]};
    const float a = __shfl_xor_sync(0xffffffffu, is_odd ? upper[0] : lower[0], 1);
    const float b = __shfl_xor_sync(0xffffffffu, is_odd ? upper[1] : lower[1], 1);
    const float4 four =
        is_odd ? make_float4(a, b, lower[0], lower[1]) : make_float4(upper[0], upper[1], a, b);
    sm90::store_async(to + j * 16, four, bar);
  }
  sm90::mbarrier_spin(smem.parts, 0);
  ImageScale of_row = only;  // of row lane % kRowsOfWarp of those that this warp finishes
  if constexpr (kScaling == Scaling::rows) {
    const int mine =
        lane % kRowsOfWarp / kRowsAtOnce * (kThreads / kVectors) + warp * kRowsAtOnce + lane % kRowsAtOnce;
    const int pixel = mine < share ? pixel_of<Tile>(p, work, rank * share + mine) : -1;
    of_row = scale_of(p, image_of(p, pixel));
    if (work.channel == 0) note_scale(p, pixel, image_of(p, pixel), of_row);
  }
  const bool is_measured = kIsScaled && p.scaling.is_measured;
  int image = -1;  // of the last item, and the largest there
  float largest = 0;
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    ImageScale image_scale = of_row;
    if constexpr (kScaling == Scaling::rows)
      image_scale = scale_at(of_row, i * kRowsAtOnce + lane / kVectors);
    if (pixels[i] < 0) continue;
    float values[kVector] = {};
#pragma unroll 2
    for (int part = 0; part < split; ++part) {
      const uint32_t from = smem.staging + (part * share + rows[i]) * kPitch * 4 + vector * 16;
      const float4 low = sm80::load_shared(from), high = sm80::load_shared(from + kHalfBytes);
      values[0] += low.x, values[1] += low.y, values[2] += low.z, values[3] += low.w;
      values[4] += high.x, values[5] += high.y, values[6] += high.z, values[7] += high.w;
    }
    const auto scale = [&](int index, float(&to)[kVector]) {
      const uint32_t table =
          channels + index * p.config.table_channels * 8 + vector * kVector / 2 * kChannelPairBytes;
#pragma unroll
      for (int e = 0; e < kVector; e += 2) {
        const float4 pair = sm80::load_shared(table + e / 2 * kChannelPairBytes);
        const float sums = kScaling == Scaling::rows && index == 0 ? power_of_two(image_scale.sums) : 1.0f;
        to[e] = fmaf(to[e], pair.x * sums, pair.z), to[e + 1] = fmaf(to[e + 1], pair.y * sums, pair.w);
      }
    };
    finish<kChain, Tile::kStoresSums>(
        p, values, scale,
        [&](float(&to)[kVector]) {
          const float power =
              kIsScaled ? nearest_power(residual_exponent<kScaling, kChain>(image_scale)) : 1.0f;
          add_pairs<kDtype>({residuals[i].x, residuals[i].y, residuals[i].z, residuals[i].w}, 0, to, power,
                            power);
        },
        [&](float(&to)[kVector]) {
          const uint4 bits = pack_vector<kDtype>(to);
          store_vector(p, p.sum, pixels[i], channel, bits);
          unpack_pairs<kDtype>({bits.x, bits.y, bits.z, bits.w}, 0, to);
        });
    if constexpr (kScalesResults<kScaling, kChain>) {
#pragma unroll
      for (float& value : values) value *= power_of_two(image_scale.results);
    }
    if (takes_vectors(p)) [[likely]] {
      const uint4 bits = pack_vector<kDtype>(values);
      store_vector(p, p.y, pixels[i], channel, bits);
      if (is_measured) {
        const int mine = image_of(p, pixels[i]);
        const uint32_t top = larger_vector(0, bits);
        if (mine != image) add_maximum(p, image, __float_as_uint(largest)), largest = 0;
        image = mine;
        largest = fmaxf(largest, finite_largest(top) * power_of_two(-image_scale.results));
      }
    } else {
      store_apart<kDtype>(p, pixels[i], channel, values);
    }
  }
  if (is_measured) join_largest(p, smem.joined + warp / 4 * kJoinedBytes, lane, work.n, image, largest);
}

}  // namespace solder::nhwc
