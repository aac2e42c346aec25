#pragma once
// How x comes into the ring of conv_mma_kernel.

#include "ops/conv/mma/params.cuh"

namespace solder::mma {

/// Where pixel `pixel` lies among all positions.
inline __device__ uint32_t position_of(const Params& p, int pixel) {
  const uint32_t row = p.by_q.divide(static_cast<uint32_t>(pixel));
  const uint32_t column = static_cast<uint32_t>(pixel) - row * static_cast<uint32_t>(p.Q);
  return row * static_cast<uint32_t>(p.config.pitch) + column * static_cast<uint32_t>(p.config.step);
}

/// Which of `taps` meet a row (or column) of `extent` when the first meets `first`: a bit each.
inline __device__ int taps_inside(int first, int dilation, int taps, int extent) {
  int bits = 0;
#pragma unroll 1
  for (int tap = 0; tap < taps; ++tap, first += dilation)
    bits |= static_cast<int>(static_cast<unsigned>(first) < static_cast<unsigned>(extent)) << tap;
  return bits;
}

/// Where positions of a tile lie in x for the first tap: offset in vectors; the filter rows, and in the upper half
/// columns (of those that are shared: all), that meet the image.
template <class T>
__device__ void fill_table(const Params& p, uint32_t table, int tile, int thread) {
  const uint32_t first = position_of(p, place_of<T>(p, tile).pixel);
#pragma unroll 1
  for (int i = thread; i < p.config.stage_positions; i += T::kThreads) {
    const uint32_t position = first + static_cast<uint32_t>(i), row = p.by_pitch.divide(position);
    const int image = static_cast<int>(p.by_p.divide(row));
    const int h = (static_cast<int>(row) - image * p.P) * p.stride_h - p.pad_top;
    const int column = static_cast<int>(position) - static_cast<int>(row) * p.config.pitch;
    const int w = column * p.config.column_step - p.pad_left;
    const MmaInput& x = p.config.x;
    const int offset =
        image * static_cast<int>(x.image) + h * static_cast<int>(x.row) + w * static_cast<int>(x.column);
    const int inside = taps_inside(h, p.dil_h, p.R, p.H) |
                       taps_inside(w, p.dil_w, p.config.is_shared ? 1 : p.S, p.W) << kMostMmaTaps;
    sm80::store_shared(table + i * 8, make_int2(offset, image < p.N ? inside : 0));
  }
}

/// A block of channels, filter row and (where columns are not shared) column.
struct Stage {
  int block, r, s;

  __device__ Stage(const Params& p, int index) : block(0), r(0), s(0) {
    if (index == 0) return;
    const int columns = p.config.is_shared ? 1 : p.S, taps = p.R * columns;
    block = index / taps;
    r = (index - block * taps) / columns;
    s = index - block * taps - r * columns;
  }
  __device__ void step(const Params& p) {
    if (!p.config.is_shared && ++s < p.S) return;
    s = 0;
    if (++r < p.R) return;
    r = 0, ++block;
  }
};

/// Asks for a stage of x.
template <class T>
__device__ __forceinline__ void load_stage(const Params& p, uint32_t to, uint32_t table, const Stage& stage,
                                           int thread) {
  constexpr int kBatch =
      T::kPixels / 32 + 1 < 5 ? T::kPixels / 32 + 1 : 5;  // table entries on their way together
  const MmaInput& x = p.config.x;
  const int shift = p.config.stage_vectors == 8 ? 3 : 2;
  const int lane_vector = thread & (p.config.stage_vectors - 1),
            vector = (stage.block << shift) + lane_vector;
  const int num_bytes = vector < p.num_vectors - 1 ? 16 : vector == p.num_vectors - 1 ? p.last_bytes : 0;
  const int tap = 1 << stage.r | 1 << (kMostMmaTaps + stage.s);
  const int in_pixel =
      x.block_vectors == 4 ? (vector >> 2) * static_cast<int>(x.block) + (vector & 3) : vector;
  const uint4* const from = p.x + (in_pixel + stage.r * p.dil_h * static_cast<int>(x.row) +
                                   stage.s * p.dil_w * static_cast<int>(x.column));
  const int row_bytes = p.config.row_bytes(), first = thread >> shift, step = T::kThreads >> shift;
  to += static_cast<uint32_t>(first * row_bytes + lane_vector * 16);
  table += static_cast<uint32_t>(first * 8);
#pragma unroll 1
  for (int i = first; i < p.config.stage_positions; i += kBatch * step) {
    int2 entries[kBatch];
#pragma unroll
    for (int b = 0; b < kBatch; ++b)
      if (i + b * step < p.config.stage_positions)
        entries[b] = sm80::load_shared_words(table + static_cast<uint32_t>(b * step * 8));
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      if (i + b * step >= p.config.stage_positions) continue;
      const int inside = (entries[b].y & tap) == tap ? num_bytes : 0;
#pragma unroll
      for (int part = 0; part < T::kParts; ++part)
        sm80::copy_async_16(to + static_cast<uint32_t>(b * step * row_bytes + part * p.config.part_bytes),
                            from + entries[b].x + part * x.part, inside);
    }
    to += static_cast<uint32_t>(kBatch * step * row_bytes), table += static_cast<uint32_t>(kBatch * step * 8);
  }
}

/// The stages in the order in which they are multiplied, over all tiles of a block; all but one slot of the ring are on
/// their way.
template <class T>
struct Feed {
  int tile, left, slot = 0, table = 0;
  Stage stage;

  __device__ Feed(const Params& p, int tile, int first, int count)
      : tile(tile), left(count), stage(p, first) {}

  __device__ __forceinline__ void operator()(const Params& p, const Smem<T>& smem, int first, int count,
                                             int thread) {
    const MmaConfig& c = p.config;
    if (tile < static_cast<int>(c.num_tiles()))
      load_stage<T>(p, smem.ring + slot * c.stage_bytes, smem.tables + table * c.stage_positions * 8, stage,
                    thread);
    sm80::copy_async_commit();
    slot = slot + 1 == kMmaStages ? 0 : slot + 1;
    stage.step(p);
    if (--left > 0) return;
    tile += static_cast<int>(gridDim.x), table ^= 1, left = count;
    stage = Stage(p, first);
  }
};

}  // namespace solder::mma
