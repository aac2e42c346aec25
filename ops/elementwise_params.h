#pragma once
// What an elementwise kernel is given. Generated kernels embed this text (ops/elementwise_jit.cpp), so it
// must compile under NVRTC, which has no standard headers.

#include <cstdint>

#include "runtime/dtype.h"

namespace solder {

inline constexpr int kMaxOperands = 8;
inline constexpr int kMaxOutputs = 4;
inline constexpr int kMaxDims = 6;

namespace elementwise {

inline constexpr int kThreads = 256;  // a block
inline constexpr int kElems = 8;      // values a thread

/// How an operand is read.
enum class Access : uint8_t {
  dense,    ///< as it lies, by vectors
  scalar,   ///< one value
  channel,  ///< one value a row of the innermost axis: the bias of a convolution
  strided,  ///< any other broadcast
};

/// n / divisor for n < 2^31 by a multiplication (Granlund and Montgomery 1994).
struct FastDivisor {
  uint32_t multiplier = 0;
  uint32_t shift = 0;

  FastDivisor() = default;
  explicit FastDivisor(uint32_t divisor) {
    uint32_t log2 = 0;
    while ((uint64_t{1} << log2) < divisor) ++log2;
    shift = log2 == 0 ? 0 : log2 - 1;
    multiplier =
        divisor <= 1 ? 0 : static_cast<uint32_t>(((uint64_t{1} << (32 + shift)) + divisor - 1) / divisor);
  }
};

/// A program's tensors over an index space of `rank` axes; see ElementwiseArgs. What a generated kernel has
/// in its text (accesses, dtypes, rank) is here for the interpreter.
struct KernelParams {
  const void* operands[kMaxOperands];
  void* outputs[kMaxOutputs];
  int64_t strides[kMaxOperands][kMaxDims];
  int64_t dims[kMaxDims];
  FastDivisor by_dim[kMaxDims];  // for 32-bit indices
  int64_t num_elems;
  int rank;
  bool has_channels;  // some operand is read by channel
  Access access[kMaxOperands];
  DType operand_dtypes[kMaxOperands], output_dtypes[kMaxOutputs];
};

}  // namespace elementwise
}  // namespace solder
