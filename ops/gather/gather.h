#pragma once

#include <cstdint>

#include "ops/elementwise/params.h"
#include "runtime/tensor_view.h"

namespace solder {

class Context;
class ThreadPool;

/// What a gather walks: the elements of y, axes from outermost to innermost, collapsed. Along axis `gathered` x is read
/// at indices[i]. An element is `elem_bytes` wide, 2 to 16: several neighbours of the tensors', where all strides and
/// addresses allow it.
struct Gather {
  int64_t elem_bytes = 4;
  int rank = 0, gathered = 0;
  int64_t extents[kMaxDims] = {}, x_strides[kMaxDims] = {}, y_strides[kMaxDims] = {};
  int64_t num_elems = 0;
};

/// y[..., i, ...] = x[..., indices[i], ...] along `axis`; x and y are of one dtype, differ in that extent alone and lie
/// in any way. Error(unsupported) where more than kMaxDims axes remain.
Gather gather_of(const TensorView& x, const TensorView& y, int axis);

/// Any bits as they are. `indices`, one for each place of y along the axis, are within x and lie where the work runs.
void gather_cpu(const Gather& gather, const void* x, void* y, const int64_t* indices, ThreadPool* pool);
/// Enqueues it.
void gather_cuda(const Context& context, const Gather& gather, const void* x, void* y,
                 const int64_t* indices);

}  // namespace solder
