#pragma once
// The portable convolution: y = epilogue(conv(x, w)) on mma.sync, ldmatrix and cp.async.
//
// A product D = A B of 16-bit values with float32 sums, of channels and pixels (of all images, in one run). Terms are
// taken block of channels by block, filter row by row, column by column, 32 channels of one tap (a unit) at a time.
//   x        16-bit, channels innermost, in vectors of 8 channels (MmaInput); one or two float16 parts
//   weights  packed as warps multiply them (pack_mma_weights)
//   y        float32 in planes (kPlanes: channels are the rows of D), or 16-bit pixels (pixels are)
// A stage of x is one block of channels of the pixels that one filter row meets: where positions of a row follow each
// other, filter column s is the same pixels read s * dil_w positions on, so that x goes to shared memory once for all
// columns. Rows are 16 bytes longer than their channels, which spreads 8 neighbours over all banks. Weights have a ring
// of their own, of units.
//
//   x       -cp.async-> ring [num_slots] of stages ----ldmatrix--> registers -+
//   weights -cp.async-> ring [3] of units -ld.shared-> registers + mma.sync -> sums -> epilogue -> y
//
//   a unit:  step 0 | barrier: the next unit is there, this one has been read | step 1 | ask for more
//
// Fragments are loaded a step ahead, across the barrier too, before which a unit's last ones are in registers. So what
// is asked for after the barrier takes the unit's own slots: weights three units on, and, after the last unit of a stage,
// the stage num_slots on. A unit is one run of instructions without a branch, in which all that is not a product hides
// among the products: of two warps a scheduler, one alone has to keep the tensor cores busy while the other is in its
// epilogue.
// Grid: blocks take turns at tiles, channels first, so that neighbours share x; y: parts of the terms, summed by
// conv_mma_reduce_kernel in their order. What comes first of the next tile is loaded during the epilogue, which works on
// the sums where they are: a thread has two neighbours of a plane or, as pixels are ordered for quads, four, and, as packed
// weights order channels, eight of a pixel.
// Budget: kMmaTiles has registers and blocks; shared memory as MmaConfig::smem_bytes. Bound: tensor cores, of which
// mma.sync reaches 65 percent on an H100 (648 TFLOP/s); the path to L1 and shared memory comes next.

#include "ops/conv/mma/epilogue.cuh"
#include "ops/conv/mma/feed.cuh"

namespace solder::mma {

template <class T>
using WeightSet = uint32_t[T::kParts][T::kChannelGroups][4];
template <class T>
using PixelSet = uint32_t[T::kParts][T::kPixelGroups][4];
template <class T>
using Sums = float[T::kGroups][T::kPieces][4];

/// The fragments of one step, from `at` on: this lane's vector of this warp's first channels.
template <class T>
__device__ __forceinline__ void load_weights(uint32_t at, WeightSet<T>& set) {
#pragma unroll
  for (int part = 0; part < T::kParts; ++part)
#pragma unroll
    for (int i = 0; i < T::kChannelGroups; ++i) {
      const uint4 bits = sm80::load_shared_bits(at + part * T::kStepBytes + i * 512);
      uint32_t(&words)[4] = set[part][i];
      words[0] = bits.x, words[1] = bits.y, words[2] = bits.z, words[3] = bits.w;
    }
}

/// One step of 16 terms; each group of pixels is loaded anew, from `next_at`, as soon as it has been multiplied. Of two parts
/// a step has sums of its own, low products first, which are added to the others by float32 additions: tensor cores cut off
/// what they add to, by which longer sums made the logits of a network of 60 layers 1e-5 too small.
template <class T>
__device__ __forceinline__ void multiply(const Params& p, const WeightSet<T>& weights, PixelSet<T>& pixels,
                                         uint32_t next_at, const uint32_t (&rows)[T::kPixelGroups],
                                         Sums<T>& sums) {
#pragma unroll
  for (int j = 0; j < T::kPixelGroups; ++j) {
#pragma unroll
    for (int i = 0; i < T::kChannelGroups; ++i) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        float(&sum)[4] = T::kPlanes ? sums[i][j * 2 + h] : sums[j][i * 2 + h];
        const auto add_product = [&](int of_weights, int of_pixels, float(&d)[4]) {
          const uint32_t(&w)[4] = weights[of_weights][i];
          const uint32_t(&x)[4] = pixels[of_pixels][j];
          const auto& a = T::kPlanes ? w : x;
          const auto& b = T::kPlanes ? x : w;
          if constexpr (T::kDtype == DType::bfloat16)
            sm80::multiply_add_bfloat16(d, a, b[h * 2], b[h * 2 + 1]);
          else
            sm80::multiply_add_half(d, a, b[h * 2], b[h * 2 + 1]);
        };
        if constexpr (T::kParts == 2) {
          float own[4] = {};
          add_product(1, 0, own), add_product(0, 1, own), add_product(0, 0, own);
#pragma unroll
          for (int e = 0; e < 4; ++e) sum[e] += own[e];
        } else {
          add_product(0, 0, sum);
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

/// Where the rings are read.
template <class T>
struct Reader {
  int x_slot = 0, weight_slot = 0;
  uint32_t x, weights;  ///< of this unit

  __device__ Reader(const Smem<T>& smem, uint32_t lane_weights)
      : x(smem.ring), weights(smem.weights + lane_weights) {}

  /// Goes on to the next unit, which is another stage's where this one `ends` its.
  __device__ __forceinline__ void step(const Params& p, const Smem<T>& smem, bool ends) {
    const MmaConfig& c = p.config;
    weights += T::kUnitBytes;
    if (++weight_slot == kMmaWeightSlots) weight_slot = 0, weights -= kMmaWeightSlots * T::kUnitBytes;
    x += c.unit_bytes;
    if (ends) {
      x_slot = x_slot + 1 == c.num_slots ? 0 : x_slot + 1;
      x = smem.ring + x_slot * c.stage_bytes;
    }
  }
};

/// Waits for the next unit and its stage: of what this thread has asked for, all but the last unit's.
__device__ __forceinline__ void wait_for_unit() { sm80::copy_async_wait<1>(); }

template <class T>
__global__ void __launch_bounds__(T::kThreads, T::kPerSm) conv_mma_kernel(const __grid_constant__ Params p) {
  extern __shared__ __align__(128) uint8_t smem_base[];
  const MmaConfig& c = p.config;
  const Smem<T> smem(p, smem_base);
  const ScaleSmem<T> scale_smem(smem);
  const Terms terms(c);
  const int thread = static_cast<int>(sm80::opaque(threadIdx.x)), warp = thread / 32, lane = thread % 32;
  const int num_tiles = static_cast<int>(c.num_tiles()), step = static_cast<int>(gridDim.x);
  int tile = static_cast<int>(blockIdx.x);

  WeightFeed<T> weight_feed(p, terms, thread);
  PixelFeed<T> pixel_feed(p, terms);
  for (int i = 0; i < c.num_tables - 1; ++i)
    if (tile + i * step < num_tiles)
      fill_table<T>(p, smem.tables + i * c.stage_positions * 8, tile + i * step, thread);
  __syncthreads();
#pragma unroll 1
  for (int i = 0; i < kMmaWeightSlots; ++i) {
    weight_feed(p, smem, terms, thread);
    if (i == 0) follow_previous();
    if (i < c.num_slots) pixel_feed(p, smem, terms, thread);
    sm80::copy_async_commit();
  }
  wait_for_unit();
  __syncthreads();

  Reader<T> reader(smem, warp_place<T>(warp).channel * 32 + lane * 16);
  int free_table = c.num_tables - 1;
#pragma unroll 1
  for (; tile < num_tiles; tile += step) {
    if (const int after = tile + (c.num_tables - 1) * step; after < num_tiles)
      fill_table<T>(p, smem.tables + free_table * c.stage_positions * 8, after, thread);
    free_table = free_table + 1 == c.num_tables ? 0 : free_table + 1;
    const Place block = place_of<T>(p, tile);
    const Scales<T> scales(p, block, thread);
    uint32_t rows[T::kPixelGroups];  // of shared memory, that this lane gives ldmatrix
#pragma unroll
    for (int j = 0; j < T::kPixelGroups; ++j) {
      // Matrices in the order of registers: rows of the product before terms, columns after them.
      const int row = T::kPlanes ? pixel_of_column(p, lane / 16, lane % 8) : lane % 16,
                second = T::kPlanes ? lane / 8 % 2 : lane / 16;
      const int pixel = block.pixel + warp_place<T>(warp).pixel + j * 16 + row;
      const uint32_t position = position_of(p, min(pixel, p.num_pixels - 1)) - position_of(p, block.pixel);
      rows[j] = position * kMmaRowBytes + static_cast<uint32_t>(second * 16);
    }
    Sums<T> sums;
    clear<T>(sums);
    WeightSet<T> weights[2];  // of this step and the next
    PixelSet<T> pixels;
    load_weights<T>(reader.weights, weights[0]);
#pragma unroll
    for (int i = 0; i < T::kParts; ++i)
#pragma unroll
      for (int j = 0; j < T::kPixelGroups; ++j)
        sm80::load_matrices(reader.x + rows[j] + i * c.part_bytes, pixels[i][j]);
    const auto multiply_unit = [&](auto ends, int left) {
      load_weights<T>(reader.weights + T::kParts * T::kStepBytes, weights[1]);
      multiply<T>(p, weights[0], pixels, reader.x + 32, rows, sums);
      wait_for_unit();
      __syncthreads();
      if constexpr (ends) scales.store_if(left == terms.num_stages, scale_smem, thread);
      reader.step(p, smem, ends);
      // After a tile's last unit fragments are loaded in vain: loads under a condition come late.
      load_weights<T>(reader.weights, weights[0]);
      multiply<T>(p, weights[1], pixels, reader.x, rows, sums);
      weight_feed(p, smem, terms, thread);
      if constexpr (ends) pixel_feed(p, smem, terms, thread);
      sm80::copy_async_commit();
    };
#pragma unroll 1
    for (int left = terms.num_stages; left > 0; --left) {
#pragma unroll 1
      for (int unit = 1; unit < c.stage_units; ++unit) multiply_unit(std::false_type(), left);
      multiply_unit(std::true_type(), left);
    }
    if (c.split > 1) {
      store_partial<T>(p, tile * c.split + static_cast<int>(blockIdx.y), warp, lane, sums);
      continue;
    }
    if (terms.num_stages == 1) __syncthreads();  // scales were stored behind the last barrier
    finish_groups<T, T::kGroups>(p, scale_smem, block, warp, lane, 0, sums);
  }
  sm80::copy_async_wait<0>();
}

/// Sums the parts of tile blockIdx.x in their order, 16 rows of each warp's in a block, and finishes them. Bound: memory.
template <class T>
__global__ void __launch_bounds__(T::kThreads) conv_mma_reduce_kernel(const __grid_constant__ Params p) {
  extern __shared__ __align__(128) uint8_t smem_base[];
  const ScaleSmem<T> smem(Smem<T>(p, smem_base));
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const int tile = static_cast<int>(blockIdx.x), group = static_cast<int>(blockIdx.y);
  const Place block = place_of<T>(p, tile);
  follow_previous();
  const Scales<T> scales(p, block, thread);
  scales.store_if(true, smem, thread);
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
