#pragma once
// How x and weights come into the rings of conv_mma_kernel.

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
  int offset;  ///< vectors of x, from the first stage on

  static __device__ Stage at(const Params& p, int index) {
    if (index == 0) return {0, 0, 0, 0};
    const int taps = p.R * p.stage_columns, block = index / taps;
    const int r = (index - block * taps) / p.stage_columns, s = index - block * taps - r * p.stage_columns;
    const int row = p.next_row + p.stage_columns * p.next_column;
    return {block, r, s, block * (p.next_block + p.R * row) + r * row + s * p.next_column};
  }
  __device__ __forceinline__ void step(const Params& p) {
    ++s, offset += p.next_column;
    if (s == p.stage_columns) s = 0, ++r, offset += p.next_row;
    if (r == p.R) r = 0, ++block, offset += p.next_block;
  }
};

/// What a block multiplies: of each of its tiles these stages.
struct Terms {
  int first_stage, num_stages;

  __device__ explicit Terms(const MmaConfig& c) {
    const int split = static_cast<int>(blockIdx.y);
    first_stage = static_cast<int>(int64_t{c.num_stages} * split / c.split);
    num_stages = static_cast<int>(int64_t{c.num_stages} * (split + 1) / c.split) - first_stage;
  }
};

/// Asks for stages of x in the order in which they are multiplied, over all tiles of a block; after the last tile for
/// zeros. Selects in place of branches (see conv_mma_kernel).
template <class T>
struct PixelFeed {
  /// Vectors of a position, positions that the block brings at once, and in how many turns those of all pixels.
  static constexpr int kVectors = kMmaUnitChannels / 8, kStep = T::kThreads / kVectors,
                       kTurns = T::kPixels / kStep;

  int tile, left, slot = 0, table = 0;
  const Stage first;
  Stage stage;

  __device__ PixelFeed(const Params& p, const Terms& terms)
      : tile(static_cast<int>(blockIdx.x)),
        left(terms.num_stages),
        first(Stage::at(p, terms.first_stage)),
        stage(first) {}

  __device__ __forceinline__ void operator()(const Params& p, const Smem<T>& smem, const Terms& terms,
                                             int thread) {
    const MmaConfig& c = p.config;
    const int position = thread / kVectors, vector = stage.block * kVectors + thread % kVectors;
    // Packed x has zeros behind its last channel; other tensors may have anything there.
    int num_bytes = !T::kPlanes && vector == p.num_vectors - 1 ? p.last_bytes : 16;
    if (tile >= static_cast<int>(c.num_tiles()) || vector >= p.num_vectors) num_bytes = 0;
    const int taps = 1 << stage.r | 1 << (kMostMmaTaps + stage.s);
    const uint32_t offset = static_cast<uint32_t>(stage.offset + thread % kVectors);
    const uint32_t to = smem.ring + slot * c.stage_bytes + position * kMmaRowBytes + thread % kVectors * 16;
    const uint32_t from = smem.tables + (table * c.stage_positions + position) * 8;
    const auto is_inside = [&](int2 entry) { return (entry.y & taps) == taps && num_bytes > 0; };
    const auto source = [&](int2 entry) {
      return p.x + static_cast<int>(offset + static_cast<uint32_t>(entry.x));
    };
    const auto copy = [&](int2 entry, uint32_t dst) {
#pragma unroll
      for (int part = 0; part < T::kParts; ++part) {
        if constexpr (T::kPlanes)
          sm80::copy_async_16_or_zeros(dst + part * c.part_bytes, source(entry) + part * c.x.part,
                                       is_inside(entry));
        else
          sm80::copy_async_16(dst, source(entry), is_inside(entry) ? num_bytes : 0);
      }
    };
    // There are at least as many positions as pixels, and mostly a few more.
    const bool has_more = position + T::kPixels < c.stage_positions;
    int2 entries[kTurns + 1];
#pragma unroll
    for (int turn = 0; turn <= kTurns; ++turn)
      entries[turn] = sm80::load_shared_words(from + (turn < kTurns || has_more ? turn * kStep * 8 : 0));
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) copy(entries[turn], to + turn * kStep * kMmaRowBytes);
#pragma unroll
    for (int part = 0; part < T::kParts; ++part)
      sm80::copy_async_16_if(has_more, to + T::kPixels * kMmaRowBytes + part * c.part_bytes,
                             source(entries[kTurns]) + part * c.x.part,
                             is_inside(entries[kTurns]) ? num_bytes : 0);
    if (c.stage_positions > T::kPixels + kStep) {
#pragma unroll 1
      for (int more = T::kPixels + kStep; more + position < c.stage_positions; more += kStep)
        copy(sm80::load_shared_words(from + more * 8), to + more * kMmaRowBytes);
    }
    slot = slot + 1 == c.num_slots ? 0 : slot + 1;
    stage.step(p);
    const bool ends = --left == 0;
    const int next_table = table + 1 == c.num_tables ? 0 : table + 1;
    tile += ends ? static_cast<int>(gridDim.x) : 0;
    left = ends ? terms.num_stages : left, table = ends ? next_table : table;
    stage = {ends ? first.block : stage.block, ends ? first.r : stage.r, ends ? first.s : stage.s,
             ends ? first.offset : stage.offset};
  }
};

/// Asks for units of weights likewise.
template <class T>
struct WeightFeed {
  static constexpr int kTurns = T::kUnitBytes / 16 / T::kThreads;
  static_assert(kTurns * T::kThreads * 16 == T::kUnitBytes);

  uint32_t first, next;  ///< this thread's first vector of a tile's first channels, of the next unit
  int tile, left, slot = 0;
  int channels, step;  ///< the tile's, in tiles of channels; from there to those of this block's next tile

  __device__ WeightFeed(const Params& p, const Terms& terms, int thread)
      : tile(static_cast<int>(blockIdx.x)), left(terms.num_stages * p.config.stage_units) {
    const int tiles = static_cast<int>(p.config.tiles_channels);
    channels = tile % tiles, step = static_cast<int>(gridDim.x) % tiles;
    first = static_cast<uint32_t>(terms.first_stage * p.config.stage_units * (T::kUnitBytes / 16) + thread);
    next = first + static_cast<uint32_t>(channels) * p.weight_vectors;
  }
  __device__ __forceinline__ void operator()(const Params& p, const Smem<T>& smem, const Terms& terms,
                                             int thread) {
    const bool is_tile = tile < static_cast<int>(p.config.num_tiles());
    const uint32_t to = smem.weights + slot * T::kUnitBytes + thread * 16;
    const uint4* const from = p.weights + next;
    // Copies through registers, one after the other.
    constexpr int kAtOnce = sm80::kHasAsyncCopies ? kTurns : 1;
#pragma unroll kAtOnce
    for (int turn = 0; turn < kTurns; ++turn)
      sm80::copy_async_16_or_zeros(to + turn * T::kThreads * 16, from + turn * T::kThreads, is_tile);
    slot = slot + 1 == kMmaWeightSlots ? 0 : slot + 1;
    const bool ends = --left == 0;
    const int tiles = static_cast<int>(p.config.tiles_channels);
    channels += ends ? step : 0;
    channels -= channels >= tiles ? tiles : 0;
    next = ends ? first + static_cast<uint32_t>(channels) * p.weight_vectors : next + T::kUnitBytes / 16;
    tile += ends ? static_cast<int>(gridDim.x) : 0;
    left = ends ? terms.num_stages * p.config.stage_units : left;
  }
};

}  // namespace solder::mma
