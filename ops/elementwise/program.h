#pragma once
// Elementwise programs: what the fusion pass makes and every backend runs. A program is a short list of steps
// on one accumulator: `mish(x * s + b)` is {mul operand 1, add operand 2, mish} with operand 0 (x) loaded
// first. Values that are needed again later are parked in slots. The same program runs as one CUDA kernel, as
// the epilogue of a convolution, and block by block on the CPU.

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "ops/elementwise/op_info.h"
#include "ops/elementwise/params.h"
#include "runtime/cpu_level.h"
#include "runtime/tensor_view.h"

namespace solder {

class ThreadPool;

/// Where a step's second value comes from.
enum class Source : uint8_t { none, immediate, operand, slot };

/// One step of a program. `p`, `q` are the op's parameters (see OpInfo); `p` is also the value of an
/// immediate source.
struct Step {
  Op op = Op::load;
  Source source = Source::none;
  bool swapped = false;
  uint8_t index = 0;  ///< operand, slot or output
  float p = 0;
  float q = 0;
  bool operator==(const Step&) const = default;
};

/// The op that rounds to a 16-bit type.
constexpr Op rounding_to(DType dtype) { return dtype == DType::float16 ? Op::to_float16 : Op::to_bfloat16; }

inline constexpr int kMaxSteps = 48;
inline constexpr int kMaxSlots = 4;

/// A program starts with acc = operand 0, or in an epilogue with acc = the result that it follows, and runs
/// its steps in order; each output is stored once. Plain data: it travels to the GPU as a kernel parameter.
struct Program {
  int num_steps = 0;
  int num_operands = 1;
  int num_outputs = 1;
  int num_slots = 0;
  bool from_result = false;  ///< an epilogue: the result is in registers, and no operand
  std::array<Step, kMaxSteps> steps{};

  std::span<const Step> view() const { return {steps.data(), static_cast<size_t>(num_steps)}; }
  /// Appends; Error(unsupported) when the program is full.
  void push(const Step& step);
  bool operator==(const Program&) const = default;
};

/// "mul %1, add %2, mish, store_output 0": one line for dumps and errors.
std::string to_string(const Program& program);

/// Each of the op's parameters after `separator`: ", 0.1" for leaky_relu.
std::string params_text(Op op, float p, float q, const char* separator);

/// An epilogue as a pass of its own over the result in memory, which becomes operand 0; the others follow.
Program as_pass(const Program& epilogue);

/// Binds a program's tensors over the outputs' one shape, to which an operand broadcasts, whatever their strides;
/// the first output's say which axis is innermost. An output's repeat nothing (Error(shape_mismatch) otherwise;
/// Error(unsupported) when they are too many, or more than kMaxDims axes remain).
ElementwiseArgs bind_elementwise(std::span<const TensorView> operands, std::span<const TensorView> outputs);

/// Whether bind_elementwise() takes these operands with dense outputs.
bool fits_elementwise(const Shape& space, std::span<const TensorView> operands);

/// Runs `program` on the CPU, on the pool's threads (null: the calling one). Bits depend neither on them nor on
/// the level.
void elementwise_cpu(const Program& program, const ElementwiseArgs& args, ThreadPool* pool = nullptr,
                     CpuLevel level = best_cpu_level());

}  // namespace solder
