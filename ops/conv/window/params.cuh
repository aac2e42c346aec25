#pragma once
// What the roles of conv_window_kernel share: parameters, shared memory, rings and the arithmetic of
// positions. The terms are explained at conv_window_kernel.

#include "ops/conv/fused.h"
#include "ops/conv/range/range.h"
#include "ops/conv/window/window.h"
#include "ops/ptx/sm80.cuh"
#include "runtime/divide.h"

namespace solder::window {

inline constexpr int kNumThreads = 384;
inline constexpr int kProducers = kWindowProducers;

struct Params : KernelShape {
  const float* x;            // [N,C,H,W]
  const uint8_t* blocks;     // [K/64][step][part][2][64][8] float16
  const int32_t* exponents;  // [K rounded up to 64]
  ImageRange* ranges;        // [N]
  uint4* packed_x;           // [part][C/8][phase][packed_positions] of 8 float16, where x is packed
  float* y;                  // [N,K,P,Q]
  int64_t x_image, y_image;  // elements from one image to the next
  bool is_repair;            ///< redo (pack again) the images whose status is rescale, and nothing else
  FastDivisor by_pitch, by_rows, by_strips, by_window;
  WindowConfig config;
  ConvEpilogue epilogue;
};

using Kernel = void (*)(Params);

/// The instance for a tile of kWindowTiles; each mode has its own in one file.
template <Math kMath>
Kernel select_kernel(int tile);

/// Enqueues the conversion of x to packed x, and its repair.
void pack_x(const Context& context, const Params& params);

/// What differs between the kernel's instances.
template <int kPositionsValue, bool kSplitKValue, Math kMathValue>
struct Tile {
  static constexpr int kPositions = kPositionsValue;  ///< of a consumer warpgroup
  static constexpr bool kSplitK = kSplitKValue;       ///< see WindowTile
  static constexpr Math kMath = kMathValue;
  static constexpr int kParts = kMath == Math::fp32 ? 2 : 1;
  static constexpr int kStageSteps = weight_stage_steps(kMath);
  static constexpr int kBlockPositions = kSplitK ? kPositions : 2 * kPositions;
  static constexpr int kBlocks = kSplitK ? 2 : 1;  ///< of 64 output channels
};

/// Shared memory addresses.
struct Smem {
  uint32_t window_full, window_empty;  // barriers [kMaxWindowStages]
  uint32_t weight_full, weight_empty;  // barriers [2][kMaxWindowWeightStages], a ring for each consumer
  int* offsets;                        // [2][kMaxWindowChunkSteps]: of full chunks, of the last
  float* staging;                      // [8 warps]: [16][kWindowStagingPitch], biases [16]
  // Where x is not packed:
  uint32_t raw;             // [kInFlight + 1][16][kProducers] floats on their way to a window
  const float* raw_values;  // the same
  int64_t* origins;         // position table [positions]: of channel 0 in x; -1: reads as zero
  float* scales;            // ... 2^exponent, where the window covers several images
  float* maxima;            // ... max|x| so far, likewise
  int* columns;             // ... input column, with several filter columns in a step
  // Always:
  uint8_t* windows;
  uint8_t* weights;  // [2][weight_stages][kWindowWeightStageBytes]
};

__device__ inline Smem carve(uint8_t* base, const WindowConfig& c) {
  Smem s;
  s.window_full = sm80::smem_address(base);
  s.window_empty = s.window_full + 8 * kMaxWindowStages;
  s.weight_full = s.window_empty + 8 * kMaxWindowStages;
  s.weight_empty = s.weight_full + 8 * 2 * kMaxWindowWeightStages;
  s.offsets = reinterpret_cast<int*>(base + kWindowBarrierBytes);
  s.staging = reinterpret_cast<float*>(base + kWindowBarrierBytes + 2 * kMaxWindowChunkSteps * 4);
  const int size = c.window * c.num_planes();
  const int entries = (size + kProducers - 1) / kProducers * kProducers;
  s.raw_values = reinterpret_cast<const float*>(base + kWindowFixedBytes);
  s.raw = sm80::smem_address(s.raw_values);
  s.origins = reinterpret_cast<int64_t*>(base + kWindowFixedBytes + kWindowRawBytes);
  s.scales = reinterpret_cast<float*>(s.origins + entries);
  s.maxima = s.scales + entries;
  s.columns = reinterpret_cast<int*>(s.maxima + entries);
  s.windows = base + window_fixed_bytes(c);
  s.weights = s.windows + c.window_stages * c.window_stage_bytes;
  return s;
}

/// A virtual position, taken apart.
struct Position {
  int image, row, column;  // column: of the image, in outputs
  bool is_inside;          // of a strip's outputs' columns
};

__device__ inline Position locate(const Params& p, uint32_t position) {
  const uint32_t line = p.by_pitch.divide(position);
  const uint32_t strip = p.by_rows.divide(line);
  const uint32_t image = p.by_strips.divide(strip);
  const int column = static_cast<int>(position - line * static_cast<uint32_t>(p.config.pitch));
  const int strip_idx = static_cast<int>(strip - image * static_cast<uint32_t>(p.config.num_strips));
  return {static_cast<int>(image), static_cast<int>(line - strip * static_cast<uint32_t>(p.config.rows)),
          strip_idx * p.config.strip_w + column, column < p.config.strip_w};
}

__device__ inline int image_exponent(const Params& p, int image) {
  const ImageRange range = p.ranges[image];
  const Math math = p.config.math;
  const bool is_redone = p.is_repair || p.config.is_packed;
  const bool is_exact = is_redone && range_status(range, math) == RangeStatus::rescale;
  return is_exact ? exact_exponent(range.max_bits, math) : range.exponent;
}

/// The images a run of positions touches, the last one included.
__device__ inline int2 images_of(const Params& p, int64_t first, int num_positions) {
  const int last = locate(p, static_cast<uint32_t>(first + num_positions - 1)).image;
  return {locate(p, static_cast<uint32_t>(first)).image, min(last, p.N - 1)};
}

__device__ inline bool needs_rescale(const Params& p, int image) {
  return range_status(p.ranges[image], p.config.math) == RangeStatus::rescale;
}

/// Whether a tile is to be computed: all of them, or in the repair those with an image to redo.
template <class Tile>
__device__ bool is_needed(const Params& p, int64_t first_position) {
  if (!p.is_repair) return true;
  const int2 images = images_of(p, first_position, Tile::kBlockPositions);
  bool found = false;
  for (int n = images.x; n <= images.y; ++n) found |= needs_rescale(p, n);
  return found;
}

}  // namespace solder::window
