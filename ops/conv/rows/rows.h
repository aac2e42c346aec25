#pragma once
// Fused convolution for wide images and many output channels (Hopper): whole output rows at a time by
// clusters of blocks, float16 operands under the range guard. Here: how a problem is cut up and its weights
// packed, pure host code, and the tile that it shares with conv_rows_kernel.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ops/conv/conv.h"
#include "ops/math_mode.h"
#include "runtime/device.h"

namespace solder {

/// How a convolution is cut up. Plain numbers: a pure function of the shape and the device's limits.
struct RowsConfig {
  Math math = Math::tf32;
  int share_channels = 0;  ///< input channels that each of two blocks converts, in eights (fp32: sixteens)
  int num_slots = 0;       ///< input rows in the ring
  int num_strips = 0;      ///< column strips an output row is cut into (1 up to 256 columns)
  int strip_cols = 0;      ///< output columns of a strip; the last may have fewer
  int num_k_blocks = 0;    ///< blocks of cluster_channels() output channels; each has its own clusters
  int clusters_per_k_block = 0;
  int64_t smem_bytes = 0;
  double efficiency = 0;    ///< useful part of the multiply-adds that the tensor cores execute
  double predicted_us = 0;  ///< on an H100; infinity where another kernel does better

  /// float16 parts of an operand: fp32 has a high and a low one.
  constexpr int num_parts() const { return math == Math::fp32 ? 2 : 1; }
  /// Output channels of a cluster: its blocks have 64 each, with fp32 the same 64.
  constexpr int cluster_channels() const { return math == Math::fp32 ? 64 : 128; }
  /// Input channels that a block multiplies: all, with fp32 the half that it converts.
  constexpr int block_in_channels() const { return math == Math::fp32 ? share_channels : 2 * share_channels; }
  int num_blocks() const { return 2 * num_k_blocks * clusters_per_k_block; }
};

std::string to_string(const RowsConfig& config);

/// The config for `shape` on `device`; nullopt, with the reason in words, when this kernel does
/// not cover the shape. It covers stride 1, groups 1, output channels in eights, any padding, dilations whose
/// rows fit the ring, and filters whose weights fit shared memory beside the ring (3x3 up to 64 input
/// channels, 5x5 to 32, 7x7 to 16). `efficiency` tells whether another kernel would do better.
std::optional<RowsConfig> choose_rows_config(const ConvShape& shape, Math math, const DeviceInfo& device,
                                             std::string* why_not);

/// Packed weights: float16 [K / cluster_channels()][block of the cluster][R*S][channels / 8][part][64][8],
/// each output channel scaled by a power of two, then the exponents, int32 [K], K and C padded with zeros as
/// the config says.
int64_t rows_weight_bytes(const ConvShape& shape, const RowsConfig& config);

/// Packs w [K,C,R,S], scaled by `exponents` (see weight_exponents).
std::vector<std::byte> pack_weights(const ConvShape& shape, const RowsConfig& config, const float* w,
                                    std::span<const int32_t> exponents);

/// What of the config pack_weights depends on.
std::string packing_of(const RowsConfig& config);

/// Device scratch of one call: maxima per cluster and image, then the range guard's state.
int64_t conv_scratch_bytes(const ConvShape& shape, const RowsConfig& config);

// ---- the kernel's fixed tile, shared by the host's choice and the device code ---------------------------

inline constexpr int kRowsTileCols = 256;                ///< output columns of a tile
inline constexpr int kRowsPartCols = kRowsTileCols / 2;  ///< those that a consumer takes at a time
inline constexpr int kRowsBlockChannels = 64;            ///< output channels of a block: wgmma's M
inline constexpr int kRowsMaxPlanes = 8;                 ///< 16-byte pieces of a pixel in a block's ring
inline constexpr int kRowsMaxSlots = 8;
inline constexpr int kRowsStageCols = 32;    ///< columns that a warp stages at a time: a 128-byte line
inline constexpr int kRowsStagePitch = 36;   ///< floats: shifted 4 banks a row
inline constexpr int kRowsNumConsumers = 3;  ///< warpgroups that multiply
inline constexpr int kRowsNumWarps = 4 * (1 + kRowsNumConsumers);
inline constexpr int kRowsNumConsumerWarps = 4 * kRowsNumConsumers;

/// Pixels of a ring row: a tile and its padding, for which fp32 has less room.
constexpr int rows_slot_cols(int num_parts) { return kRowsTileCols + (num_parts == 1 ? 8 : 4); }
/// Bytes of one plane of a ring row: 16 for every pixel.
constexpr int rows_plane_bytes(int num_parts) { return rows_slot_cols(num_parts) * 16; }
/// Staging of one consumer warp; with fp32 also where sums of the partner block arrive, 16 a thread.
constexpr int rows_stage_bytes(int num_parts) {
  return num_parts == 1 ? 8 * kRowsStagePitch * 4 : 32 * 16 * 4;
}

/// Byte offsets in shared memory.
struct RowsSmem {
  int weights;  ///< [R*S][channels / 8][part][64][8] half
  int ring;     ///< [slot][channels / 8][part][rows_slot_cols][8] half
  int stage;    ///< [consumer warp][rows_stage_bytes]
  int control;  ///< exponents [2 kRowsMaxSlots], two arrays of maxima [kRowsNumWarps], then the barriers
  int full, empty, weights_ready, sums_full, sums_empty;  ///< barriers; sums_*: one a consumer warp
  int total;
};

constexpr RowsSmem rows_smem(int num_taps, int share_channels, int num_parts, int num_slots) {
  const int num_planes = share_channels / 4;  // of a block: two shares, or the high and low parts of one
  RowsSmem smem{};
  smem.weights = 0;
  smem.ring = num_taps * num_planes * kRowsBlockChannels * 16;
  smem.stage = smem.ring + num_slots * num_planes * rows_plane_bytes(num_parts);
  smem.control = smem.stage + kRowsNumConsumerWarps * rows_stage_bytes(num_parts);
  smem.full = smem.control + 2 * kRowsMaxSlots * 4 + 2 * kRowsNumWarps * 4;
  smem.empty = smem.full + kRowsMaxSlots * 8;
  smem.weights_ready = smem.empty + kRowsMaxSlots * 8;
  smem.sums_full = smem.weights_ready + 8;
  smem.sums_empty = smem.sums_full + kRowsNumConsumerWarps * 8;
  smem.total = smem.sums_empty + kRowsNumConsumerWarps * 8;
  return smem;
}

}  // namespace solder
