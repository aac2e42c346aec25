#pragma once

#include <cstdint>

#include "ops/reduce/rows.h"

namespace solder {

class Context;
class ThreadPool;

/// Of each row of x, elements x_i, m the largest of them:
///   y_i = e^(x_i - m) / S, or with `log` (x_i - m) - log(S), S = sum of e^(x_i - m)
/// in float32, with math::exp and math::log, rounded to the dtype at the end. The order of the sum is the same on the
/// CPU and the GPU, however x and y lie, as in Reduce but with 32 partial sums and no chunks: partial j has elements 4j
/// to 4j+3 of each 128, then p[j] += p[j + 16], += p[j + 8], and so on to p[0].
///
/// T elements a row and d = m - x_i: y_i is within (d + log T + T / 32 + 16) 2^-24 of itself, and three of float32's
/// smallest steps, of the exact value; with `log` within (2 d + 6 log T + T / 32 + 16) 2^-24. A row with NaN or
/// +infinity, or of nothing but -infinity, is NaN throughout; elsewhere -infinity gives 0, with `log` -infinity.
struct Softmax {
  bool log = false;
  Rows rows;  ///< of x and y along the axis
  DType dtype = DType::float32;
};

inline constexpr int kSoftmaxPartials = 32, kSoftmaxNeighbours = 4;

void softmax_cpu(const Softmax& softmax, const void* x, void* y, ThreadPool* pool);
/// Enqueues it.
void softmax_cuda(const Context& context, const Softmax& softmax, const void* x, void* y);

}  // namespace solder
