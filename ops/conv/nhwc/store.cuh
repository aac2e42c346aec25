#pragma once
// How the sums of conv_nhwc_kernel become vectors. Products leave wgmma as fragments, two channels of a pixel to a
// thread. A warp passes its own 16 pixels through shared memory, 64 channels at a time; where blocks of a cluster have
// split the terms, each sends its part of a tile to the block that finishes those pixels.

#include "ops/conv/nhwc/epilogue.cuh"

namespace solder::nhwc {

// Where a row of `kColumns` floats has its columns: even groups of four in the first half, odd ones behind, so that
// neither fragments nor vectors meet in a bank. Rows are kColumns + 8 floats apart, halves kColumns / 2 + 4.

/// A vector's place in a row.
template <int kColumns>
__device__ Staged staged_vector(uint32_t row_smem, int vector) {
  return {row_smem + vector * 16, (kColumns / 2 + 4) * 4};
}

__device__ __forceinline__ void load_staged(Staged from, float (&values)[8]) {
  const float4 low = sm80::load_shared(from.smem), high = sm80::load_shared(from.smem + from.half);
  values[0] = low.x, values[1] = low.y, values[2] = low.z, values[3] = low.w;
  values[4] = high.x, values[5] = high.y, values[6] = high.z, values[7] = high.w;
}

/// Batch `index` of a warp's part of a tile: by pass, which is 64 of its pixels' channels, then by pixel.
template <class Tile>
__device__ __forceinline__ void start_batch(const Params& p, const Work& work, int warp, int lane, int index,
                                            Batch<Tile::kBatch>* batch) {
  constexpr int kVectors = Tile::kStaged / 8, kPasses = Tile::kChannels / Tile::kStaged;
  const int pass = index / Tile::kBatches, block = pass / kPasses;
  const int row = (warp / 4 * Tile::kBlocks + block) * 64 + warp % 4 * 16 + lane / kVectors +
                  index % Tile::kBatches * Tile::kBatch * (32 / kVectors);
#pragma unroll
  for (int b = 0; b < Tile::kBatch; ++b)
    batch->pixels[b] = pixel_of<Tile>(p, work, row + b * (32 / kVectors));
  load_residuals(p, work.channel + pass % kPasses * Tile::kStaged + lane % kVectors * 8, batch);
}

/// The first batch of a tile, while the rest of its residual comes nearer: a line for each pixel and pass.
template <class Tile>
__device__ __forceinline__ void start_tile(const Params& p, const Work& work, int warp, int lane,
                                           Batch<Tile::kBatch>* batch) {
  constexpr int kPasses = Tile::kChannels / Tile::kStaged;
  if (Tile::kPasses * Tile::kBatches > 1 && p.residual.data != nullptr) {
#pragma unroll 1
    for (int line = lane; line < 16 * Tile::kPasses; line += 32) {
      const int pass = line / 16, row = (warp / 4 * Tile::kBlocks + pass / kPasses) * 64 + warp % 4 * 16;
      const int pixel = pixel_of<Tile>(p, work, row + line % 16);
      const int channel = work.channel + pass % kPasses * Tile::kStaged;
      if (pixel >= 0 && channel < p.K)
        sm80::prefetch_l2(static_cast<const uint4*>(p.residual.data) + vector_of(p.residual, pixel, channel));
    }
  }
  start_batch<Tile>(p, work, warp, lane, 0, batch);
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

/// A whole tile of sums, each warp its own pixels, `batch` being its first; `channels`: the scales of its first
/// channels. One piece of code for all batches: several would not fit the instruction cache.
template <class Tile, DType kDtype>
__device__ __forceinline__ void store_tile(const Params& p, const Smem& smem, const Work& work, int warp,
                                           int lane, uint32_t channels, Batch<Tile::kBatch>* batch,
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
      if (index > 0) start_batch<Tile>(p, work, warp, lane, index, batch);
      Staged staged[kBatch];
      float values[kBatch * 8];
#pragma unroll
      for (int b = 0; b < kBatch; ++b) {
        float sums[8];
        staged[b] = staged_vector<kColumns>(from + (turn * kBatch + b) * (32 / kVectors) * kPitch * 4,
                                            lane % kVectors);
        load_staged(staged[b], sums);
#pragma unroll
        for (int e = 0; e < 8; ++e) values[b * 8 + e] = sums[e];
      }
      const Channels mine = load_channels(channels + first * 4, p.config.table_channels);
      finish<kDtype, kBatch>(p, mine, *batch, work.channel + first, staged, values);
    }
  }
}

/// The same where the terms are split: row `row` of the tile is finished by block row * split / rows.
template <class Tile, DType kDtype>
__device__ __forceinline__ void exchange_tile(const Params& p, const Smem& smem, const Work& work, int warp,
                                              int lane, uint32_t channels,
                                              const float (&acc)[Tile::kBlocks][Tile::kChannels / 2]) {
  constexpr int kColumns = Tile::kChannels, kPitch = kColumns + 8, kVectors = kColumns / 8;
  constexpr int kThreads = Tile::kConsumerWarps * 32, kItems = Tile::kPixels / 2 * kVectors / kThreads;
  const int split = p.config.split, share = Tile::kPixels / split,
            rank = static_cast<int>(sm90::cluster_rank());
  const int thread = warp * 32 + lane, vector = thread % kVectors, channel = work.channel + vector * 8;
  Batch<1> batches[kItems];
  int rows[kItems];
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    rows[i] = (thread + i * kThreads) / kVectors;
    batches[i].pixels[0] = rows[i] < share ? pixel_of<Tile>(p, work, rank * share + rows[i]) : -1;
    load_residuals(p, channel, &batches[i]);
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
  const Channels mine = load_channels(channels + vector * 32, p.config.table_channels);
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    if (rows[i] >= share) continue;
    float values[8] = {};
#pragma unroll 2
    for (int part = 0; part < split; ++part) {
      float terms[8];
      load_staged(staged_vector<kColumns>(smem.staging + (part * share + rows[i]) * kPitch * 4, vector),
                  terms);
#pragma unroll
      for (int e = 0; e < 8; ++e) values[e] += terms[e];
    }
    finish<kDtype, 1>(p, mine, batches[i], channel,
                      {staged_vector<kColumns>(smem.staging + rows[i] * kPitch * 4, vector)}, values);
  }
}

}  // namespace solder::nhwc
