#pragma once

#include <cstdint>

#include "ops/image_range.h"
#include "ops/reduce/rows.h"
#include "ops/reduction.h"

namespace solder {

class Context;
class ThreadPool;

/// Elements of a row that are taken together before what became of them is.
inline constexpr int64_t kReduceChunk = 2048;
/// Partial results of a chunk, each of so many neighbours at a time.
inline constexpr int kReducePartials = 8, kReduceNeighbours = 4;

/// The largest or the sum of `value` and what came before it; NaN once there was one.
template <bool kIsMax>
constexpr float take(float acc, float value) {
  if constexpr (kIsMax) return value > acc || value != value ? value : acc;
  return acc + value;
}

/// y = reduction of each row of x; `rows` are those of x and of y read under x's shape (see repeated_over), dtypes x
/// and y. The order is the same on the CPU and the GPU, however x and y lie: of a chunk of a row, in float32,
///   partial j = ((0 + x[4j]) + x[4j+1]) + ... + x[4j+3] + x[4j+32] + ..., j < 8
///   ((p0 + p4) + (p2 + p6)) + ((p1 + p5) + (p3 + p7))
/// and then the chunks' results as a row again, until there is one. T elements: within
///   (T / 8 + 8) 2^-24 sum|x| for T <= 2048, and (263 ceil(log T / log 2048)) 2^-24 sum|x|
/// of the sum, before it is divided (the mean, one rounding) and rounded to the dtype. Maxima and minima are exact,
/// NaN where there is one; of +0 and -0 the one that comes first in this order. Of no elements: see Graph::mean.
struct Reduce {
  Reduction reduction = Reduction::mean;
  Rows rows;
  DType x_dtype = DType::float32, y_dtype = DType::float32;

  /// For chunks' results; 0 where a row is one chunk.
  int64_t scratch_bytes() const;
};

void reduce_cpu(const Reduce& reduce, const void* x, void* y, void* scratch, ThreadPool* pool);
/// The images of scaled x, which is its outermost axis and stays one; null: x is not scaled.
struct ScaledImages {
  const ImageRange* ranges = nullptr;
  int64_t count = 0;
};
/// Enqueues it.
void reduce_cuda(const Context& context, const Reduce& reduce, const void* x, void* y, void* scratch,
                 const ScaledImages& images = {});

/// One pass of either: results of units, which are the chunks of all rows, unit = chunk * num_rows + row. The last
/// one has a unit a row.
struct ReducePass {
  Rows rows;
  DType x_dtype = DType::float32, y_dtype = DType::float32;
  const void* x = nullptr;
  void* y = nullptr;  ///< the last pass's result, or float32 [units]
  int64_t num_chunks = 1;
  bool is_max = false;
  bool negates_x = false, negates_y = false;  ///< a minimum is the maximum of -x, negated
  float divisor = 1;                          ///< of the last pass's results

  int64_t num_units() const { return num_chunks * rows.num_rows; }
};

/// Calls run(pass) for each pass in order.
template <class Run>
void for_passes(const Reduce& reduce, const void* x, void* y, void* scratch, const Run& run) {
  ReducePass pass{.rows = reduce.rows, .x_dtype = reduce.x_dtype, .x = x};
  pass.is_max = is_extreme(reduce.reduction);
  pass.negates_x = reduce.reduction == Reduction::min;
  while (pass.rows.row_elems > kReduceChunk) {
    pass.num_chunks = (pass.rows.row_elems + kReduceChunk - 1) / kReduceChunk;
    pass.y = scratch;
    run(pass);
    // The results [num_chunks, num_rows] as rows.
    Rows& rows = pass.rows;
    for (int64_t d = rows.num_outer, stride = 1; d-- > 0; stride *= rows.outer[d]) rows.x_outer[d] = stride;
    rows.num_inner = 1;
    rows.row_elems = rows.inner[0] = pass.num_chunks;
    rows.x_inner[0] = rows.num_rows;
    scratch = static_cast<float*>(scratch) + pass.num_units();
    pass.x = pass.y, pass.x_dtype = DType::float32, pass.negates_x = false;
  }
  pass.num_chunks = 1;
  pass.y = y, pass.y_dtype = reduce.y_dtype;
  pass.negates_y = reduce.reduction == Reduction::min;
  if (reduce.reduction == Reduction::mean) pass.divisor = static_cast<float>(reduce.rows.row_elems);
  run(pass);
}

}  // namespace solder
