#pragma once
// What conv_nhwc_kernel is told, and what its roles share.

#include <cuda.h>

#include "ops/conv/nhwc/launch.h"
#include "ops/ptx/sm80.cuh"
#include "ops/ptx/sm90.cuh"
#include "runtime/divide.h"

namespace solder::nhwc {

using Surface = PixelSurface;

struct Params {
  CUtensorMap x;
  NhwcConfig config;
  const uint8_t* weights;  ///< slots, see pack_nhwc_weights
  const float* scales;     ///< [K], up to whole tiles
  const float* bias;       ///< [K]; null: none
  Surface y, residual;     ///< residual.data null: none
  ConvChain activation;
  ResidualAt residual_at;
  float slope;
  bool is_early;  ///< the next kernel may start at once; otherwise once x has been fetched
  int N, K, P, Q, S;
  int stride_h, stride_w, dil_h, dil_w, pad_top, pad_left;
  FastDivisor by_channel_tiles, by_pixels, by_q, by_tile_rows, by_tile_cols, by_cols;
  int num_pixels;        ///< N P Q
  int tiles_h, tiles_w;  ///< of an image, where x is fetched by rows
};

/// A tile as a type; kRows filter rows share a slot of x.
template <int kIndex, int kRows_, int kSlot_>
struct Tile {
  static constexpr NhwcTile kTile = kNhwcTiles[kIndex];
  static constexpr int kGroups = kTile.num_groups, kBlocks = kTile.num_blocks, kChannels = kTile.channels,
                       kPerSm = kTile.blocks_per_sm;
  static constexpr int kRows = kRows_, kRowBytes = 2 * kSlot_;
  static constexpr int kConsumerWarps = 4 * kGroups;
  /// Where registers are moved from producers to consumers, both are whole warpgroups.
  static constexpr bool kMovesRegisters = kPerSm == 1;
  static constexpr int kThreads = nhwc_threads(kTile);
  static constexpr int kPixels = kTile.pixels();
  static constexpr int kWeightBytes = kChannels * kRowBytes;
  static constexpr int kStaged = nhwc_staged_channels(kTile), kPasses = nhwc_passes(kTile),
                       kStagings = nhwc_stagings(kTile);
  static constexpr bool kCanSplit = can_split(kTile);
};

/// Shared memory, as 32-bit addresses.
struct Smem {
  uint32_t x_full, x_empty, weight_full, weight_empty, parts;  // barriers
  uint32_t channels;                                           // [group][table_channels], by pairs
  uint32_t staging, x, weights;
};

template <class Tile>
__device__ Smem carve(const Params& p, uint32_t base) {
  Smem s;
  s.x_full = base;
  s.x_empty = s.x_full + 8 * kMaxNhwcSlots;
  s.weight_full = s.x_empty + 8 * kMaxNhwcSlots;
  s.weight_empty = s.weight_full + 8 * kMaxNhwcWeightSlots;
  s.parts = s.weight_empty + 8 * kMaxNhwcWeightSlots;
  s.channels = base + kNhwcBarrierBytes;
  constexpr NhwcTile kTile = Tile::kTile;
  s.staging = s.channels + nhwc_channel_bytes(kTile, p.config.table_channels);
  s.x = (s.staging + nhwc_staging_bytes(kTile, p.config.split) + 1023) & ~1023u;
  s.weights = s.x + p.config.x_slots * p.config.x_slot_bytes;
  return s;
}

/// A place in a ring of slots; `parity` is that of the phase to wait for.
struct RingPlace {
  int slot = 0;
  uint32_t parity = 0;
  __device__ void step(int num_slots) {
    if (++slot == num_slots) slot = 0, parity ^= 1;
  }
};

/// One tile of the product: what part of y it is.
struct Work {
  int channel;  // its first
  int pixel;    // its first, of all images; where x is fetched by rows, of a rectangle whose corner it is
  int n, p, q;  // the same pixel
};

/// Tile `index` of this block, if there is one; channels innermost, so that neighbours share x.
template <class Tile>
__device__ bool find_work(const Params& p, int index, Work* work) {
  int tile = static_cast<int>(blockIdx.x);
  if (p.config.split > 1) {
    if (index > 0) return false;
    tile /= p.config.split;
  } else {
    tile += index * static_cast<int>(gridDim.x);
  }
  const int tiles_channels = static_cast<int>(p.config.tiles_channels);
  const int along = static_cast<int>(p.by_channel_tiles.divide(tile));
  if (along >= static_cast<int>(p.config.tiles_pixels)) return false;
  work->channel = (tile - along * tiles_channels) * Tile::kChannels;
  if (Tile::kRows > 1) {
    const int row = static_cast<int>(p.by_tile_cols.divide(along));
    work->q = (along - row * p.tiles_w) * p.config.tile_cols;
    work->n = static_cast<int>(p.by_tile_rows.divide(row));
    work->p = (row - work->n * p.tiles_h) * p.config.tile_rows;
    work->pixel = (work->n * p.P + work->p) * p.Q + work->q;
  } else {
    work->pixel = along * Tile::kPixels;
    work->n = static_cast<int>(p.by_pixels.divide(work->pixel));
    const int rest = work->pixel - work->n * p.P * p.Q;
    work->p = static_cast<int>(p.by_q.divide(rest));
    work->q = rest - work->p * p.Q;
  }
  return true;
}

/// The pixel, of all images, that is row `row` of a tile's product; -1 where it is none.
template <class Tile>
__device__ int pixel_of(const Params& p, const Work& work, int row) {
  if (Tile::kRows == 1) return work.pixel + row < p.num_pixels ? work.pixel + row : -1;
  const int down = static_cast<int>(p.by_cols.divide(row)), right = row - down * p.config.tile_cols;
  const bool is_inside = down < p.config.tile_rows && work.p + down < p.P && work.q + right < p.Q;
  return is_inside ? work.pixel + down * p.Q + right : -1;
}

/// The slots of x whose terms this block sums: of all, those of its rank in the cluster.
__device__ inline void find_slots(const Params& p, int* first, int* end) {
  *first = 0, *end = p.config.num_slots;
  if (p.config.split == 1) return;
  const int rank = static_cast<int>(sm90::cluster_rank());
  *first = rank * p.config.num_slots / p.config.split;
  *end = (rank + 1) * p.config.num_slots / p.config.split;
}

using Kernel = void (*)(Params);

/// The instance of a chain (relu, which is none, too, mish or any) for a config.
template <ConvChain kChain>
Kernel select_kernel(const NhwcConfig& config, bool is_bfloat16);

}  // namespace solder::nhwc
