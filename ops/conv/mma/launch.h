#pragma once
// The pass before conv_mma_kernel.

#include "ops/conv/mma/mma.h"
#include "ops/conv/range/range.h"
#include "ops/math_mode.h"

namespace solder {

class Context;

/// Enqueues the conversion of x [N,C,H,W] to packed x, and its repair; ranges: after conv_range_guess, or where they are
/// known the maxima, for which exponents are written. fp32 has two parts, tf32 one.
void mma_pack_x(const Context& context, const ConvShape& shape, const ConvStrides& strides, Math math,
                bool is_folded, const MmaInput& to, const float* x, ImageRange* ranges, void* packed,
                bool is_known = false);

}  // namespace solder
