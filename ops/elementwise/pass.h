#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ops/elementwise/program.h"
#include "runtime/device.h"

namespace solder {

class Context;

/// Work on fixed addresses, all decided: a call runs or enqueues it.
using Launch = std::function<void()>;

/// The kernels made during one compile(), by their text: passes that read alike share one.
class ElementwiseKernels {
 public:
  struct Made {
    std::shared_ptr<const ElementwiseKernel> kernel;  ///< null where none could be made
    std::string how;                                  ///< in words
  };
  const Made& get(const std::string& source, Device device);

 private:
  std::map<std::string, Made> made_;
};

/// One elementwise pass over memory: planned from types alone, prepared once on its device, bound to the addresses
/// of each session.
class ElementwisePass {
 public:
  /// Plans `program`, which starts from operand 0, over the index space of the outputs; the views' addresses do not
  /// matter yet. Null device: the CPU. Throws as bind_elementwise() does.
  ElementwisePass(const Program& program, std::span<const TensorView> operands,
                  std::span<const TensorView> outputs, const DeviceInfo* device);

  const std::string& words() const {
    return words_;
  }  ///< "hand-written", "generated, compiled in 130 ms", ...

  /// What it needs on the device: the seed of a table, which prepare() fills in place; empty for other paths.
  std::vector<std::byte> constants() const;

  /// On a GPU, before bind(): makes or finds the kernel, fills the table at `constants`. Enqueues on the context's
  /// stream and waits for nothing.
  void prepare(const Context& context, ElementwiseKernels& kernels, void* constants);

  /// The pass over these tensors, laid out as the ones it was planned for. Null context: the CPU.
  Launch bind(const Context* context, std::span<const TensorView> operands,
              std::span<const TensorView> outputs, const void* constants) const;

 private:
  Program program_;
  ElementwiseArgs args_;  // without addresses
  ElementwisePath path_ = ElementwisePath::interpreted;
  std::shared_ptr<const ElementwiseKernel> kernel_;
  std::string words_;
};

}  // namespace solder
