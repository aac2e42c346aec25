#pragma once
// The portable fused convolution, for sm_75 and later: an implicit product on mma.sync. Here: how a problem is cut up and
// its weights packed, pure host code in the words of conv_mma_kernel, where they are explained.

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ops/conv/conv.h"
#include "runtime/device.h"
#include "runtime/dtype.h"

namespace solder {

/// A block's tile of the product [channels, pixels] and its warps'; the kernel has instances for each of kMmaTiles.
struct MmaTile {
  int num_parts;  ///< float16 parts of an operand: 2 for fp32, otherwise 1
  int warps_channels, warps_pixels;
  int warp_channels, warp_pixels;  ///< of a warp
  int blocks_per_sm;               ///< whose registers fit a multiprocessor together
  constexpr int channels() const { return warps_channels * warp_channels; }
  constexpr int pixels() const { return warps_pixels * warp_pixels; }
  constexpr int threads() const { return 32 * warps_channels * warps_pixels; }
};

inline constexpr MmaTile kMmaTiles[] = {{1, 2, 2, 64, 64, 2}, {1, 1, 4, 64, 64, 2}, {1, 2, 2, 32, 32, 4},
                                        {2, 2, 2, 64, 32, 2}, {2, 1, 4, 64, 32, 2}, {2, 2, 2, 32, 32, 3}};
inline constexpr int kNumMmaTiles = static_cast<int>(std::size(kMmaTiles));

/// Registers of a thread by the kernel's launch bounds, on every architecture.
constexpr int mma_registers(const MmaTile& tile) {
  const int most = 65536 / (tile.threads() * tile.blocks_per_sm) / 8 * 8;
  return most < 255 ? most : 255;
}

/// Channels of one tap that are multiplied in one turn of the inner loop.
inline constexpr int kMmaUnitChannels = 32;
/// From one position to the next in shared memory.
inline constexpr int kMmaRowBytes = kMmaUnitChannels * 2 + 16;
inline constexpr int kMmaWeightSlots = 3;  ///< of the ring of weights, a unit each
inline constexpr int kMostMmaTaps = 16;    ///< rows of a filter, and columns where they are not shared
inline constexpr int kMaxMmaSplit = 16;

/// How x lies that the kernel reads, in vectors of 8 channels: [part][image][block of channels][row][column][vector].
struct MmaInput {
  int64_t part = 0, image = 0, block = 0, row = 0, column = 0;
  int64_t block_vectors = 0;  ///< vectors of a pixel that lie side by side
};

/// How one convolution is cut up.
struct MmaConfig {
  int tile = 0;  ///< index into kMmaTiles
  MmaInput x;
  /// x is packed, y float32 in planes: channels are rows of the product; otherwise columns.
  bool is_planes = false;
  // The terms of a sum: blocks of kMmaUnitChannels channels, outermost, filter rows, filter columns. A stage of the ring
  // has one block of one filter row; of all its columns, which are then read out of one copy of the pixels (shared), or
  // of one column.
  bool is_shared = false;
  int num_blocks = 0;   ///< of channels
  int num_stages = 0;   ///< of all terms
  int stage_units = 0;  ///< taps of a stage
  int unit_bytes = 0;   ///< of shared memory, from one unit to the next
  // Positions: where pixels lie in a stage. Pixel q of an output row is at q * step, the next row `pitch` behind.
  int step = 1, pitch = 0;
  int column_step = 1;      ///< input columns from one position to the next
  int stage_positions = 0;  ///< the most that a tile has
  int num_slots = 0;        ///< of the ring of x, a stage each
  int num_tables = 0;       ///< of positions: this tile's and those of the next that are asked for during it
  int part_bytes = 0, stage_bytes = 0, smem_bytes = 0;
  int64_t tiles_channels = 0, tiles_pixels = 0;
  int split = 1;            ///< blocks that share the terms of a tile
  int blocks_per_sm = 0;    ///< that fit a multiprocessor together
  int num_blocks_x = 0;     ///< of the grid, times split
  double predicted_us = 0;  ///< what the choice was made by

  constexpr const MmaTile& shape() const { return kMmaTiles[tile]; }
  constexpr int64_t num_tiles() const { return tiles_channels * tiles_pixels; }
  int64_t padded_channels() const { return tiles_channels * shape().channels(); }
  int64_t num_steps() const { return int64_t{num_stages} * stage_units * 2; }  ///< of 16 terms
  /// Of a unit.
  constexpr int weight_bytes() const { return shape().channels() * kMmaUnitChannels * 2 * shape().num_parts; }
};

inline constexpr int kMostFoldedChannels = 64;

/// Whether filter rows are folded into channels first: few channels would leave most of a slot empty. x may lie in any
/// way then.
constexpr bool folds_rows(int64_t C, int64_t R, int64_t groups) {
  return groups == 1 && R > 1 && C <= 8 && R * C <= kMostFoldedChannels;
}

/// The convolution that is left then, of x' [N,R*C,P,W] with x'[n, r * C + c, p, j] = x[n, c, i, j],
/// i = p * stride_h + r * dil_h - pad_top: a filter of one row.
ConvShape folded(const ConvShape& shape);

/// Its weights [K,R*C,1,S] from w [K,C,R,S].
std::vector<float> fold_weights(const ConvShape& shape, std::span<const float> w);

/// x as the pass before the kernel packs it, for `shape`, folded or not.
MmaInput packed_mma_input(const ConvShape& shape, int num_parts);
int64_t packed_mma_input_bytes(const ConvShape& shape, const MmaInput& x, int num_parts);

/// "tile 128x128, 98 tiles of 6 stages of 3 units, ...": for logs.
std::string to_string(const MmaConfig& config);

/// Shared memory of a multiprocessor in bytes, of which each block takes 1 KiB more than it asks for, and the most a
/// block may ask for, by compute capability (CUDA C++ programming guide, technical specifications).
struct SmemLimits {
  int per_sm, per_block;
};
SmemLimits smem_limits(int cc_major, int cc_minor);

/// The choice for a device. `is_planes`: a pass packs x before. nullopt, with the reason in words, when the kernel does
/// not cover the problem or something else is faster on such a device. Pure: no device is asked.
std::optional<MmaConfig> choose_mma_config(const ConvShape& shape, const MmaInput& x, int num_parts,
                                           bool is_planes, int64_t max_scratch_bytes,
                                           const DeviceInfo& device, std::string* why_not);

/// As above, given these.
std::optional<MmaConfig> make_mma_config(const ConvShape& shape, const MmaInput& x, int tile, int split,
                                         bool is_planes, const DeviceInfo& device, std::string* why_not);

/// Scratch for the parts of sums, where terms are split.
int64_t mma_partial_bytes(const MmaConfig& config);

/// Bytes of the packed weights.
int64_t packed_mma_bytes(const MmaConfig& config);

/// Packs w [K,C,R,S]: for each output channel, up to whole tiles, the float32 2^-exponent by which its sums are
/// multiplied; then, for each tile of channels, step of 16 terms, part and 16 output channels, the 16 bytes that each
/// lane of a warp multiplies: of channels lane / 4 and, 8 on, of terms lane % 4 * 2, the next, and both 8 on; where
/// channels are rows, both channels' two first terms come first, otherwise the first channel's terms (see
/// sm80::multiply_add_half). A weight is w * 2^exponent of its channel, rounded to `dtype`.
std::vector<std::byte> pack_mma_weights(const ConvShape& shape, const MmaConfig& config, DType dtype,
                                        const float* w, std::span<const int32_t> exponents);

/// What of the config pack_mma_weights depends on.
std::string packing_of(const MmaConfig& config, DType dtype);

}  // namespace solder
