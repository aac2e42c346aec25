#include "graph/nodes/float_op.h"

#include "graph/lower.h"
#include "graph/value_view.h"
#include "runtime/divide.h"

namespace solder {
namespace {

TensorView in_scratch(const TensorView& view, void* scratch, int64_t offset_bytes) {
  TensorView result = view;
  result.data = static_cast<char*>(scratch) + offset_bytes;
  return result;
}

}  // namespace

int64_t FloatOp::take_scratch(const Shape& shape) {
  const int64_t offset_bytes = scratch_bytes_;
  scratch_bytes_ += round_up(num_bytes(shape, DType::float32), kArenaAlignment);
  return offset_bytes;
}

FloatOp::FloatOp(const PlanRequest& request, Strides strides) {
  const auto fits = [&](const TensorView& view) {
    return view.dtype == DType::float32 && allows(strides, view);
  };
  for (size_t i = 0; i < request.node.num_own_inputs(); ++i) {
    const TensorView& input = request.inputs[i];
    copies_.emplace_back();
    inputs_.push_back(input);
    if (fits(input)) continue;
    inputs_[i] = dense_view(nullptr, DType::float32, input.shape);
    copies_[i] = {
        std::make_shared<ElementwisePass>(lower({1, {}, {Arg::operand(0)}}, false, {}), std::span(&input, 1),
                                          std::span(&inputs_[i], 1), request.device),
        take_scratch(input.shape)};
  }
  result_ = request.outputs[0];
  if (request.outputs.size() == 1 && fits(result_)) return;
  result_ = dense_view(nullptr, DType::float32, result_.shape);
  result_offset_bytes_ = take_scratch(result_.shape);
}

FloatOp FloatOp::of_pixels(const PlanRequest& request) {
  FloatOp op;
  op.takes_float32_ = false;
  const size_t num_own = request.node.num_own_inputs();
  op.copies_.resize(num_own);
  op.inputs_.assign(request.inputs.begin(), request.inputs.begin() + static_cast<std::ptrdiff_t>(num_own));
  const Shape& y = request.outputs[0].shape;
  const int64_t pitch = round_up(y[1], kPitchElems);
  op.result_ = pixels_view(DType::float32, y, pitch);
  op.result_offset_bytes_ = op.take_scratch({y[0], pitch, y[2], y[3]});
  return op;
}

void FloatOp::add_epilogue(const PlanRequest& request) {
  const Region& region = request.node.epilogue.region;
  if (stores_output() && region.exprs.empty() && region.outputs == std::vector{Arg::result()}) return;
  std::vector<TensorView> operands{result_};
  operands.insert(operands.end(), request.inputs.begin() + static_cast<std::ptrdiff_t>(inputs_.size()),
                  request.inputs.end());
  epilogue_ = std::make_shared<ElementwisePass>(as_pass(lower(region, true, request.node.outputs)), operands,
                                                request.outputs, request.device);
}

std::string FloatOp::words(const std::string& op) const {
  return (takes_float32_ && scratch_bytes_ > 0 ? "in float32: " : "") + op +
         (epilogue_ != nullptr ? "; then one pass: " + epilogue_->words() : "");
}

void FloatOp::prepare(const Context& context, ElementwiseKernels& kernels) {
  for (const Copy& copy : copies_)
    if (copy.pass != nullptr) copy.pass->prepare(context, kernels, nullptr);
  if (epilogue_ != nullptr) epilogue_->prepare(context, kernels, nullptr);
}

Launch FloatOp::bind(const BoundNode& node, const Context* context,
                     const std::function<Launch(const BoundNode&)>& bind_op) const {
  std::vector<Launch> launches;
  std::vector<TensorView> inputs(node.inputs.begin(), node.inputs.end());
  for (size_t i = 0; i < copies_.size(); ++i) {
    if (reads_input(i)) continue;
    inputs[i] = in_scratch(inputs_[i], node.scratch, copies_[i].offset_bytes);
    launches.push_back(copies_[i].pass->bind(context, node.inputs.subspan(i, 1), std::span(&inputs[i], 1),
                                             nullptr, node.pool));
  }
  const TensorView result =
      stores_output() ? node.outputs[0] : in_scratch(result_, node.scratch, result_offset_bytes_);
  BoundNode op = node;
  op.inputs = inputs;
  op.outputs = std::span(&result, 1);
  op.scratch = static_cast<char*>(node.scratch) + scratch_bytes_;
  launches.push_back(bind_op(op));
  if (epilogue_ != nullptr) {
    std::vector<TensorView> operands{result};
    operands.insert(operands.end(), inputs.begin() + static_cast<std::ptrdiff_t>(copies_.size()),
                    inputs.end());
    launches.push_back(epilogue_->bind(context, operands, node.outputs, nullptr, node.pool));
  }
  return in_order(std::move(launches));
}

}  // namespace solder
