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

/// Asks for a stage of x, whose positions have so many vectors.
template <class T, int kStageVectors>
__device__ __forceinline__ void load_stage(const Params& p, uint32_t to, uint32_t table, const Stage& stage,
                                           int thread) {
  constexpr int kRowBytes = kStageVectors * 16 + 16, kStep = T::kThreads / kStageVectors;
  const MmaInput& x = p.config.x;
  const int lane_vector = thread % kStageVectors, vector = stage.block * kStageVectors + lane_vector;
  // Packed x has zeros behind its last channel; other tensors may have anything there.
  const int num_bytes = vector >= p.num_vectors                      ? 0
                        : !T::kPlanes && vector == p.num_vectors - 1 ? p.last_bytes
                                                                     : 16;
  const int tap = 1 << stage.r | 1 << (kMostMmaTaps + stage.s);
  const int in_pixel =
      x.block_vectors == 4 ? (vector >> 2) * static_cast<int>(x.block) + (vector & 3) : vector;
  const uint4* const from = p.x + (in_pixel + stage.r * p.dil_h * static_cast<int>(x.row) +
                                   stage.s * p.dil_w * static_cast<int>(x.column));
  int position = thread / kStageVectors;
  to += static_cast<uint32_t>(position * kRowBytes + lane_vector * 16);
  table += static_cast<uint32_t>(position * 8);
  const auto copy = [&](int2 entry, uint32_t dst) {
    const bool is_inside = (entry.y & tap) == tap && num_bytes > 0;
#pragma unroll
    for (int part = 0; part < T::kParts; ++part) {
      const uint4* const src = from + entry.x + part * x.part;
      if constexpr (T::kPlanes)
        sm80::copy_async_16_or_zeros(dst + part * p.config.part_bytes, src, is_inside);
      else
        sm80::copy_async_16(dst, src, is_inside ? num_bytes : 0);
    }
  };
  // There are at least as many positions as pixels.
  constexpr int kTurns = T::kPixels / kStep, kBatch = kTurns < 8 ? kTurns : 8;
#pragma unroll
  for (int first = 0; first < kTurns; first += kBatch) {
    int2 entries[kBatch];
#pragma unroll
    for (int b = 0; b < kBatch; ++b)
      entries[b] = sm80::load_shared_words(table + static_cast<uint32_t>((first + b) * kStep * 8));
#pragma unroll
    for (int b = 0; b < kBatch; ++b)
      copy(entries[b], to + static_cast<uint32_t>((first + b) * kStep * kRowBytes));
  }
#pragma unroll 1
  for (position += T::kPixels; position < p.config.stage_positions; position += kStep) {
    table += static_cast<uint32_t>(kStep * 8), to += static_cast<uint32_t>(kStep * kRowBytes);
    copy(sm80::load_shared_words(table + static_cast<uint32_t>((kTurns - 1) * kStep * 8)),
         to + static_cast<uint32_t>((kTurns - 1) * kStep * kRowBytes));
  }
}

/// What a block multiplies: of each of its tiles these stages, and the units that they have.
struct Terms {
  int first_stage, num_stages, num_units;

  __device__ explicit Terms(const MmaConfig& c) {
    const int split = static_cast<int>(blockIdx.y);
    first_stage = static_cast<int>(int64_t{c.num_stages} * split / c.split);
    num_stages = static_cast<int>(int64_t{c.num_stages} * (split + 1) / c.split) - first_stage;
    num_units = num_stages * c.stage_units;
  }
};

/// Asks for stages of x in the order in which they are multiplied, over all tiles of a block.
template <class T>
struct PixelFeed {
  int tile, left, slot = 0, table = 0;
  Stage stage;

  __device__ PixelFeed(const Params& p, const Terms& terms)
      : tile(static_cast<int>(blockIdx.x)), left(terms.num_stages), stage(p, terms.first_stage) {}

  __device__ __forceinline__ void operator()(const Params& p, const Smem<T>& smem, const Terms& terms,
                                             int thread) {
    const MmaConfig& c = p.config;
    if (tile < static_cast<int>(c.num_tiles())) {
      const uint32_t to = smem.ring + slot * c.stage_bytes,
                     from = smem.tables + table * c.stage_positions * 8;
      if (c.stage_vectors == 8)
        load_stage<T, 8>(p, to, from, stage, thread);
      else
        load_stage<T, 4>(p, to, from, stage, thread);
    }
    slot = slot + 1 == c.num_slots ? 0 : slot + 1;
    stage.step(p);
    if (--left > 0) return;
    tile += static_cast<int>(gridDim.x), left = terms.num_stages;
    table = table + 1 == c.num_slots ? 0 : table + 1;
    stage = Stage(p, terms.first_stage);
  }
};

/// Asks for units of weights likewise.
template <class T>
struct WeightFeed {
  /// Vectors of a tile's channels in a step of 16 terms of one part, and how many of them a thread brings.
  static constexpr int kVectors = T::kChannels * 2, kTurns = (kVectors + T::kThreads - 1) / T::kThreads;

  const uint4* next;  ///< this thread's first vector of the next unit
  int tile, left, slot = 0;

  __device__ WeightFeed(const Params& p, const Terms& terms, int thread)
      : tile(static_cast<int>(blockIdx.x)) {
    start(p, terms, thread);
  }
  __device__ static int part_vectors(const Params& p) {
    return static_cast<int>(p.config.tiles_channels) * kVectors;
  }
  __device__ __forceinline__ void start(const Params& p, const Terms& terms, int thread) {
    const int64_t unit_vectors = int64_t{part_vectors(p)} * T::kParts * 2;
    next = p.weights + int64_t{terms.first_stage} * p.config.stage_units * unit_vectors +
           place_of<T>(p, tile).channel * 2 + thread;
    left = terms.num_units;
  }
  __device__ __forceinline__ void operator()(const Params& p, const Smem<T>& smem, const Terms& terms,
                                             int thread) {
    if (tile < static_cast<int>(p.config.num_tiles())) {
      const uint32_t to = smem.weights + slot * T::kUnitBytes + thread * 16;
#pragma unroll
      for (int i = 0; i < 2 * T::kParts; ++i, next += part_vectors(p))
#pragma unroll
        for (int turn = 0; turn < kTurns; ++turn)
          if ((turn + 1) * T::kThreads <= kVectors || turn * T::kThreads + thread < kVectors)
            sm80::copy_async_16(to + (i * kVectors + turn * T::kThreads) * 16, next + turn * T::kThreads, 16);
    }
    slot = slot + 1 == p.config.weight_slots ? 0 : slot + 1;
    if (--left > 0) return;
    tile += static_cast<int>(gridDim.x);
    start(p, terms, thread);
  }
};

}  // namespace solder::mma
