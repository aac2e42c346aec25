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

/// How an operand is read, or an output stored (dense or strided).
enum class Access : uint8_t {
  dense,    ///< as it lies, by vectors
  scalar,   ///< one value
  channel,  ///< one value a row of the innermost axis: the bias of a convolution
  strided,  ///< any other
};

/// What a kernel gets.
struct KernelParams {
  ElementwiseArgs args;
  FastDivisor by_dim[kMaxDims];  ///< where indices have 32 bits
  Access access[kMaxOperands];
  bool has_channels = false;  ///< some operand is read by channel
  bool by_vectors = false;    ///< where an output is not dense: see stores_by_vectors()
};

}  // namespace elementwise
}  // namespace solder
