#pragma once
// What an elementwise kernel is given. Generated kernels embed this text, so it must compile under NVRTC,
// which has no standard headers.

#include <cstdint>

#include "runtime/divide.h"
#include "runtime/dtype.h"

namespace solder {

inline constexpr int kMaxOperands = 8;
inline constexpr int kMaxOutputs = 4;
inline constexpr int kMaxDims = 6;

/// A tensor as a program sees it: base pointer and strides in elements over the (collapsed) index space;
/// stride 0 repeats (broadcasts) along that axis.
struct Operand {
  void* data = nullptr;
  DType dtype = DType::float32;
  int64_t strides[kMaxDims] = {};
  bool operator==(const Operand&) const = default;
};

/// A program bound to memory. Axes are collapsed as far as every operand allows, outermost first.
struct ElementwiseArgs {
  int rank = 1;
  int64_t dims[kMaxDims] = {};
  int64_t num_elems = 0;
  int num_operands = 0;
  int num_outputs = 0;
  Operand operands[kMaxOperands];
  Operand outputs[kMaxOutputs];  ///< no stride is 0 but of an axis of extent 1
  bool operator==(const ElementwiseArgs&) const = default;
};

namespace elementwise {

inline constexpr int kThreads = 256;  // a block
inline constexpr int kElems = 8;      // values a thread

/// How an operand is read.
enum class Access : uint8_t {
  dense,    ///< as it lies, by vectors
  scalar,   ///< one value
  channel,  ///< one value a row of the innermost axis: the bias of a convolution
  vectors,  ///< by vectors, rows lying in any way: channels innermost within wider pixels, or one row again and again
  strided,  ///< any other
};

/// How a kernel goes through the index space. Vectors of one thread lie kThreads vectors apart, or in a patch:
/// `patch_vectors` neighbours along a row and, below one another, as many rows as fill a block. So are read operands
/// whose neighbours lie along the axis next to the innermost, and both they and the outputs by whole 32-byte sectors.
struct Walk {
  bool by_rows = false;  ///< vectors end with the rows of the innermost axis; otherwise all outputs are dense
  int length = 1;        ///< elements a vector, one load or store of up to 16 bytes: 1, 4 or 8
  int patch_vectors = 0;  ///< a power of two; 0: no patches
  bool operator==(const Walk&) const = default;
};

/// What a kernel gets.
struct KernelParams {
  ElementwiseArgs args;          ///< by rows: the innermost axis is rounded up to whole vectors
  FastDivisor by_dim[kMaxDims];  ///< where indices have 32 bits
  Access access[kMaxOperands];
  bool has_channels = false;  ///< some operand is read by channel
  bool by_rows = false;       ///< as the walk says
  // By rows.
  int64_t num_rows = 0, row_elems = 0;  ///< as they are
  uint32_t patch_shift = 0;             ///< log2 of the walk's patch_vectors; 0: no patches
  uint32_t num_patches = 0;             ///< beside one another
  FastDivisor by_patches;
};

}  // namespace elementwise
}  // namespace solder
