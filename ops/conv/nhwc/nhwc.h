#pragma once
// The convolution over 16-bit values with channels innermost, for Hopper. Here: how a problem is cut up and its weights
// packed, pure host code in the words of conv_nhwc_kernel, where they are explained.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ops/conv/conv.h"
#include "ops/conv/pixels/pixels.h"
#include "runtime/dtype.h"

namespace solder {

/// A block's tile of the product [pixels, channels]; the kernel has an instance for each of kNhwcTiles. Three more, 256x128,
/// 256x64 and a 64x128 that shares a multiprocessor, would save two networks 0.4 percent at most, by the times of their layers.
/// 128x96 is there for 96, 192 and 384 channels.
struct NhwcTile {
  int num_groups;     ///< consumer warpgroups, of 64 pixels each
  int channels;       ///< the n of its wgmma
  int blocks_per_sm;  ///< of threads, that fit a multiprocessor together
  /// A warpgroup has a tile for itself, and while it finishes that the others take theirs; the weights stay. Otherwise
  /// they share a tile's pixels.
  bool takes_turns = false;
  constexpr int blocks() const { return takes_turns ? 1 : num_groups; }  ///< of 64 pixels
  constexpr int pixels() const { return 64 * blocks(); }
};

inline constexpr NhwcTile kNhwcTiles[] = {{2, 256, 1}, {2, 128, 1}, {2, 64, 2},        {1, 64, 2},
                                          {2, 32, 2},  {1, 32, 2},  {3, 128, 1, true}, {2, 96, 1}};
inline constexpr int kNumNhwcTiles = static_cast<int>(std::size(kNhwcTiles));

/// Input channels of one slot of the rings, a swizzled row of 128 bytes; half of it where there are no more.
inline constexpr int kNhwcSlotChannels = 64;
inline constexpr int kMaxNhwcSlots = 12;  ///< of x
inline constexpr int kMaxNhwcWeightSlots = 20;
inline constexpr int kMaxNhwcSplit = 8;  ///< blocks of a cluster

/// Whether there is an instance with half slots. Small tiles have none: they are for small grids, which wait for slots
/// rather than for products, and theirs would be 36 kernels beside the 200.
constexpr bool has_half_slots(const NhwcTile& tile) { return tile.channels <= 64 && tile.num_groups > 1; }

/// Whether there are instances, of whole slots, that store sums besides results: a thread has registers for it.
constexpr bool can_store_sums(const NhwcTile& tile) {
  return tile.channels <= 128 && (tile.num_groups == 1 || tile.blocks_per_sm == 1);
}

/// Whether the kernel has code to split the terms: few registers hold its sums, and a warp stores whole rows of them.
constexpr bool can_split(const NhwcTile& tile) {
  return !tile.takes_turns && can_store_sums(tile) && tile.channels != 96;
}

/// Of a block: consumers and a warp for each ring; whole warpgroups where they hand on registers, as one block does that
/// has a multiprocessor for itself.
constexpr int nhwc_threads(const NhwcTile& tile) {
  return 32 * (4 * tile.num_groups + (tile.blocks_per_sm == 1 ? 4 : 2));
}

/// How a slot of x is fetched.
enum class NhwcFetch : uint8_t {
  flat,    ///< a run of pixels: 1x1 filters without stride or padding
  im2col,  ///< the pixels that one filter tap meets, gathered by the copy engine
  window   ///< a rectangle and what lies around it, which serves all taps; three filter rows, stride 1
};

/// How one convolution is cut up.
struct NhwcConfig {
  int tile = 0;  ///< index into kNhwcTiles
  NhwcFetch fetch = NhwcFetch::im2col;
  int split = 1;  ///< blocks of a cluster that share the terms of a tile
  /// Where x is fetched as a window: what a tile of patches covers of the output, and what of x a tile takes.
  int tile_images = 0, tile_rows = 0, tile_cols = 0, window_rows = 0, window_cols = 0;
  bool has_patches = false;                  ///< 64 pixels are 8 x 8; otherwise a run of the window's
  int tile_step = 0;                         ///< of runs: from the beginning of a tile to the next one's
  int64_t tiles_down = 0, tiles_across = 0;  ///< of an image, or of tile_images
  int across_log2 = 0, down_log2 = 0;        ///< patches side by side and below each other; then come images
  int slot_channels = kNhwcSlotChannels;
  int num_chunks = 0;      ///< of slot_channels input channels
  int num_steps = 0;       ///< of a tile: chunks, outermost, times taps (of one row, in windows)
  int rows_per_step = 1;   ///< filter rows of a step, each with a slot of weights
  int steps_per_slot = 1;  ///< that a slot of x serves
  int table_channels = 0;  ///< whose scales and biases are in shared memory together: a tile's, or all
  int num_tables = 1;      ///< of those; a second one has scales and shifts behind the residual
  int x_slots = 0, weight_slots = 0;  ///< of the rings
  int stagings = 1;                   ///< passes of results that shared memory has room for, a warp
  int x_slot_bytes = 0, x_load_bytes = 0;
  int64_t tiles_pixels = 0, tiles_channels = 0;
  bool is_linear = false;  ///< each slot is filled once: nothing waits for a free one
  int smem_bytes = 0;
  int num_blocks = 0;       ///< the grid
  double predicted_us = 0;  ///< what the choice was made by

  constexpr NhwcTile shape() const { return kNhwcTiles[tile]; }
  constexpr int row_bytes() const { return 2 * slot_channels; }
  int64_t num_tiles() const { return tiles_pixels * tiles_channels; }
  constexpr int num_slots() const { return num_steps / steps_per_slot; }  ///< of x, a tile
  int64_t num_weight_slots() const { return int64_t{num_steps} * rows_per_step; }
};

/// Shared memory in front of the rings: barriers, then per-channel scales and biases and, where warpgroups take turns, as
/// many zeros, then what results pass through.
constexpr int kNhwcBarrierBytes = 1024;
constexpr int nhwc_channel_bytes(const NhwcTile& tile, int tables, int channels) {
  return (tile.num_groups * tables + tile.takes_turns) * channels * 8;
}
/// Channels of a warp's 16 pixels that pass through shared memory at a time, 16-bit with 16 bytes between rows, and
/// passes of a tile.
constexpr int nhwc_staged_channels(const NhwcTile& tile) { return tile.channels % 64 == 0 ? 64 : 32; }
constexpr int nhwc_pass_bytes(int channels) { return 16 * (channels * 2 + 16); }
constexpr int nhwc_passes(const NhwcTile& tile) { return tile.channels / nhwc_staged_channels(tile); }
constexpr int nhwc_staging_bytes(const NhwcTile& tile, int split, int stagings) {
  if (split > 1) return tile.pixels() * (tile.channels + 8) * 4;
  return tile.num_groups * 4 * stagings * nhwc_pass_bytes(nhwc_staged_channels(tile));
}

/// "tile 128x128 im2col, 98 tiles of 9 steps, ...": for logs.
std::string to_string(const NhwcConfig& config);

/// What an epilogue does that takes time.
struct NhwcWork {
  bool has_residual = false, has_functions = false, has_scale = false;  ///< functions: more than a comparison
  bool stores_sum = false;
  bool has_image_biases = false;  ///< an image's bias is its own
  bool stores_floats = false;     ///< results are no 16-bit vectors
};

/// The choice for a device with `num_sms` multiprocessors. nullopt, with the reason in words, when the kernel does not
/// cover the shape. Pure: no device is asked.
std::optional<NhwcConfig> choose_nhwc_config(const ConvShape& shape, const PixelStrides& x,
                                             const NhwcWork& work, int num_sms, std::string* why_not);

/// As above, given these.
std::optional<NhwcConfig> make_nhwc_config(const ConvShape& shape, const PixelStrides& x,
                                           const NhwcWork& work, int num_sms, int tile, NhwcFetch fetch,
                                           int split, std::string* why_not);

/// Bytes of the packed weights: a head, then slots.
int64_t packed_nhwc_bytes(const NhwcConfig& config);
int64_t packed_nhwc_head_bytes(const NhwcConfig& config);

/// Packs w [K,C,R,S]: for each output channel, up to whole tiles, the float32 2^-exponent by which its sums are multiplied,
/// and behind these the largest sum of |w| of a channel; then the slots in the order in which a tile takes them, [tile of channels][slot][channel][slot_channels], swizzled as
/// wgmma reads them. A weight is w * 2^exponent of its channel, rounded to `dtype`.
std::vector<std::byte> pack_nhwc_weights(const ConvShape& shape, const NhwcConfig& config, DType dtype,
                                         const float* w, std::span<const int32_t> exponents);

/// What of the config pack_nhwc_weights depends on.
std::string packing_of(const NhwcConfig& config, DType dtype);

}  // namespace solder
