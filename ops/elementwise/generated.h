#pragma once
// Kernels of their own for elementwise programs, made at run time: one statement a step, values in registers,
// from the same formulas, loads and stores as the interpreter.
//
// Measured on an H100 over 2^27 or 2^28 elements, times a device copy of the same bytes:
//
//                                     interpreted   generated
//   8-op float32 chain                1.95          1.00
//   bias + relu                       1.09          1.00
//   scale + bias + mish by channel    1.40          0.99
//   a bias by row + relu              1.54          1.00
//   add + relu                        0.99          0.99
//
// So there are no chains compiled ahead of time. NVRTC takes 80 to 200 ms and 5 to 140 ms to be loaded; a
// kernel from the cache 0.5 ms, with its loading.

#include <map>
#include <memory>
#include <string>

#include "ops/elementwise/program.h"
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

/// The kernels of a model, by their text: passes with the same text share one.
class ElementwiseKernels {
 public:
  /// The kernel of a text on a CUDA device, made when it is first asked for. Null where NVRTC is missing or
  /// refuses it. `how` receives what runs and why, in words.
  std::shared_ptr<const ElementwiseKernel> get(const std::string& source, Device device, std::string* how);

 private:
  struct Made {
    std::shared_ptr<const ElementwiseKernel> kernel;
    std::string how;
  };
  std::map<std::string, Made> made_;
};

}  // namespace solder
