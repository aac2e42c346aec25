#pragma once
// What conv_mma_kernel is told, and its tiles.

#include "ops/conv/mma/mma.h"
#include "ops/conv/pixels/pixels.h"
#include "ops/conv/range/convert.cuh"
#include "ops/ptx/sm80.cuh"
#include "runtime/divide.h"

namespace solder::mma {

struct Params {
  MmaConfig config;
  const uint4* x;            ///< see MmaInput
  const uint4* weights;      ///< see pack_mma_weights
  uint32_t weight_vectors;   ///< from one tile's channels to the next
  const float* scales;       ///< [K], up to whole tiles
  const float* bias;         ///< [K]; null: none
  const ImageRange* ranges;  ///< [N]; null: x has no exponents
  float* partial;            ///< [tile][split][warp][fragment][lane][4], where terms are split
  Math math;
  // The epilogue. Of float32 in planes: y and residual [N,K,P,Q], images so far apart.
  PixelSurface y, residual;  ///< otherwise
  float* y_planes;
  const float* residual_planes;
  int64_t y_image, residual_image;
  bool by_pairs;  ///< pixels 2 i and 2 i + 1 of a plane lie on 8 bytes, of the residual too
  /// Pixels 4 i to 4 i + 3 of a plane of y lie on 16 bytes, K is whole groups of 16, and there is no residual.
  bool by_quads;
  ConvChain activation;
  ResidualAt residual_at;
  float slope;
  int N, H, W, K, P, Q, R, S, stride_h, dil_h, dil_w, pad_top, pad_left;
  int num_pixels;   ///< N P Q
  int num_vectors;  ///< of a pixel of x
  int last_bytes;   ///< of its last vector
  /// Filter columns that have stages of their own, and vectors of x from a stage to that of the next column; to that of
  /// the next row, of the next block, on top.
  int stage_columns, next_column, next_row, next_block;
  FastDivisor by_pixels, by_q, by_p, by_pitch, by_channel_tiles;
};

/// A tile of kMmaTiles as a type, of values of a type. kPlanes: the result is float32 in planes, channels are rows of the
/// product; otherwise pixels are, and 16-bit pixels the result.
template <int kTileIdx, DType kDtypeValue, bool kPlanesValue>
struct Tile {
  static constexpr MmaTile kTile = kMmaTiles[kTileIdx];
  static constexpr DType kDtype = kDtypeValue;
  static constexpr bool kPlanes = kPlanesValue;
  static constexpr int kParts = kTile.num_parts, kThreads = kTile.threads(), kPerSm = kTile.blocks_per_sm;
  static constexpr int kChannels = kTile.channels(), kPixels = kTile.pixels();
  static constexpr int kWarpChannels = kTile.warp_channels, kWarpPixels = kTile.warp_pixels;
  static constexpr int kChannelGroups = kWarpChannels / 16, kPixelGroups = kWarpPixels / 16;  ///< of a warp
  /// Sums of a warp: groups of 16 rows, each of so many pieces of 8 columns.
  static constexpr int kGroups = kPlanes ? kChannelGroups : kPixelGroups;
  static constexpr int kColumns = kPlanes ? kWarpPixels : kWarpChannels, kPieces = kColumns / 8;
  /// Weights of a step of 16 terms, one part; of a unit.
  static constexpr int kStepBytes = kChannels * 32, kUnitBytes = 2 * kParts * kStepBytes;
};

/// What a block computes: a tile's first channel and pixel.
struct Place {
  int channel, pixel;
};

template <class T>
__device__ Place place_of(const Params& p, int tile) {
  const int along = static_cast<int>(p.by_channel_tiles.divide(static_cast<uint32_t>(tile)));
  return {(tile - along * static_cast<int>(p.config.tiles_channels)) * T::kChannels, along * T::kPixels};
}

/// This warp's part of a tile.
template <class T>
__device__ Place warp_place(int warp) {
  return {warp / T::kTile.warps_pixels * T::kWarpChannels, warp % T::kTile.warps_pixels * T::kWarpPixels};
}

/// Where pixels are columns of the product: which of 16 is column `column` of the first or second piece of 8. With quads
/// a thread, which has two neighbouring columns of both pieces, gets four neighbours, and a piece's rows in shared memory
/// still meet all banks.
__device__ inline int pixel_of_column(const Params& p, int piece, int column) {
  return p.by_quads ? column / 2 * 4 + (piece ^ column / 4) * 2 + column % 2 : piece * 8 + column;
}

/// Shared memory, as 32-bit addresses.
template <class T>
struct Smem {
  uint32_t ring;     ///< of x: stages
  uint32_t weights;  ///< a ring of kMmaWeightSlots units, see pack_mma_weights
  /// int2 [num_tables][stage_positions]: where positions of this and the next tiles lie in x.
  uint32_t tables;
  uint32_t scales;  ///< of this tile, see ScaleSmem

  // Opaque, as the compiler would work the first address out each time.
  __device__ Smem(const Params& p, const void* base) : ring(sm80::opaque(sm80::smem_address(base))) {
    weights = ring + p.config.num_slots * p.config.stage_bytes;
    tables = weights + kMmaWeightSlots * T::kUnitBytes;
    scales = tables + p.config.num_tables * p.config.stage_positions * 8;
  }
};

/// Of one tile: scales and biases of its channels, scales of its pixels.
template <class T>
struct ScaleSmem {
  uint32_t channels;  ///< [2][kChannels]: scales, biases
  uint32_t pixels;    ///< [kPixels]

  __device__ explicit ScaleSmem(const Smem<T>& smem)
      : channels(smem.scales), pixels(channels + T::kChannels * 8) {}
};

using Kernel = void (*)(Params);

/// The instance for a tile of kMmaTiles; each has its own unit. `reduces`: of what sums the parts of split tiles.
template <int kParts, DType kDtype, bool kPlanes>
Kernel find_kernel(int tile, bool reduces);

}  // namespace solder::mma
