#pragma once
// What conv_nhwc_kernel does with its sums. Products leave wgmma as fragments, two channels of a pixel to a thread;
// through shared memory they become vectors: 8 channels of one pixel, on which the epilogue works and which are stored
// as 16 bytes. A warp passes its own 16 pixels through, 64 channels at a time; where blocks of a cluster have split the
// terms, each sends its part of a tile to the block that finishes those pixels.

#include "ops/conv/epilogue/epilogue.cuh"
#include "ops/conv/nhwc/params.cuh"
#include "ops/elementwise/pair16.cuh"

namespace solder::nhwc {

/// Where a row of `kColumns` floats has column `col`: even groups of four in the first half, odd ones behind, so that
/// neither fragments nor vectors meet in a bank. The pitch of rows is kColumns + 8.
template <int kColumns>
__device__ constexpr int staged_column(int col) {
  return col / 4 % 2 * (kColumns / 2 + 4) + col / 8 * 4 + col % 4;
}

/// Eight values by two 16-byte loads from the places of a vector.
template <int kColumns>
__device__ void load_staged(uint32_t row_smem, int vector, float (&values)[8]) {
  const float4 low = sm80::load_shared(row_smem + vector * 16);
  const float4 high = sm80::load_shared(row_smem + vector * 16 + (kColumns / 2 + 4) * 4);
  values[0] = low.x, values[1] = low.y, values[2] = low.z, values[3] = low.w;
  values[4] = high.x, values[5] = high.y, values[6] = high.z, values[7] = high.w;
}

__device__ inline void load_row(uint32_t smem, float (&values)[8]) {
  const float4 low = sm80::load_shared(smem), high = sm80::load_shared(smem + 16);
  values[0] = low.x, values[1] = low.y, values[2] = low.z, values[3] = low.w;
  values[4] = high.x, values[5] = high.y, values[6] = high.z, values[7] = high.w;
}

/// Asks for the scales and biases of a tile's channels; they are there after finish_channels().
template <class Tile>
__device__ void start_channels(const Params& p, const Work& work, uint32_t channels_smem,
                               int thread_of_group) {
  for (int i = thread_of_group; i < Tile::kChannels; i += 128) {
    const int channel = work.channel + i;
    sm80::copy_async(channels_smem + 4 * i, p.scales + channel, true);
    const bool has_bias = p.bias != nullptr && channel < p.K;
    sm80::copy_async(channels_smem + 4 * (Tile::kChannels + i), has_bias ? p.bias + channel : p.scales,
                     has_bias);
  }
  sm80::copy_async_commit();
}

/// Of all threads of a group; also orders what they read of the last tile before what they write for this one.
__device__ inline void finish_channels(int group) {
  sm80::copy_async_wait<0>();
  sm80::named_barrier_sync(1 + group, 128);
}

/// 8 channels of the residual; those behind the last are its padding, or another tensor's.
__device__ inline uint4 load_residual(const Params& p, int pixel, int channel) {
  if (p.residual.data == nullptr || pixel < 0 || channel >= p.K) return make_uint4(0, 0, 0, 0);
  return *reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(p.residual.data) +
                                         (pixel * p.residual.pixel + channel));
}

__device__ __forceinline__ void store_vector(const Params& p, int pixel, int channel,
                                             const float (&values)[8]) {
  if (pixel < 0 || channel >= p.K) return;
  const Surface& s = p.y;
  const DType dtype = p.is_bfloat16 ? DType::bfloat16 : DType::float16;
  uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) words[i] = pack_pair(dtype, values[2 * i], values[2 * i + 1]);
  if (s.by_vectors && channel + 8 <= p.K) {
    char* const to = static_cast<char*>(s.data) + (pixel * s.pixel + channel) * (s.is_float32 ? 4 : 2);
    if (s.is_float32) {
      reinterpret_cast<float4*>(to)[0] = make_float4(values[0], values[1], values[2], values[3]);
      reinterpret_cast<float4*>(to)[1] = make_float4(values[4], values[5], values[6], values[7]);
    } else {
      *reinterpret_cast<uint4*>(to) = make_uint4(words[0], words[1], words[2], words[3]);
    }
    return;
  }
  const int n = static_cast<int>(p.by_pixels.divide(pixel));
  const int64_t at = n * s.image + (pixel - n * p.P * p.Q) * s.pixel + channel * s.channel;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (channel + i >= p.K) continue;
    if (s.is_float32)
      static_cast<float*>(s.data)[at + i * s.channel] = values[i];
    else
      static_cast<uint16_t*>(s.data)[at + i * s.channel] = static_cast<uint16_t>(words[i / 2] >> i % 2 * 16);
  }
}

/// Vectors of the same channels: sums to results, stored. Scales and, `biases` bytes behind them, biases.
template <int kItems>
__device__ __forceinline__ void finish(const Params& p, uint32_t scales_smem, int biases,
                                       const int (&pixels)[kItems], int channel,
                                       const uint4 (&residuals)[kItems], float (&values)[kItems * 8]) {
  float others[kItems * 8], scale[8], bias[8];
  load_row(scales_smem, scale);
  load_row(scales_smem + biases, bias);
#pragma unroll
  for (int i = 0; i < kItems * 8; ++i) values[i] = fmaf(values[i], scale[i % 8], bias[i % 8]);
  const DType dtype = p.is_bfloat16 ? DType::bfloat16 : DType::float16;
#pragma unroll
  for (int item = 0; item < kItems; ++item) {
    const uint32_t words[4] = {residuals[item].x, residuals[item].y, residuals[item].z, residuals[item].w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 pair = unpack_pair(dtype, words[i]);
      others[item * 8 + 2 * i] = pair.x, others[item * 8 + 2 * i + 1] = pair.y;
    }
  }
  if (p.residual_at == ResidualAt::before) apply_binary(Op::add, false, values, others);
  ConvEpilogue epilogue;
  epilogue.activation = p.activation, epilogue.slope = p.slope;
  run_any_activation<true>(epilogue, values);
  if (p.residual_at == ResidualAt::after) apply_binary(Op::add, false, values, others);
#pragma unroll
  for (int item = 0; item < kItems; ++item) {
    float result[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) result[i] = values[item * 8 + i];
    store_vector(p, pixels[item], channel, result);
  }
}

/// A whole tile of sums, each warp its own pixels; `residuals` of its first 64 channels are there.
template <class Tile>
__device__ __forceinline__ void store_tile(const Params& p, const Smem& smem, const Work& work, int warp,
                                           int lane, uint4 (&residuals)[Tile::kStaged / 16],
                                           const float (&acc)[Tile::kBlocks][Tile::kChannels / 2]) {
  constexpr int kColumns = Tile::kStaged, kPitch = kColumns + 8, kVectors = kColumns / 8,
                kItems = kColumns / 16;
  constexpr int kPasses = Tile::kChannels / kColumns, kBatch = Tile::kBatch,
                kAhead = Tile::kIsTight ? 2 : kItems;
  const uint32_t staging = smem.staging + warp * 16 * kPitch * 4;
  const uint32_t channels = smem.channels + warp / 4 * Tile::kChannels * 8;
  const uint32_t to = staging + (lane / 4 * kPitch + lane % 4 / 2 * (kColumns / 2 + 4) + lane % 2 * 2) * 4;
  const int vector = lane % kVectors, row = lane / kVectors;
#pragma unroll
  for (int block = 0; block < Tile::kBlocks; ++block) {
    int pixels[kItems];
#pragma unroll
    for (int i = 0; i < kItems; ++i)
      pixels[i] = pixel_of<Tile>(
          p, work, (warp / 4 * Tile::kBlocks + block) * 64 + warp % 4 * 16 + i * (32 / kVectors) + row);
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const int channel = work.channel + pass * kColumns + vector * 8;
      if (block + pass > 0) __syncwarp();
#pragma unroll
      for (int j = 0; j < kColumns / 8; ++j) {
        const int from = (pass * kColumns / 8 + j) * 4;
        sm80::store_shared(to + j * 16, acc[block][from], acc[block][from + 1]);
        sm80::store_shared(to + (8 * kPitch + j * 4) * 4, acc[block][from + 2], acc[block][from + 3]);
      }
      __syncwarp();
      const uint32_t scales = channels + (pass * kColumns + vector * 8) * 4;
#pragma unroll
      for (int i = 0; i < kItems; i += kBatch) {
        if (i % kAhead == 0 && (Tile::kIsTight || block + pass > 0)) {
#pragma unroll
          for (int a = 0; a < kAhead; ++a) residuals[i + a] = load_residual(p, pixels[i + a], channel);
        }
        float values[kBatch * 8];
        int mine[kBatch];
        uint4 other[kBatch];
#pragma unroll
        for (int b = 0; b < kBatch; ++b) {
          float sums[8];
          load_staged<kColumns>(staging + ((i + b) * (32 / kVectors) + row) * kPitch * 4, vector, sums);
#pragma unroll
          for (int e = 0; e < 8; ++e) values[b * 8 + e] = sums[e];
          mine[b] = pixels[i + b], other[b] = residuals[i + b];
        }
        finish<kBatch>(p, scales, Tile::kChannels * 4, mine, channel, other, values);
      }
    }
  }
  __syncwarp();
}

/// The same where the terms are split: row `row` of the tile is finished by block row * split / rows.
template <class Tile>
__device__ __forceinline__ void exchange_tile(const Params& p, const Smem& smem, const Work& work, int warp,
                                              int lane,
                                              const float (&acc)[Tile::kBlocks][Tile::kChannels / 2]) {
  constexpr int kColumns = Tile::kChannels, kPitch = kColumns + 8, kVectors = kColumns / 8;
  constexpr int kThreads = Tile::kConsumerWarps * 32, kItems = Tile::kPixels / 2 * kVectors / kThreads;
  const int split = p.config.split, share = Tile::kPixels / split,
            rank = static_cast<int>(sm90::cluster_rank());
  const int thread = warp * 32 + lane, vector = thread % kVectors, channel = work.channel + vector * 8;
  int rows[kItems], pixels[kItems];
  uint4 residuals[kItems];
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    rows[i] = (thread + i * kThreads) / kVectors;
    pixels[i] = rows[i] < share ? pixel_of<Tile>(p, work, rank * share + rows[i]) : -1;
    residuals[i] = load_residual(p, pixels[i], channel);
  }
  // Two lanes hold four neighbours of two rows; they swap, so that each has four of one.
  const bool is_odd = lane % 2 == 1;
  const int row = warp * 16 + lane / 4 + (is_odd ? 8 : 0), owner = row / share;
  const uint32_t place =
      ((rank * share + row - owner * share) * kPitch + lane % 4 / 2 * (kColumns / 2 + 4)) * 4;
  const uint32_t to = sm90::map_to_rank(smem.staging + place, owner),
                 bar = sm90::map_to_rank(smem.parts, owner);
#pragma unroll
  for (int j = 0; j < kColumns / 8; ++j) {
    const float upper[2] = {acc[0][j * 4], acc[0][j * 4 + 1]},
                lower[2] = {acc[0][j * 4 + 2], acc[0][j * 4 + 3]};
    const float a = __shfl_xor_sync(0xffffffffu, is_odd ? upper[0] : lower[0], 1);
    const float b = __shfl_xor_sync(0xffffffffu, is_odd ? upper[1] : lower[1], 1);
    const float4 four =
        is_odd ? make_float4(a, b, lower[0], lower[1]) : make_float4(upper[0], upper[1], a, b);
    sm90::store_async(to + j * 16, four, bar);
  }
  sm90::mbarrier_spin(smem.parts, 0);
  const uint32_t scales = smem.channels + warp / 4 * Tile::kChannels * 8 + vector * 32;
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    if (rows[i] >= share) continue;
    float values[8] = {};
#pragma unroll 2
    for (int part = 0; part < split; ++part) {
      float terms[8];
      load_staged<kColumns>(smem.staging + (part * share + rows[i]) * kPitch * 4, vector, terms);
#pragma unroll
      for (int e = 0; e < 8; ++e) values[e] += terms[e];
    }
    finish<1>(p, scales, kColumns * 4, {pixels[i]}, channel, {residuals[i]}, values);
  }
}

}  // namespace solder::nhwc
