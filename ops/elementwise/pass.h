#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "ops/elementwise/program.h"
#include "runtime/check.h"
#include "runtime/device.h"

namespace solder {

class Context;
class ElementwiseKernels {};
using Launch = std::function<void()>;

class ElementwisePass {
 public:
  ElementwisePass(const Program& program, std::span<const TensorView> operands,
                  std::span<const TensorView> outputs, const DeviceInfo* device)
      : program_(program) {
    bind_elementwise(outputs[0].shape, operands, outputs);
    (void)device;
  }
  std::string words() const { return "stub"; }
  std::vector<std::byte> constants() const { return {}; }
  void prepare(const Context&, ElementwiseKernels&, void*) {}
  Launch bind(const Context* context, std::span<const TensorView> operands,
              std::span<const TensorView> outputs, const void*) const {
    const ElementwiseArgs args = bind_elementwise(outputs[0].shape, operands, outputs);
    (void)context;
    return [program = program_, args] { elementwise_cpu(program, args); };
  }

 private:
  Program program_;
};

inline bool fits_elementwise(const Shape& space, std::span<const Shape> operands) {
  std::vector<TensorView> views;
  for (const Shape& shape : operands) views.push_back(dense_view(nullptr, DType::float32, shape));
  try {
    bind_elementwise(space, views, {});
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace solder
