#pragma once
// Fused convolution for wide images and many output channels (Hopper, Math::tf32): whole output rows at a
// time by clusters of two blocks, float16 operands under the range guard, the elementwise chain in the
// epilogue. How it works: ops/conv_rows.cu.
//
// Error: |y - exact| <= 2^-10 sum|x w| + 2^-24 A sum|w| before the epilogue, A = max|x| over the image.
// Order of calls: choose_rows_config (null: use another kernel), once per model pack_rows_weights, once per
// run conv_rows.

#include <cstdint>
#include <optional>
#include <string>

#include "ops/conv.h"
#include "ops/conv_epilogue.h"
#include "ops/conv_range.h"

namespace solder {

class Context;

/// How a convolution is cut up. Plain numbers: a pure function of the shape and the device's limits.
struct RowsConfig {
  int half_channels = 0;  ///< input channels that each block of a cluster converts; a multiple of 8
  int num_slots = 0;      ///< input rows in the ring
  int num_strips = 0;     ///< column strips an output row is cut into (1 up to 256 columns)
  int strip_cols = 0;     ///< output columns of a strip; the last may have fewer
  int num_k_blocks = 0;   ///< blocks of 128 output channels; each has its own clusters
  int clusters_per_k_block = 0;
  int64_t smem_bytes = 0;
  double efficiency = 0;  ///< useful part of the multiply-adds that the tensor cores execute

  int num_blocks() const { return 2 * num_k_blocks * clusters_per_k_block; }
  bool operator==(const RowsConfig&) const = default;
};

std::string to_string(const RowsConfig& config);

/// The config for `shape` on a device with `num_sms` processors and `smem_bytes` of shared memory a block;
/// nullopt, with the reason in `why_not` if given, when this kernel does not cover the shape. It covers
/// stride 1, groups 1, output channels in eights, any padding, dilations whose rows fit the ring, and filters
/// whose weights fit shared memory beside the ring (3x3 up to 64 input channels, 5x5 to 32, 7x7 to 16).
/// `efficiency` tells whether another kernel would do better.
std::optional<RowsConfig> choose_rows_config(const ConvShape& shape, int num_sms, int64_t smem_bytes,
                                             std::string* why_not = nullptr);

/// Packed weights: float16 [K/128][2][R*S][C/8][64][8], each output channel scaled by a power of two, then
/// the exponents, int32 [K], K and C padded with zeros as the config says.
int64_t rows_weight_bytes(const ConvShape& shape, const RowsConfig& config);

/// Packs w [K,C,R,S] on the host into rows_weight_bytes() bytes. False when a weight is not finite: such a
/// model must use a float32 path.
bool pack_rows_weights(const ConvShape& shape, const RowsConfig& config, const float* w, void* packed);

/// Device scratch for one call: maxima per cluster and image, then the ImageRange array. Its contents need no
/// preparation.
int64_t rows_scratch_bytes(const ConvShape& shape, const RowsConfig& config);

/// The ImageRange array [N] inside the scratch, complete after conv_rows: images whose range_status is
/// `strict` are left to conv_strict.
const ImageRange* rows_ranges(const ConvShape& shape, const RowsConfig& config, const void* scratch);

/// Enqueues y = epilogue(conv(x, w)) on the context's stream: the kernel, then its repair pass, which ends at
/// once unless an image needs a new scale. x: [N,C,H,W], y: [N,K,P,Q], float32, dense, 4-byte aligned;
/// scratch and packed weights 16-byte aligned. Nothing may overlap, except y and a `full` operand of the same
/// address: a repair would read what the first pass wrote, so that is not allowed either.
void conv_rows(const Context& context, const ConvShape& shape, const RowsConfig& config, const float* x,
               const void* packed, const ConvEpilogue& epilogue, float* y, void* scratch);

// ---- the kernel's fixed tile, shared by the host's choice and the device code ---------------------------

inline constexpr int kRowsTileCols = 256;        ///< output columns of a tile; a consumer takes half of them
inline constexpr int kRowsSlotCols = 264;        ///< pixels of a ring row: a tile and its padding
inline constexpr int kRowsBlockChannels = 64;    ///< output channels of a block: wgmma's M
inline constexpr int kRowsMaxHalfChannels = 32;  ///< 32 loads of 8 bytes in flight a thread
inline constexpr int kRowsMaxSlots = 8;
inline constexpr int kRowsStageCols = 32;    ///< columns that a warp stages at a time: a 128-byte line
inline constexpr int kRowsStagePitch = 36;   ///< floats: shifted 4 banks a row
inline constexpr int kRowsNumConsumers = 3;  ///< warpgroups that multiply
inline constexpr int kRowsNumConsumerWarps = 4 * kRowsNumConsumers;

/// Byte offsets in shared memory.
struct RowsSmem {
  int weights;  ///< [R*S][C/8][64][8] half
  int ring;     ///< [slot][C/8][kRowsSlotCols][8] half
  int stage;    ///< [consumer warp][8][kRowsStagePitch] float
  int control;  ///< exponents [slot], warp maxima [4], barriers: full [slot], empty [slot], weights
  int total;
};

constexpr int rows_plane_bytes() { return kRowsSlotCols * 16; }

SOLDER_HD constexpr RowsSmem rows_smem(int num_taps, int half_channels, int num_slots) {
  RowsSmem smem{};
  smem.weights = 0;
  smem.ring = num_taps * half_channels * 2 * kRowsBlockChannels * 2;
  smem.stage = smem.ring + num_slots * (half_channels / 4) * kRowsSlotCols * 16;
  smem.control = smem.stage + kRowsNumConsumerWarps * 8 * kRowsStagePitch * 4;
  smem.total = smem.control + 2 * kRowsMaxSlots * 4 + 16 + (2 * kRowsMaxSlots + 1) * 8 + 8;
  return smem;
}

}  // namespace solder
