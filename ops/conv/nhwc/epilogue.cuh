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

/// Asks for the scales and biases of `count` channels from `first` on; they are there after finish_channels().
__device__ inline void start_channels(const Params& p, int first, int count, uint32_t channels_smem,
                                      int thread_of_group) {
  for (int i = thread_of_group; i < count; i += 128) {
    const int channel = first + i;
    sm80::copy_async(channels_smem + 4 * i, p.scales + channel, true);
    const bool has_bias = p.bias != nullptr && channel < p.K;
    sm80::copy_async(channels_smem + 4 * (count + i), has_bias ? p.bias + channel : p.scales, has_bias);
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

/// mish of neighbours with one reciprocal for two (see fast_mish): special functions are what bounds it. Denominators
/// reach 2 e^40 each where mish needs no tail.
template <int N>
__device__ __forceinline__ void activate_mish(float (&values)[N]) {
  float result[N];
#pragma unroll
  for (int i = 0; i < N; i += 2) {
    float numerator[2], denominator[2];
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const float g = math::exp2_approx(fmaf(math::larger(values[i + e], math::kTail), -1.44269504f, 0.5f));
      numerator[e] = fmaf(g, 1.41421356f, 1.0f);
      denominator[e] = fmaf(g, g, numerator[e]);
      numerator[e] *= values[i + e];
    }
    const float both = math::reciprocal_approx(denominator[0] * denominator[1]);
    result[i] = numerator[0] * (both * denominator[1]);
    result[i + 1] = numerator[1] * (both * denominator[0]);
  }
  if (math::any_below(values, math::kTail)) [[unlikely]] {
#pragma unroll
    for (int i = 0; i < N; ++i) result[i] = values[i] < math::kTail ? fast_tail(values[i]) : result[i];
  }
#pragma unroll
  for (int i = 0; i < N; ++i) values[i] = result[i];
}

template <int kItems>
__device__ __forceinline__ void add_residuals(const Params& p, const uint4 (&residuals)[kItems],
                                              float (&values)[kItems * 8]) {
  const DType dtype = p.is_bfloat16 ? DType::bfloat16 : DType::float16;
#pragma unroll
  for (int item = 0; item < kItems; ++item) {
    const uint32_t words[4] = {residuals[item].x, residuals[item].y, residuals[item].z, residuals[item].w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 pair = unpack_pair(dtype, words[i]);
      values[item * 8 + 2 * i] += pair.x, values[item * 8 + 2 * i + 1] += pair.y;
    }
  }
}

/// Vectors of the same channels: sums to results, stored. Scales and, `biases` bytes behind them, biases.
template <int kItems>
__device__ __forceinline__ void finish(const Params& p, uint32_t scales_smem, int biases,
                                       const int (&pixels)[kItems], int channel,
                                       const uint4 (&residuals)[kItems], float (&values)[kItems * 8]) {
  float scale[8], bias[8];
  load_row(scales_smem, scale);
  load_row(scales_smem + biases, bias);
#pragma unroll
  for (int i = 0; i < kItems * 8; ++i) values[i] = fmaf(values[i], scale[i % 8], bias[i % 8]);
  if (p.residual_at == ResidualAt::before) add_residuals<kItems>(p, residuals, values);
  if (p.activation == ConvChain::mish) {
    activate_mish(values);
  } else {
    ConvEpilogue epilogue;
    epilogue.activation = p.activation, epilogue.slope = p.slope;
    run_any_activation<true>(epilogue, values);
  }
  if (p.residual_at == ResidualAt::after) add_residuals<kItems>(p, residuals, values);
#pragma unroll
  for (int item = 0; item < kItems; ++item) {
    float result[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) result[i] = values[item * 8 + i];
    store_vector(p, pixels[item], channel, result);
  }
}

/// Vectors of a tile that a thread works on together: their pixels, and the residual on its way.
template <int kBatch>
struct Batch {
  int pixels[kBatch];
  uint4 residuals[kBatch];
};

/// Batch `index` of a warp's part of a tile: by pass, which is 64 of its pixels' channels, then by pixel.
template <class Tile>
__device__ __forceinline__ Batch<Tile::kBatch> start_batch(const Params& p, const Work& work, int warp,
                                                           int lane, int index) {
  constexpr int kVectors = Tile::kStaged / 8, kPasses = Tile::kChannels / Tile::kStaged;
  const int pass = index / Tile::kBatches, block = pass / kPasses;
  const int channel = work.channel + pass % kPasses * Tile::kStaged + lane % kVectors * 8;
  Batch<Tile::kBatch> batch;
#pragma unroll
  for (int b = 0; b < Tile::kBatch; ++b) {
    const int row = (warp / 4 * Tile::kBlocks + block) * 64 + warp % 4 * 16 + lane / kVectors +
                    (index % Tile::kBatches * Tile::kBatch + b) * (32 / kVectors);
    batch.pixels[b] = pixel_of<Tile>(p, work, row);
    batch.residuals[b] = load_residual(p, batch.pixels[b], channel);
  }
  return batch;
}

/// The first batch of a tile, while the rest of its residual comes nearer: a line for each pixel and pass.
template <class Tile>
__device__ __forceinline__ Batch<Tile::kBatch> start_tile(const Params& p, const Work& work, int warp,
                                                          int lane) {
  if (Tile::kPasses * Tile::kBatches > 1 && p.residual.data != nullptr) {
#pragma unroll 1
    for (int line = lane; line < 16 * Tile::kPasses; line += 32) {
      const int pass = line / 16, block = pass / (Tile::kChannels / Tile::kStaged);
      const int pixel =
          pixel_of<Tile>(p, work, (warp / 4 * Tile::kBlocks + block) * 64 + warp % 4 * 16 + line % 16);
      const int channel = work.channel + pass % (Tile::kChannels / Tile::kStaged) * Tile::kStaged;
      if (pixel >= 0 && channel < p.K)
        sm80::prefetch_l2(static_cast<const uint16_t*>(p.residual.data) +
                          (pixel * p.residual.pixel + channel));
    }
  }
  return start_batch<Tile>(p, work, warp, lane, 0);
}

/// Pass `pass` of a warp's sums, to where vectors of them are read.
template <class Tile>
__device__ __forceinline__ void stage(uint32_t to, int pass,
                                      const float (&acc)[Tile::kBlocks][Tile::kChannels / 2]) {
  constexpr int kColumns = Tile::kStaged, kPitch = kColumns + 8, kPasses = Tile::kChannels / kColumns;
  __syncwarp();
#pragma unroll
  for (int known = 0; known < Tile::kPasses; ++known) {
    if (known != pass) continue;  // registers have no index
#pragma unroll
    for (int j = 0; j < kColumns / 8; ++j) {
      const float* const part = &acc[known / kPasses][(known % kPasses * kColumns / 8 + j) * 4];
      sm80::store_shared(to + j * 16, part[0], part[1]);
      sm80::store_shared(to + (8 * kPitch + j * 4) * 4, part[2], part[3]);
    }
  }
  __syncwarp();
}

/// A whole tile of sums, each warp its own pixels, `batch` being its first. `channels` are the scales of its first
/// channels, `biases` bytes before their biases. One piece of code for all batches: several would not fit the
/// instruction cache.
template <class Tile>
__device__ __forceinline__ void store_tile(const Params& p, const Smem& smem, const Work& work, int warp,
                                           int lane, uint32_t channels, int biases, Batch<Tile::kBatch> batch,
                                           const float (&acc)[Tile::kBlocks][Tile::kChannels / 2]) {
  constexpr int kColumns = Tile::kStaged, kPitch = kColumns + 8, kVectors = kColumns / 8,
                kBatch = Tile::kBatch;
  const uint32_t staging = smem.staging + warp * 16 * kPitch * 4;
  const uint32_t to = staging + (lane / 4 * kPitch + lane % 4 / 2 * (kColumns / 2 + 4) + lane % 2 * 2) * 4;
  const uint32_t from = staging + lane / kVectors * kPitch * 4;
#pragma unroll 1
  for (int pass = 0; pass < Tile::kPasses; ++pass) {
    stage<Tile>(to, Tile::kPasses == 1 ? 0 : pass, acc);
    const int first = pass % (Tile::kChannels / kColumns) * kColumns + lane % kVectors * 8;
#pragma unroll 1
    for (int turn = 0; turn < Tile::kBatches; ++turn) {
      const int index = pass * Tile::kBatches + turn;
      if (index > 0) batch = start_batch<Tile>(p, work, warp, lane, index);
      float values[kBatch * 8];
#pragma unroll
      for (int b = 0; b < kBatch; ++b) {
        float sums[8];
        load_staged<kColumns>(from + (turn * kBatch + b) * (32 / kVectors) * kPitch * 4, lane % kVectors,
                              sums);
#pragma unroll
        for (int e = 0; e < 8; ++e) values[b * 8 + e] = sums[e];
      }
      finish<kBatch>(p, channels + first * 4, biases, batch.pixels, work.channel + first, batch.residuals,
                     values);
    }
  }
}

/// The same where the terms are split: row `row` of the tile is finished by block row * split / rows.
template <class Tile>
__device__ __forceinline__ void exchange_tile(const Params& p, const Smem& smem, const Work& work, int warp,
                                              int lane, uint32_t channels,
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
  const uint32_t scales = channels + vector * 32;
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
