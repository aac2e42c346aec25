#pragma once
// The kernel between two of cuBLAS's: builds the columns of a chunk and finishes the sums of another.

#include <cstdint>

#include "ops/conv/epilogue/epilogue.h"
#include "ops/conv/im2col/im2col.h"
#include "ops/conv/range/range.h"

namespace solder {

class Context;

/// Output pixels of one GEMM call: `num_rows` rows of columns, each `width` wide.
struct Im2colChunk {
  int64_t image = 0, first_row = 0;  ///< where rows are shared: of y
  int64_t first_pixel = 0;           ///< elsewhere: of all pixels [N,P,Q]
  int64_t num_pixels = 0;            ///< of a row, those that are pixels of y
  int64_t num_rows = 0;              ///< 0: there is no chunk
  int64_t width = 0;                 ///< num_pixels and what fills it up to a multiple of 8
};

/// Everything on the device. Either chunk may be none.
struct Im2colStep {
  Im2colChunk build, finish;
  const float* x = nullptr;            ///< [N,C,H,W]
  const ImageRange* ranges = nullptr;  ///< [N], maxima known; not with float32 columns
  void* columns = nullptr;             ///< of `build`, as Im2colLayout says
  const float* sums = nullptr;         ///< [finish.num_rows, padded_channels(K), finish.width]
  const int32_t* exponents = nullptr;  ///< [K], of the weights; likewise
  float* y = nullptr;                  ///< [N,K,P,Q]
};

/// Enqueues a step.
void im2col_step(const Context& context, const ConvShape& shape, const ConvStrides& strides,
                 const Im2colConfig& config, const ConvEpilogue& epilogue, const Im2colStep& step);

}  // namespace solder
