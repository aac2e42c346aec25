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
  const uint8_t* weights;      ///< slots, see pack_nhwc_weights
  const float* scales;         ///< [K], up to whole tiles
  const float* bias;           ///< [K], or [N,K]; null: none
  const float *scale, *shift;  ///< [K], behind the residual; null: none
  Surface y, residual;         ///< residual.data null: none
  bool has_constants;          ///< the four above are no other kernel's
  ConvChain activation;
  ResidualAt residual_at;
  float slope;
  PixelScaling scaling;
  /// Of scaled x: the steps of a part's channels and of those before end here.
  int part_steps[kMostScaledParts];
  const float* weight_bound;  ///< the largest sum of |w| of an output channel; of scaled values
  bool is_early;              ///< the next kernel may start at once; otherwise once x has been fetched
  /// Of scaled values a block has that many tiles in a row, and the first `longer_runs` blocks one more, as they mostly have
  /// the same image then; 0: neighbours are other blocks'.
  int run_tiles, longer_runs;
  int N, K, P, Q, S;
  int stride_h, stride_w, dil_h, dil_w, pad_top, pad_left;
  FastDivisor by_channel_tiles, by_pixels, by_q, by_tile_rows, by_tile_cols, by_cols;
  int num_pixels;        ///< N P Q
  int tiles_h, tiles_w;  ///< of an image, where x is fetched as windows
  /// There, in units of 16 bytes: from a tap to the next one right and down, and from one run of 8 pixels of a product to
  /// the next.
  uint32_t right16, down16, eight16;
  /// data null: none. Last, as most launches do not read it.
  Surface sum;
  const uint16_t* narrow_bias;  ///< instead of `bias`, of x's type; null: none
  int64_t bias_image;           ///< elements from one image's bias to the next; 0: they share it
  /// Of 16 pixels and 64 channels of y, where the copy engine stores them: warpgroups that take turns wait for issue slots.
  bool has_y_map;
  /// There, of weights without exponents: sums begin with the biases, which saves an addition a value.
  bool starts_with_bias;
  CUtensorMap y_map;
};

/// A tile as a type; a step has kRows filter rows. Three: slots of x are windows. kSums: sums may be stored, too.
template <int kIndex, int kRows_, int kSlot_, bool kSums>
struct Tile {
  static constexpr NhwcTile kTile = kNhwcTiles[kIndex];
  static constexpr int kGroups = kTile.num_groups, kChannels = kTile.channels, kPerSm = kTile.blocks_per_sm;
  static constexpr int kRows = kRows_, kRowBytes = 2 * kSlot_;
  static constexpr int kConsumerWarps = 4 * kGroups;
  static constexpr bool kIsWindow = kRows > 1, kTakesTurns = kTile.takes_turns, kStoresSums = kSums;
  /// Warps that read a slot.
  static constexpr int kReaders = kTakesTurns ? 4 : kConsumerWarps;
  /// Where registers are moved from producers to consumers, both are whole warpgroups.
  static constexpr bool kMovesRegisters = kPerSm == 1;
  static constexpr int kRegisters = kGroups == 3 ? 152 : 232;
  static constexpr int kThreads = nhwc_threads(kTile);
  static constexpr int kPixels = kTile.pixels();
  static constexpr int kWeightBytes = kChannels * kRowBytes;
  static constexpr int kStaged = nhwc_staged_channels(kTile), kPasses = nhwc_passes(kTile);
  static constexpr bool kCanSplit = can_split(kTile);
  /// Which of a tile's blocks of 64 pixels is a warpgroup's.
  static __device__ int block_of(int group) { return kTakesTurns ? 0 : group; }
};

constexpr uint32_t kJoinedBytes = 8, kKeptBytes = 16;
static_assert(8 * (2 * kMaxNhwcSlots + 2 * kMaxNhwcWeightSlots + 1) + 3 * kJoinedBytes + 12 * kKeptBytes <=
              kNhwcBarrierBytes);

/// Shared memory, as 32-bit addresses.
struct Smem {
  // Barriers.
  uint32_t x_full, x_empty, weight_full, weight_empty, parts;
  uint32_t joined;    // [group], of scaled results: see join_warp()
  uint32_t kept;      // [consumer warp], of scaled values: see Kept
  uint32_t channels;  // [group][table][table_channels], by pairs
  uint32_t zeros;     // where warpgroups take turns, as many as a table has
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
  s.joined = s.parts + 8;
  s.kept = s.joined + 3 * kJoinedBytes;
  s.channels = base + kNhwcBarrierBytes;
  constexpr NhwcTile kTile = Tile::kTile;
  s.zeros = s.channels + kTile.num_groups * p.config.num_tables * p.config.table_channels * 8;
  s.staging = s.channels + nhwc_channel_bytes(kTile, p.config.num_tables, p.config.table_channels);
  // Both are swizzled by their addresses: weights, which come so from memory, lie as if from 0 on.
  s.weights = (s.staging + nhwc_staging_bytes(kTile, p.config.split, p.config.stagings) + 1023) & ~1023u;
  s.x = s.weights + p.config.weight_slots * Tile::kWeightBytes;
  return s;
}

/// A place in a ring of slots; `parity` is that of the phase to wait for.
struct RingPlace {
  int slot = 0;
  uint32_t parity = 0;
  __device__ void step(int num_slots) {
    if (++slot == num_slots) slot = 0, parity ^= 1;
  }
  __device__ void skip(int count, int num_slots) {
    for (slot += count; slot >= num_slots; slot -= num_slots) parity ^= 1;
  }
};

/// One tile of the product: what part of y it is.
struct Work {
  int channel;  // its first
  int pixel;  // its first, of all images; where x is fetched as a window, of a rectangle whose corner it is, or of a
              // run, which may begin behind a row's last
  int n, p, q;  // the same pixel
};

/// Tile `index` of this block, if there is one; channels innermost, so that neighbours share x.
template <class Tile>
__device__ bool find_work(const Params& p, int index, Work* work) {
  int tile = static_cast<int>(blockIdx.x);
  if (p.config.split > 1) {
    if (index > 0) return false;
    tile /= p.config.split;
  } else if (p.run_tiles == 0) {
    tile += index * static_cast<int>(gridDim.x);
  } else {
    // Where warpgroups take turns, of the tiles of the block's channels.
    const int step = Tile::kTakesTurns ? static_cast<int>(p.config.tiles_channels) : 1;
    const int run = Tile::kTakesTurns ? static_cast<int>(p.by_channel_tiles.divide(tile)) : tile;
    if (index >= p.run_tiles + (run < p.longer_runs)) return false;
    tile += (run * (p.run_tiles - 1) + min(run, p.longer_runs) + index) * step;
  }
  const int tiles_channels = static_cast<int>(p.config.tiles_channels);
  const int along = static_cast<int>(p.by_channel_tiles.divide(tile));
  if (along >= static_cast<int>(p.config.tiles_pixels)) return false;
  work->channel = (tile - along * tiles_channels) * Tile::kChannels;
  if (Tile::kIsWindow) {
    const int row = static_cast<int>(p.by_tile_cols.divide(along));
    const int images = static_cast<int>(p.by_tile_rows.divide(row)), down = row - images * p.tiles_h;
    work->n = images * p.config.tile_images;
    if (p.config.has_patches) {
      work->p = down * p.config.tile_rows, work->q = (along - row * p.tiles_w) * p.config.tile_cols;
    } else {
      const int position = down * p.config.tile_step;
      work->p = static_cast<int>(p.by_cols.divide(position));
      work->q = position - work->p * p.config.window_cols;
    }
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
  const NhwcConfig& c = p.config;
  if (!Tile::kIsWindow) return work.pixel + row < p.num_pixels ? work.pixel + row : -1;
  int image = 0, down, right;
  if (c.has_patches) {
    const int block = row / 64, of_rows = block >> c.across_log2;
    image = of_rows >> c.down_log2;
    down = (of_rows - (image << c.down_log2)) * 8 + row % 64 / 8;
    right = (block - (of_rows << c.across_log2)) * 8 + row % 8;
  } else {
    if (row >= c.tile_step) return -1;  // the next tile's
    const int position = work.q + row;
    down = static_cast<int>(p.by_cols.divide(position)), right = position - down * c.window_cols - work.q;
  }
  const bool is_inside = work.n + image < p.N && work.p + down < p.P && work.q + right < p.Q;
  return is_inside ? work.pixel + (image * p.P + down) * p.Q + right : -1;
}

/// The steps whose terms this block sums: of all, those of its rank in the cluster.
__device__ inline void find_steps(const Params& p, int* first, int* end) {
  *first = 0, *end = p.config.num_steps;
  if (p.config.split == 1) return;
  const int rank = static_cast<int>(sm90::cluster_rank());
  *first = rank * p.config.num_steps / p.config.split;
  *end = (rank + 1) * p.config.num_steps / p.config.split;
}

/// What x and y hold; scaled: float16, y perhaps float32.
enum class Values : uint8_t { float16, bfloat16, scaled };
constexpr DType dtype_of(Values values) {
  return values == Values::bfloat16 ? DType::bfloat16 : DType::float16;
}

using Kernel = void (*)(Params);

/// The instance of a chain (relu, which is none, too; mish, which is once or twice; any) for a config. Sums are not stored
/// behind scaled values, nor by relu's: `any` does it for them.
template <Values kValues, ConvChain kChain>
Kernel select_kernel(const NhwcConfig& config, bool stores_sums);

}  // namespace solder::nhwc
