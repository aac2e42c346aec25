#pragma once
// The portable convolution: y = epilogue(conv(x, w)) on mma.sync, ldmatrix and cp.async.
//
// A product D = A B of 16-bit values with float32 sums, of channels and pixels (of all images, in one run). Terms are
// taken block of channels by block, filter row by row, column by column, 32 channels of one tap (a unit) at a time.
//   x        16-bit, channels innermost, in vectors of 8 channels (MmaInput); one or two float16 parts
//   weights  packed as warps multiply them (pack_mma_weights): straight from L2 or L1 into registers, a step ahead
//   y        float32 in planes (kPlanes: channels are the rows of D), or 16-bit pixels (pixels are)
// A stage of the ring is one block of channels of the pixels that one filter row meets: where positions of a row follow
// each other, filter column s is the same pixels read s * dil_w positions on. So x goes to shared memory once for all
// columns, weights not at all, and a barrier comes every stage. Rows are 16 bytes longer than their channels, which
// spreads 8 neighbours over all banks.
//
//   x -cp.async-> ring [kMmaStages] -ldmatrix-> registers -+
//   weights ------------ld.global-----------> registers ---+- mma.sync -> sums -> epilogue -> y
//
// Grid: blocks take turns at tiles, channels first, so that neighbours share x; y: parts of the terms, summed by
// conv_mma_reduce_kernel in their order. The first stages of the next tile are loaded during the epilogue, which works on
// the sums where they are: a thread has two neighbours of a plane, or, as packed weights order channels, eight of a pixel.
// Budget: kMmaTiles has registers and blocks; shared memory as MmaConfig::smem_bytes. Bound: tensor cores, of which
// mma.sync reaches 65 percent on an H100 (648 TFLOP/s); the path to L1 and shared memory comes next.

#include "ops/conv/mma/epilogue.cuh"
#include "ops/conv/mma/feed.cuh"

namespace solder::mma {

/// A warp's weights, in the order in which they are multiplied, over all tiles of a block.
template <class T>
struct Weights {
  const uint4* next;  ///< unit
  int tile, left;     ///< units of the tile

  static __device__ const uint4* start(const Params& p, int tile, int first_stage, int thread) {
    const int channel = place_of<T>(p, tile).channel + warp_place<T>(thread / 32).channel;
    return p.weights + int64_t{first_stage} * p.config.stage_units * unit_vectors(p) + channel * 2 +
           thread % 32;
  }
  static __device__ int part_vectors(const Params& p) {
    return static_cast<int>(p.config.tiles_channels) * T::kChannels * 2;
  }
  static __device__ int64_t unit_vectors(const Params& p) { return int64_t{part_vectors(p)} * T::kParts * 2; }

  /// After a tile's last unit come the next one's, or, after the last tile, its own again.
  __device__ __forceinline__ void step(const Params& p, int first_stage, int count, int thread) {
    next += unit_vectors(p);
    if (--left > 0) return;
    const int after = tile + static_cast<int>(gridDim.x);
    if (after < static_cast<int>(p.config.num_tiles())) tile = after;
    next = start(p, tile, first_stage, thread), left = count;
  }
};

template <class T>
using WeightSet = uint32_t[T::kParts][T::kChannelGroups][4];
template <class T>
using PixelSet = uint32_t[T::kParts][T::kPixelGroups][4];
template <class T>
using Sums = float[T::kGroups][T::kPieces][4];

template <class T>
__device__ __forceinline__ void load_weights(const uint4* from, int part_vectors, WeightSet<T>& set) {
#pragma unroll
  for (int part = 0; part < T::kParts; ++part)
#pragma unroll
    for (int i = 0; i < T::kChannelGroups; ++i)
      sm80::load_line(from + part * part_vectors + i * 32, set[part][i]);
}

/// One step of 16 terms; each group of pixels is loaded anew, from `next_at`, as soon as it has been multiplied.
template <class T>
__device__ __forceinline__ void multiply(const Params& p, const WeightSet<T>& weights, PixelSet<T>& pixels,
                                         uint32_t next_at, const uint32_t (&rows)[T::kPixelGroups],
                                         Sums<T>& sums) {
#pragma unroll
  for (int j = 0; j < T::kPixelGroups; ++j) {
#pragma unroll
    for (int product = 0; product < (T::kParts == 2 ? 3 : 1); ++product) {
      const int of_weights = product / 2, of_pixels = product % 2;  // high high, high low, low high
#pragma unroll
      for (int i = 0; i < T::kChannelGroups; ++i) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const uint32_t(&w)[4] = weights[of_weights][i];
          const uint32_t(&x)[4] = pixels[of_pixels][j];
          float(&d)[4] = T::kPlanes ? sums[i][j * 2 + h] : sums[j][i * 2 + h];
          const auto& a = T::kPlanes ? w : x;
          const auto& b = T::kPlanes ? x : w;
          if constexpr (T::kDtype == DType::bfloat16)
            sm80::multiply_add_bfloat16(d, a, b[h * 2], b[h * 2 + 1]);
          else
            sm80::multiply_add_half(d, a, b[h * 2], b[h * 2 + 1]);
        }
      }
    }
#pragma unroll
    for (int part = 0; part < T::kParts; ++part)
      sm80::load_matrices(next_at + rows[j] + part * p.config.part_bytes, pixels[part][j]);
  }
}

template <class T>
__device__ __forceinline__ void clear(Sums<T>& sums) {
#pragma unroll
  for (int g = 0; g < T::kGroups; ++g)
#pragma unroll
    for (int n = 0; n < T::kPieces; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) sums[g][n][e] = 0;
}

/// Of fp32: tensor cores truncate when they add, so the sums of a stage are added to the others by float32 additions.
template <class T>
__device__ __forceinline__ void flush(Sums<T>& part, Sums<T>& sums) {
#pragma unroll
  for (int g = 0; g < T::kGroups; ++g)
#pragma unroll
    for (int n = 0; n < T::kPieces; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) sums[g][n][e] += part[g][n][e], part[g][n][e] = 0;
}

/// What a block does for each tile, and which of its threads this is.
struct Progress {
  int first_stage, num_stages, num_units;
  int thread;
};

/// The units of one stage, of which `at` is the first. Weights are loaded a step ahead, pixels a group ahead.
template <class T>
__device__ __forceinline__ void multiply_stage(const Params& p, uint32_t at,
                                               const uint32_t (&rows)[T::kPixelGroups],
                                               const Progress& progress, Weights<T>& from,
                                               WeightSet<T> (&weights)[2], Sums<T>& sums) {
  const int part_vectors = Weights<T>::part_vectors(p);
  PixelSet<T> pixels;
#pragma unroll
  for (int part = 0; part < T::kParts; ++part)
#pragma unroll
    for (int j = 0; j < T::kPixelGroups; ++j)
      sm80::load_matrices(at + rows[j] + part * p.config.part_bytes, pixels[part][j]);
#pragma unroll 1
  for (int unit = 0; unit < p.config.stage_units; ++unit) {
    load_weights<T>(from.next + part_vectors * T::kParts, part_vectors, weights[1]);
    multiply<T>(p, weights[0], pixels, at + 32, rows, sums);
    from.step(p, progress.first_stage, progress.num_units, progress.thread);
    load_weights<T>(from.next, part_vectors, weights[0]);
    // After the last unit the same pixels again, in vain: loads under a condition come late.
    if (unit + 1 < p.config.stage_units) at += p.config.unit_bytes;
    multiply<T>(p, weights[1], pixels, at, rows, sums);
  }
}

template <class T>
__global__ void __launch_bounds__(T::kThreads, T::kPerSm) conv_mma_kernel(const __grid_constant__ Params p) {
  extern __shared__ __align__(128) uint8_t smem_base[];
  const MmaConfig& c = p.config;
  const Smem<T> smem(p, smem_base);
  const int thread = static_cast<int>(sm80::opaque(threadIdx.x)), warp = thread / 32, lane = thread % 32;
  const int num_tiles = static_cast<int>(c.num_tiles()), split = static_cast<int>(blockIdx.y);
  Progress progress{.first_stage = static_cast<int>(int64_t{c.num_stages} * split / c.split),
                    .thread = thread};
  progress.num_stages =
      static_cast<int>(int64_t{c.num_stages} * (split + 1) / c.split) - progress.first_stage;
  progress.num_units = progress.num_stages * c.stage_units;
  int tile = static_cast<int>(blockIdx.x);

  WeightSet<T> weights[2];  // of this step and the next
  Weights<T> from{Weights<T>::start(p, tile, progress.first_stage, thread), tile, progress.num_units};
  load_weights<T>(from.next, Weights<T>::part_vectors(p), weights[0]);
  fill_table<T>(p, smem.tables, tile, thread);
  __syncthreads();
  follow_previous();
  Feed<T> feed(p, tile, progress.first_stage, progress.num_stages);
#pragma unroll 1
  for (int i = 0; i < kMmaStages - 1; ++i) feed(p, smem, progress.first_stage, progress.num_stages, thread);

  int slot = 0, table = 0;
#pragma unroll 1
  for (; tile < num_tiles; tile += static_cast<int>(gridDim.x)) {
    const int after = tile + static_cast<int>(gridDim.x);
    table ^= 1;
    if (after < num_tiles) fill_table<T>(p, smem.tables + table * c.stage_positions * 8, after, thread);
    const Place block = place_of<T>(p, tile);
    const Scales<T> scales(p, block, thread);
    uint32_t rows[T::kPixelGroups];  // of shared memory, that this lane gives ldmatrix
#pragma unroll
    for (int j = 0; j < T::kPixelGroups; ++j) {
      // Matrices in the order of registers: rows of the product before terms, columns after them.
      const int row = T::kPlanes ? lane / 16 * 8 + lane % 8 : lane % 16,
                second = T::kPlanes ? lane / 8 % 2 : lane / 16;
      const int pixel = block.pixel + warp_place<T>(warp).pixel + j * 16 + row;
      const uint32_t position = position_of(p, min(pixel, p.num_pixels - 1)) - position_of(p, block.pixel);
      rows[j] = position * static_cast<uint32_t>(c.row_bytes()) + static_cast<uint32_t>(second * 16);
    }
    Sums<T> sums;
    clear<T>(sums);
    Sums<T> part;
    if constexpr (T::kParts == 2) clear<T>(part);
#pragma unroll 1
    for (int i = 0; i < progress.num_stages; ++i) {
      sm80::copy_async_wait<kMmaStages - 2>();
      __syncthreads();  // the stage is there, and the one before has been read by all
      if (i == 0) scales.store(smem, thread);
      feed(p, smem, progress.first_stage, progress.num_stages, thread);
      const uint32_t at = smem.ring + slot * c.stage_bytes;
      if constexpr (T::kParts == 2) {
        multiply_stage<T>(p, at, rows, progress, from, weights, part);
        flush<T>(part, sums);
      } else {
        multiply_stage<T>(p, at, rows, progress, from, weights, sums);
      }
      slot = slot + 1 == kMmaStages ? 0 : slot + 1;
    }
    if (c.split > 1) {
      store_partial<T>(p, tile * c.split + split, warp, lane, sums);
      continue;
    }
    finish_groups<T, T::kGroups>(p, smem, block, warp, lane, 0, sums);
  }
}

/// Sums the parts of tile blockIdx.x in their order, 16 rows of each warp's in a block, and finishes them. Bound: memory.
template <class T>
__global__ void __launch_bounds__(T::kThreads) conv_mma_reduce_kernel(const __grid_constant__ Params p) {
  extern __shared__ __align__(128) uint8_t smem_base[];
  const Smem<T> smem(p, smem_base);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const int tile = static_cast<int>(blockIdx.x), group = static_cast<int>(blockIdx.y);
  const Place block = place_of<T>(p, tile);
  follow_previous();
  const Scales<T> scales(p, block, thread);
  scales.store(smem, thread);
  float sums[1][T::kPieces][4] = {};
#pragma unroll 2
  for (int split = 0; split < p.config.split; ++split) {
    const float4* const from =
        partial_of<T>(p, tile * p.config.split + split, warp, lane) + group * T::kPieces * 32;
#pragma unroll
    for (int n = 0; n < T::kPieces; ++n) {
      const float4 part = from[n * 32];
      sums[0][n][0] += part.x, sums[0][n][1] += part.y, sums[0][n][2] += part.z, sums[0][n][3] += part.w;
    }
  }
  __syncthreads();
  finish_groups<T, 1>(p, smem, block, warp, lane, group, sums);
}

}  // namespace solder::mma
