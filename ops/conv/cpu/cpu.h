#pragma once

#include "ops/conv/conv.h"
#include "runtime/cpu_level.h"

namespace solder {

class ThreadPool;

/// The convolution on the CPU, on the pool's threads (null: the calling one): x [N,C,H,W], w
/// [K,C/groups,R,S], y [N,K,P,Q]. Each element is summed in the order c, r, s, zeros outside the image
/// included, in chains of 64 terms (multiply_panels), with one rounding a term where the processor has FMA and two
/// elsewhere: bits depend on nothing else.
void conv_cpu(const ConvShape& shape, const ConvStrides& strides, const float* x, const float* w, float* y,
              ThreadPool* pool = nullptr, CpuLevel level = best_cpu_level());

}  // namespace solder
