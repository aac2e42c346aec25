#include "ops/conv/epilogue/epilogue.h"

#include <algorithm>
#include <iterator>
#include <optional>

#include "ops/conv/kernels.h"

namespace solder {
namespace {

// The chain of one activation, or of none.
std::optional<ConvChain> find_activation(std::span<const Step> steps) {
  if (steps.empty()) return ConvChain::bias;
  if (steps.size() == 2 && steps[0].op == Op::mish && steps[1].op == Op::mish) return ConvChain::double_mish;
  const Op* found = std::find(std::begin(kChainOps) + 1, std::end(kChainOps), steps[0].op);
  if (steps.size() > 1 || found == std::end(kChainOps)) return std::nullopt;
  return static_cast<ConvChain>(found - std::begin(kChainOps));
}

}  // namespace

bool plan_epilogue(const ConvProblem& problem, ConvEpilogue* result,
                   bool (*takes_residual)(const ConvProblem&, const ConvView&), bool is_extended) {
  *result = {};
  const ConvShape& s = problem.shape;
  // Whether the step's operand is `full`, with any number of axes of extent 1 before it, as it is taken.
  const auto takes = [&](const Step& step, Op op, const Shape& full, bool is_residual,
                         bool may_be_narrow = false) {
    if (step.op != op || step.source != Source::operand) return false;
    const ConvView& operand = problem.operands[step.index];
    if (operand.shape.size() > full.size()) return false;
    Shape padded(full.size() - operand.shape.size(), 1);
    padded.insert(padded.end(), operand.shape.begin(), operand.shape.end());
    if (padded != full) return false;
    if (is_residual && takes_residual != nullptr) return takes_residual(problem, operand);
    const bool is_narrow = may_be_narrow && operand.dtype == problem.x.dtype && operand.scaled.empty();
    if (operand.dtype != DType::float32 && !is_narrow) return false;
    return operand.shape.size() == full.size() ? has_dense_parts(operand) : is_dense(operand);
  };
  std::span<const Step> steps = problem.epilogue.view();
  const auto stores = [](const Step& step, int output) {
    return step.op == Op::store_output && step.index == output;
  };
  if (steps.empty() || !stores(steps.back(), 0)) return false;
  steps = steps.first(steps.size() - 1);

  ConvEpilogue epilogue;
  const Shape channels{1, s.K, 1, 1}, of_images{s.N, s.K, 1, 1}, y{s.N, s.K, s.P(), s.Q()};
  if (!steps.empty() &&
      (takes(steps[0], Op::add, channels, false, is_extended) ||
       (is_extended && y != of_images && takes(steps[0], Op::add, of_images, false, true)))) {
    epilogue.bias_operand = steps[0].index;
    steps = steps.subspan(1);
  }
  const auto set_residual = [&](ResidualAt at, int operand) {
    epilogue.residual_at = at;
    epilogue.residual_operand = operand;
    if (s.N > 1) epilogue.residual_image = problem.operands[static_cast<size_t>(operand)].strides[0];
  };
  if (!steps.empty() && takes(steps.front(), Op::add, y, true)) {
    set_residual(ResidualAt::before, steps.front().index);
    steps = steps.subspan(1);
  } else if (!steps.empty() && takes(steps.back(), Op::add, y, true)) {
    set_residual(ResidualAt::after, steps.back().index);
    steps = steps.first(steps.size() - 1);
  }
  if (is_extended && !steps.empty() && stores(steps[0], 1)) {
    epilogue.stores_sum = true;
    steps = steps.subspan(1);
    const DType dtype = problem.more_outputs[0].dtype;
    if (dtype != DType::float32 && !steps.empty() && steps[0].op == rounding_to(dtype))
      steps = steps.subspan(1);
  }
  if (is_extended && steps.size() >= 2 && takes(steps[0], Op::mul, channels, false) &&
      takes(steps[1], Op::add, channels, false)) {
    epilogue.scale_operand = steps[0].index, epilogue.shift_operand = steps[1].index;
    steps = steps.subspan(2);
  }
  const auto activation = find_activation(steps);
  if (!activation) return false;
  epilogue.activation = *activation;
  if (!steps.empty()) epilogue.slope = steps[0].p;
  epilogue.chain = epilogue.residual_at == ResidualAt::none ? *activation : ConvChain::any;
  *result = epilogue;
  return true;
}

ConvEpilogue bound_epilogue(ConvEpilogue epilogue, std::span<void* const> operands) {
  const auto address = [&](int operand) {
    return operand < 0 ? nullptr : static_cast<const float*>(operands[static_cast<size_t>(operand)]);
  };
  epilogue.bias = address(epilogue.bias_operand);
  epilogue.residual = address(epilogue.residual_operand);
  return epilogue;
}

}  // namespace solder
