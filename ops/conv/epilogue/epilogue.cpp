#include "ops/conv/epilogue/epilogue.h"

namespace solder {
namespace {

// How `shape` broadcasts to [N,K,P,Q]; false when it is none of the three ways.
bool find_access(const Shape& shape, const ConvShape& conv, EpilogueAccess* access) {
  if (shape.size() > 4) return false;
  const std::array<int64_t, 4> full{conv.N, conv.K, conv.P(), conv.Q()};
  std::array<int64_t, 4> padded{1, 1, 1, 1};
  for (size_t i = 0; i < shape.size(); ++i) padded[4 - shape.size() + i] = shape[i];
  if (padded == std::array<int64_t, 4>{1, 1, 1, 1}) {
    *access = EpilogueAccess::scalar;
  } else if (padded == full) {
    *access = EpilogueAccess::full;
  } else if (padded == std::array<int64_t, 4>{1, conv.K, 1, 1}) {
    *access = EpilogueAccess::channel;
  } else {
    return false;
  }
  return true;
}

bool is_operand(const Step& step, Op op, EpilogueAccess access, const ConvEpilogue& epilogue) {
  return step.op == op && step.source == Source::operand && epilogue.access[step.index] == access;
}

// The chain of one activation, or of none; `interpreted` where there is no such chain.
ConvChain find_activation(std::span<const Step> steps, float* slope) {
  if (steps.empty()) return ConvChain::bias;
  if (steps.size() == 2 && steps[0].op == Op::mish && steps[1].op == Op::mish) return ConvChain::double_mish;
  if (steps.size() > 1) return ConvChain::interpreted;
  switch (steps[0].op) {
    case Op::relu: return ConvChain::relu;
    case Op::silu: return ConvChain::silu;
    case Op::mish: return ConvChain::mish;
    case Op::double_mish: return ConvChain::double_mish;
    case Op::leaky_relu: *slope = steps[0].p; return ConvChain::leaky_relu;
    default: return ConvChain::interpreted;
  }
}

// Names the ahead-of-time chain that equals the program, if there is one.
void match_chain(ConvEpilogue* epilogue) {
  std::span<const Step> steps = epilogue->program.view();
  steps = steps.first(steps.size() - 1);  // the store
  if (!steps.empty() && is_operand(steps[0], Op::add, EpilogueAccess::channel, *epilogue)) {
    epilogue->bias_operand = steps[0].index;
    steps = steps.subspan(1);
  }
  const auto is_residual = [&](const Step& step) {
    return is_operand(step, Op::add, EpilogueAccess::full, *epilogue);
  };
  const bool is_first = !steps.empty() && is_residual(steps.front());
  epilogue->is_residual_last = !is_first && !steps.empty() && is_residual(steps.back());
  if (is_first || epilogue->is_residual_last) {
    epilogue->residual_operand = (is_first ? steps.front() : steps.back()).index;
    steps = steps.subspan(is_first ? 1 : 0, steps.size() - 1);
  }
  epilogue->activation = find_activation(steps, &epilogue->slope);
  epilogue->chain = epilogue->activation != ConvChain::interpreted && epilogue->residual_operand >= 0
                        ? ConvChain::residual
                        : epilogue->activation;
  if (epilogue->chain == ConvChain::interpreted) epilogue->bias_operand = -1;
}

}  // namespace

const char* to_string(ConvChain chain) {
  switch (chain) {
    case ConvChain::interpreted: return "interpreted";
    case ConvChain::bias: return "bias";
    case ConvChain::relu: return "relu";
    case ConvChain::leaky_relu: return "leaky_relu";
    case ConvChain::silu: return "silu";
    case ConvChain::mish: return "mish";
    case ConvChain::double_mish: return "double_mish";
    case ConvChain::residual: return "residual";
  }
  return "unknown";
}

bool plan_epilogue(const Program& program, std::span<const TensorView> operands, const ConvShape& shape,
                   ConvEpilogue* result) {
  const std::span<const Step> steps = program.view();
  if (steps.empty() || !program.from_result || program.num_outputs != 1 ||
      program.num_slots > kMaxEpilogueSlots)
    return false;
  for (size_t i = 0; i < steps.size(); ++i) {
    const bool is_last = i + 1 == steps.size();
    if ((steps[i].op == Op::store_output) != is_last) return false;
  }
  if (static_cast<int>(operands.size()) < program.num_operands) return false;
  ConvEpilogue epilogue;
  epilogue.program = program;
  for (int i = 0; i < program.num_operands; ++i) {
    const TensorView& operand = operands[static_cast<size_t>(i)];
    if (operand.dtype != DType::float32 || !is_dense(operand)) return false;
    if (!find_access(operand.shape, shape, &epilogue.access[static_cast<size_t>(i)])) return false;
    epilogue.operands[static_cast<size_t>(i)] = static_cast<const float*>(operand.data);
  }
  match_chain(&epilogue);
  *result = epilogue;
  return true;
}

void bind_epilogue(std::span<void* const> operands, ConvEpilogue* epilogue) {
  for (int i = 0; i < epilogue->program.num_operands; ++i) {
    epilogue->operands[static_cast<size_t>(i)] = static_cast<const float*>(operands[static_cast<size_t>(i)]);
  }
}

}  // namespace solder
