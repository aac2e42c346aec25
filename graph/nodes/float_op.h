#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "graph/nodes/node_def.h"

namespace solder {

/// What a node needs around an op of float32 tensors, or with a float32 result, that lie as the op wants them: before
/// it copies of the node's own inputs that do not, and behind it the epilogue as a pass, over the result in place or,
/// where the node does not store one such result, from scratch memory into all that it stores. Copies are exact, and a
/// result is rounded once.
class FloatOp {
 public:
  FloatOp() = default;
  /// Without the epilogue.
  FloatOp(const PlanRequest& request, Strides strides);
  /// Likewise around an op that takes its inputs as they lie, and stores [N,C,H,W] with channels innermost.
  static FloatOp of_pixels(const PlanRequest& request);

  /// How the node's own inputs and the result lie for the op.
  const std::vector<TensorView>& inputs() const { return inputs_; }
  const TensorView& result() const { return result_; }
  /// Whether that is the node's only output, so that the op may run the epilogue itself.
  bool stores_output() const { return result_offset_bytes_ < 0; }
  /// Whether the op's input lies where the node's does.
  bool reads_input(size_t input) const { return copies_[input].pass == nullptr; }

  /// For an op that has not run it. Nothing to do where the epilogue is to store the result that is there.
  void add_epilogue(const PlanRequest& request);

  int64_t scratch_bytes() const { return scratch_bytes_; }  ///< the op's own comes behind
  std::string words(const std::string& op) const;           ///< of the whole
  void prepare(const Context& context, ElementwiseKernels& kernels);
  /// `bind_op` is given the op's inputs, the epilogue's operands, the result and the op's scratch.
  Launch bind(const BoundNode& node, const Context* context,
              const std::function<Launch(const BoundNode&)>& bind_op) const;

 private:
  struct Copy {  // of an own input; without a pass: none
    std::shared_ptr<ElementwisePass> pass;
    int64_t offset_bytes = 0;
  };
  int64_t take_scratch(const Shape& shape);

  std::vector<Copy> copies_;
  std::vector<TensorView> inputs_;
  TensorView result_;
  int64_t result_offset_bytes_ = -1, scratch_bytes_ = 0;
  bool takes_float32_ = true;
  // The result is float32, so that it needs no constants: tables are for one 16-bit tensor.
  std::shared_ptr<ElementwisePass> epilogue_;
};

}  // namespace solder
