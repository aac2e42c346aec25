#pragma once
// The general fused convolution for Hopper: any stride, dilation, padding and size, one group. Here: how a
// problem is cut up and its weights packed, pure host code in the words of conv_window_kernel, where they are
// explained.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ops/conv/conv.h"
#include "ops/math_mode.h"

namespace solder {

/// How a consumer warpgroup's tile is cut; the kernel has one instance for each of kWindowTiles.
struct WindowTile {
  int positions = 256;  ///< of one warpgroup: the n of its wgmma
  bool split_k = true;  ///< the two warpgroups share positions and split 128 output channels; otherwise
                        ///< they share 64 output channels and split positions

  int block_k() const { return split_k ? 128 : 64; }
  int block_positions() const { return split_k ? positions : 2 * positions; }
};

inline constexpr WindowTile kWindowTiles[] = {{256, true},  {128, true},  {64, true},  {32, true},
                                              {256, false}, {128, false}, {64, false}, {32, false}};
inline constexpr int kNumWindowTiles = 8;

/// Output channels of one packed block of weights: the m of a wgmma.
inline constexpr int kWindowBlockK = 64;
/// Terms of one wgmma, and the bytes of its packed weights (one part of them; fp32 has a high and a low
/// part).
inline constexpr int kWindowStepTerms = 16;
inline constexpr int kWindowStepBytes = kWindowBlockK * kWindowStepTerms * 2;

// Shared memory, in order: barriers and tables of fixed size, what producers convert with (nothing where x is
// packed), windows, weights.
inline constexpr int kMaxWindowStages = 8;
inline constexpr int kMaxWindowWeightStages = 8;
inline constexpr int kMaxWindowChunkSteps = 256;
inline constexpr int kWindowProducers = 96;           ///< threads, each with every 96th position of a window
inline constexpr int kWindowTableBytes = 20;          ///< of one position of a window
inline constexpr int kWindowWeightStageBytes = 8192;  ///< of one block of 64 output channels
inline constexpr int kWindowStagingPitch = 40;  ///< floats: 8 mod 32 keeps 8-byte stores free of conflicts
inline constexpr int kWindowStagingBytes = 16 * kWindowStagingPitch * 4 + 16 * 4;  ///< of one consumer warp
inline constexpr int kWindowBarrierBytes = 512;
inline constexpr int kWindowInFlight = 5;  ///< loads of 16 channels a producer has under way
inline constexpr int kWindowRawBytes = kWindowProducers * (kWindowInFlight + 1) * kWindowStepTerms * 4;
inline constexpr int kWindowFixedBytes =
    kWindowBarrierBytes + 2 * kMaxWindowChunkSteps * 4 + 8 * kWindowStagingBytes;

/// How one convolution is cut up. All positions are virtual: see "Positions" at conv_window_kernel.
struct WindowConfig {
  Math math = Math::fp32;
  int tile = 0;       ///< index into kWindowTiles
  int num_parts = 1;  ///< float16 parts of an operand: 2 for fp32
  /// A pass before the kernel converts x once, into scratch laid out as windows are; otherwise producer warps
  /// convert each window, anew for every block of output channels.
  bool is_packed = false;

  // The terms of a sum: chunks of channels, outermost; in a chunk the taps; in a tap steps of 16 terms.
  int filter_cols = 1;     ///< filter columns in one step, for few channels: 16 / filter_cols channels each
  int chunk_channels = 0;  ///< a multiple of 16 (of terms, where filter_cols > 1)
  int num_chunks = 0;
  int num_taps = 0;     ///< R * ceil(S / filter_cols)
  int chunk_steps = 0;  ///< steps of a full chunk
  int last_steps = 0;   ///< steps of the last chunk
  int num_steps = 0;    ///< steps of all chunks

  // Positions.
  int phases_h = 1, phases_w = 1;  ///< planes of a window: input rows (columns) by their remainder mod stride
  int halo_h = 0, halo_w = 0;      ///< rows and columns that the last tap reaches beyond its output
  int num_strips = 1;              ///< vertical strips of an image, each a virtual image of its own
  int strip_w = 0;                 ///< output columns of a strip
  int pitch = 0, rows = 0;         ///< virtual image
  int64_t num_positions = 0;       ///< of the batch
  int window = 0;                  ///< positions of a block's window, in one phase
  int64_t packed_positions = 0;    ///< of packed x, in one phase: to the end of the last window

  // Shared memory.
  int window_stages = 0, weight_stages = 0;
  int window_stage_bytes = 0;
  int smem_bytes = 0;

  // Grid.
  int tiles_k = 0, tiles_positions = 0;
  double predicted_us = 0;  ///< what the choice was made by

  int64_t num_tiles() const { return int64_t{tiles_k} * tiles_positions; }
  constexpr int num_planes() const { return phases_h * phases_w; }
};

/// Shared memory in front of the windows: kWindowFixedBytes, then raw floats and the position table of
/// producers that convert.
constexpr int window_fixed_bytes(const WindowConfig& c) {
  if (c.is_packed) return kWindowFixedBytes;
  const int turns = (c.window * c.num_planes() + kWindowProducers - 1) / kWindowProducers;
  return kWindowFixedBytes + kWindowRawBytes +
         (turns * kWindowProducers * kWindowTableBytes + 127) / 128 * 128;
}

/// "tile 128x256k, 98 tiles, 1 chunks of 64 channels, ...": for logs.
std::string to_string(const WindowConfig& config);

/// Steps of 16 terms that one stage of the weight ring holds, 8 KiB.
constexpr int weight_stage_steps(Math math) {
  return kWindowWeightStageBytes / kWindowStepBytes / (math == Math::fp32 ? 2 : 1);
}

/// Cuts the problem up for a device with `num_sms` multiprocessors; packed x may take `max_packed_bytes` of
/// scratch. nullopt, with the reason in words, when the kernel does not cover it. Pure: no device is asked.
std::optional<WindowConfig> choose_window_config(const ConvShape& shape, Math math, int num_sms,
                                                 bool is_packed, int64_t max_packed_bytes,
                                                 std::string* why_not);

/// As above with a given tile and number of strips, whatever packed x takes.
std::optional<WindowConfig> make_window_config(const ConvShape& shape, Math math, int num_sms, int tile,
                                               int num_strips, bool is_packed, std::string* why_not);

/// Bytes of the packed weights, to be uploaded at a multiple of 16 bytes.
int64_t packed_window_bytes(const ConvShape& shape, const WindowConfig& config);

/// Packs w [K,C,R,S]: one scale exponent per output channel (int32, K rounded up to 64; see
/// weight_exponents), then for every 64 output channels and every step a block [part][k half][64 channels][8
/// terms] of float16.
std::vector<std::byte> pack_weights(const ConvShape& shape, const WindowConfig& config, const float* w,
                                    std::span<const int32_t> exponents);

/// What of the config pack_weights depends on.
std::string packing_of(const WindowConfig& config);

/// Bytes of packed x, [part][channels/8][phase][packed_positions][8] float16; 0 where x is converted.
int64_t packed_x_bytes(const ConvShape& shape, const WindowConfig& config);

/// Device scratch of one call: the range guard's state, then packed x at a multiple of 256 bytes.
int64_t conv_scratch_bytes(const ConvShape& shape, const WindowConfig& config);

}  // namespace solder
