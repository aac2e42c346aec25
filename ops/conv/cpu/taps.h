#pragma once
// The convolution of groups with few channels, depthwise ones above all. A tile of the image is copied once,
// padded and with its strides taken apart: column w of it lies in plane w % stride_w at w / stride_w, rows
// likewise. So every tap sees the outputs' inputs side by side, and rows of outputs follow one another.

#include <optional>

#include "ops/conv/conv.h"
#include "ops/matmul/panel_cpu.h"

namespace solder {

/// How the outputs are cut: tiles of [rows, columns] of P x Q.
struct TapTiles {
  ConvShape shape;
  int64_t channels = 0;  ///< of a group's input
  int64_t rows = 0, columns = 0;
  int64_t h_phases = 0, w_phases = 0;  ///< planes that some tap reads
  int64_t plane_h = 0, plane_w = 0;    ///< of each
  int64_t num_elems() const { return channels * h_phases * w_phases * plane_h * plane_w; }
  int64_t num_sums() const { return (rows - 1) * plane_w + columns; }  ///< with those between the rows
};

/// None where panels are faster or a tile would be too large.
std::optional<TapTiles> plan_tap_tiles(const ConvShape& shape);

/// As conv_cpu, to the bit.
void conv_taps(const TapTiles& tiles, const ConvStrides& strides, const float* x, const float* w, float* y,
               ThreadPool* pool, CpuLevel level);

}  // namespace solder
