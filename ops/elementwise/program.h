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
#include "runtime/tensor_view.h"

namespace solder {

class Context;
class ElementwiseKernel;

/// Where a step's second value comes from.
enum class Source : uint8_t { none, immediate, operand, slot };

/// One step of a program. `p`, `q` are the op's parameters (see OpInfo); `p` is also the value of an immediate source.
struct Step {
  Op op = Op::load;
  Source source = Source::none;
  bool swapped = false;
  uint8_t index = 0;  ///< operand, slot or output
  float p = 0;
  float q = 0;
  bool operator==(const Step&) const = default;
};

inline constexpr int kMaxSteps = 48;
inline constexpr int kMaxSlots = 4;

/// A program starts with acc = operand 0, or in an epilogue with acc = the result that it follows, and runs its
/// steps in order; each output is stored once. Plain data: it travels to the GPU as a kernel parameter.
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

/// Binds tensors to the index space `shape`, to which every operand must broadcast, whatever its strides, and
/// which every output must equal, dense (Error(shape_mismatch) otherwise; Error(unsupported) when more than
/// kMaxDims axes remain).
ElementwiseArgs bind_elementwise(const Shape& shape, std::span<const TensorView> operands,
                                 std::span<const TensorView> outputs);

/// Whether bind_elementwise() takes these operands.
bool fits_elementwise(const Shape& space, std::span<const TensorView> operands);

/// How a kernel reads `operand`.
elementwise::Access access_of(const ElementwiseArgs& args, const Operand& operand);

/// Whether a kernel can count elements, and those that its last tile lacks, in 32 bits.
bool fits_32_bits(int64_t num_elems);

/// What a program runs as on a GPU.
enum class ElementwisePath : uint8_t {
  hand_written,  ///< mish or double_mish of one dense float32 array (ops/elementwise/mish.h)
  table,         ///< one 16-bit array to another, by a table of all results (ops/elementwise/table.h)
  generated,     ///< a kernel of its own, made at run time (ops/elementwise/generated.h)
  interpreted,   ///< the one kernel for all
};

/// "hand-written", "table", ...
const char* to_string(ElementwisePath path);

/// The fastest way, as long as what it saves a run is worth a table's memory or a kernel's making.
ElementwisePath choose_elementwise_path(const Program& program, const ElementwiseArgs& args);

/// Runs `program` on the CPU.
void elementwise_cpu(const Program& program, const ElementwiseArgs& args);

/// Enqueues `program` on the context's stream, as one kernel: `kernel`, when one was generated for it and
/// `args`' layout, unless a dense array is not aligned to 16 bytes. Outputs may alias operands of the same
/// dtype that are dense (in place); other overlap is undefined.
void elementwise_cuda(const Context& context, const Program& program, const ElementwiseArgs& args,
                      const ElementwiseKernel* kernel = nullptr);

}  // namespace solder
