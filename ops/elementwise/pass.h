#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ops/elementwise/program.h"
#include "runtime/launch.h"

namespace solder {

class Context;
class ThreadPool;
class ElementwiseKernel;
class ElementwiseKernels;
struct DeviceInfo;

/// What a program runs as on a GPU.
enum class ElementwisePath : uint8_t {
  hand_written,  ///< mish or double_mish of one dense float32 array into another
  table,         ///< one dense 16-bit array to another, by a table of all results
  generated,     ///< a kernel of its own, made at run time
  interpreted,   ///< the one kernel for all
};

/// One elementwise program over memory: planned from types alone, prepared once on its device, bound to
/// addresses as often as there are sessions.
class ElementwisePass {
 public:
  /// Plans `program`, which starts from operand 0, over the index space of the outputs; addresses do not
  /// matter yet. On a GPU it takes the fastest way, as long as what that saves a run is worth a table's
  /// memory or a kernel's making; `device` null is the CPU. Errors as of bind_elementwise.
  ElementwisePass(const Program& program, std::span<const TensorView> operands,
                  std::span<const TensorView> outputs, const DeviceInfo* device);

  /// What runs and why, for logs: "generated, compiled in 130 ms", "table", "hand-written", "interpreted",
  /// "loops, CPU". Complete after prepare().
  const std::string& words() const { return words_; }

  /// What it needs on the device, to be uploaded with the weights, aligned to 16 bytes: mostly nothing.
  std::vector<std::byte> constants() const;
  /// What becomes of them in prepare(), in words: passes with the same words may share them. Empty without any.
  std::string constants_key() const;

  /// The last step of compile() on a GPU: makes the kernel, or enqueues what completes `constants`, the bytes
  /// on the device; null: they are complete, or there are none.
  void prepare(const Context& context, ElementwiseKernels& kernels, void* constants);

  /// The pass over these tensors, of the dtypes, shapes and strides that it was planned for; `context` null
  /// is the CPU. Outputs may alias operands of the same dtype, shape and strides (in place); other overlap is
  /// undefined.
  Launch bind(const Context* context, std::span<const TensorView> operands,
              std::span<const TensorView> outputs, const void* constants, ThreadPool* pool = nullptr) const;

 private:
  Program program_;
  ElementwiseArgs layout_;  // without addresses
  ElementwisePath path_ = ElementwisePath::interpreted;
  std::shared_ptr<const ElementwiseKernel> kernel_;
  std::string words_;
};

/// The CUDA half of bind(). Without a `kernel`, and where a tensor that would be read by vectors does not start on a
/// multiple of them, the program is interpreted.
Launch bind_elementwise_cuda(const Context& context, ElementwisePath path, const Program& program,
                             const ElementwiseArgs& args, std::shared_ptr<const ElementwiseKernel> kernel,
                             const void* constants);

}  // namespace solder
