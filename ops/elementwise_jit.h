#pragma once
// Kernels of their own for elementwise programs, made at run time: one statement a step, values in registers,
// from the same formulas, loads and stores as the interpreter (ops/elementwise.cu).

#include <memory>
#include <string>

#include "ops/elementwise.h"
#include "runtime/device.h"

typedef struct CUlib_st* cudaLibrary_t;

namespace solder {

/// A program's kernel for one layout: dtypes, accesses and the size of an index, but not the extents.
class ElementwiseKernel {
 public:
  static constexpr const char* kName = "elementwise_generated_kernel";
  using Function = void (*)(elementwise::KernelParams);

  /// Loads machine code for the current device.
  explicit ElementwiseKernel(const std::string& code);
  ElementwiseKernel(const ElementwiseKernel&) = delete;
  ElementwiseKernel& operator=(const ElementwiseKernel&) = delete;
  ~ElementwiseKernel();

  /// To be launched on any multiple of kThreads * kElems elements.
  Function function() const { return function_; }

 private:
  cudaLibrary_t library_ = nullptr;
  Function function_ = nullptr;
};

/// The CUDA text of a kernel for `program` over `args`, of which addresses and extents do not matter.
std::string elementwise_source(const Program& program, const ElementwiseArgs& args);

/// Makes the kernel of such a text on a CUDA device. Null where NVRTC is missing or refuses it. `how`
/// receives what runs and why, in words.
std::shared_ptr<const ElementwiseKernel> make_elementwise_kernel(const std::string& source, Device device,
                                                                 std::string* how);

}  // namespace solder
