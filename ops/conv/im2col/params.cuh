#pragma once
// What im2col_step_kernel is given, and where a chunk's pixels lie.

#include <cstdint>

#include "ops/conv/im2col/step.h"
#include "runtime/elements.cuh"

namespace solder::im2col {

/// Index: 32 bits wherever all counts and offsets but those between images allow.
template <class Index>
struct StepParams {
  ConvShape shape;
  ConvStrides strides;
  Im2colStep step;
  Math math;
  bool shares_rows;
  Index Q;
  Index plane_elems, y_plane_elems;  // H W, P Q
  Index group_channels;
  Index block_stride, channel_stride, group_stride;                        // of columns
  IndexDivisor<Index> by_image, by_row, by_blocks_per_row;                 // pixels; blocks of columns
  IndexDivisor<Index> by_pairs, by_width;                                  // of a row of columns, of sums
  IndexDivisor<Index> by_build_slices, by_group_slices, by_finish_slices;  // of channels
  Index slice_channels;
  Index num_pairs, num_sums;  // of all blocks; of a channel
  uint64_t build_share;       // of the grid's blocks, in 2^-32
  ConvEpilogue epilogue;
};

template <class Index>
struct Place {
  Index n, p, q;
};

/// Pixel `pixel` of row `row` of a chunk. Beyond its pixels: a place that need not exist.
template <class Index>
__device__ Place<Index> locate(const StepParams<Index>& p, const Im2colChunk& chunk, Index row, Index pixel) {
  if (p.shares_rows)
    return {static_cast<Index>(chunk.image), static_cast<Index>(chunk.first_row) + row, pixel};
  Place<Index> place;
  Index in_image;
  place.n = p.by_image.divide(static_cast<Index>(chunk.first_pixel) + pixel, &in_image);
  place.p = p.by_row.divide(in_image, &place.q);
  return place;
}

template <class Index>
__device__ int image_exponent(const StepParams<Index>& p, Index n) {
  return exact_exponent(p.step.ranges[n].max_bits, p.math);
}

}  // namespace solder::im2col
