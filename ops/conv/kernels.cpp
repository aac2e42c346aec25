#include "ops/conv/kernels.h"

#include "runtime/check.h"

namespace solder {
namespace {

// Compiled for Hopper? The Makefile says.
#if !defined(SOLDER_WITH_SM90)
#define SOLDER_WITH_SM90 0
#endif

Program store_only() {
  Program program{.num_operands = 0, .from_result = true};
  program.push({.op = Op::store_output});
  return program;
}

// Why no fused kernel can run the problem, whatever its geometry; empty when one may.
std::string why_not_fused(const ConvProblem& problem, const DeviceInfo& device) {
  if (problem.algorithm == ConvAlgorithm::im2col) return "im2col was asked for";
  if (device.cc_major != 9) return "fused kernels need a Hopper GPU (compute capability 9.0)";
  if (!SOLDER_WITH_SM90) return "this build has no sm_90a code (ARCHS in the Makefile)";
  if (problem.weights.empty()) return "the weights are not a parameter of the graph";
  if (problem.shape.N == 0) return "the batch is empty";
  return {};
}

#if SOLDER_WITH_SM90
bool choose_rows(const ConvProblem& problem, const DeviceInfo& device, ConvPlan* plan,
                 std::vector<std::byte>* packed) {
  if (problem.algorithm != ConvAlgorithm::automatic && problem.algorithm != ConvAlgorithm::rows) return false;
  const ConvShape& shape = problem.shape;
  const auto config = choose_rows_config(shape, problem.math, device);
  if (!config) return false;
  // Odd rows run its interpreted epilogue, one output at a time, and below this share of useful arithmetic
  // the window kernel is faster.
  constexpr double kMinEfficiency = 0.75;
  if (problem.algorithm == ConvAlgorithm::automatic &&
      (config->efficiency < kMinEfficiency || shape.Q() % 2 != 0))
    return false;
  packed->resize(static_cast<size_t>(rows_weight_bytes(shape, *config)));
  if (!pack_rows_weights(shape, *config, problem.weights.data(), packed->data())) return false;
  plan->kind = ConvPlan::Kind::rows;
  plan->rows = *config;
  plan->scratch_bytes = rows_scratch_bytes(shape, *config);
  plan->path = "rows kernel, " + to_string(*config);
  return true;
}

bool choose_window(const ConvProblem& problem, const DeviceInfo& device, ConvPlan* plan,
                   std::vector<std::byte>* packed, std::string* why_not) {
  if (problem.algorithm == ConvAlgorithm::rows) return *why_not = "the rows kernel does not cover it", false;
  const ConvShape& shape = problem.shape;
  const WindowInput input = problem.algorithm == ConvAlgorithm::window   ? WindowInput::converted
                            : problem.algorithm == ConvAlgorithm::packed ? WindowInput::packed
                                                                         : WindowInput::automatic;
  if (!choose_window_config(shape, problem.math, device.num_sms, input, problem.workspace_bytes,
                            &plan->window, why_not))
    return false;
  if (!pack_window_weights(shape, plan->window, problem.weights.data(), packed, why_not)) return false;
  plan->kind = ConvPlan::Kind::window;
  plan->scratch_bytes = window_scratch_bytes(shape, plan->window);
  plan->path =
      (plan->window.is_packed ? "packed window kernel, " : "window kernel, ") + to_string(plan->window);
  return true;
}

// The fused kernel for the problem; false, with the reason, when none covers it.
bool choose_fused(const ConvProblem& problem, const DeviceInfo& device, ConvPlan* plan,
                  std::vector<std::byte>* packed, std::string* why_not) {
  return choose_rows(problem, device, plan, packed) || choose_window(problem, device, plan, packed, why_not);
}
#else
bool choose_fused(const ConvProblem&, const DeviceInfo&, ConvPlan*, std::vector<std::byte>*, std::string*) {
  return false;
}
#endif

}  // namespace

ConvPlan choose_conv_plan(const ConvProblem& problem, const DeviceInfo& device,
                          std::vector<std::byte>* packed) {
  ConvPlan plan;
  plan.math = problem.math;
  plan.program = problem.program;
  std::string why_not = why_not_fused(problem, device);
  if (why_not.empty() && choose_fused(problem, device, &plan, packed, &why_not)) {
    // A chain that has to be interpreted costs more in an epilogue than in a pass of its own.
    plan.fused_epilogue = plan_epilogue(problem.program, problem.operands, problem.shape, &plan.epilogue) &&
                          plan.epilogue.chain != ConvChain::interpreted;
    if (!plan.fused_epilogue) {
      plan.epilogue = {};
      plan_epilogue(store_only(), problem.operands, problem.shape, &plan.epilogue);
    }
    if (plan.needs_pass()) plan.path += "; then one elementwise pass";
    return plan;
  }
  // Columns that fit in the L2 cache save DRAM traffic, larger GEMMs run faster: on the headline model with
  // TF32 an H100 takes 15.7, 12.1, 10.7 and 10.9 ms with 10, 19, 30 and 40 MB.
  constexpr int64_t kColumnTargetBytes = int64_t{32} << 20;
  packed->clear();
  plan.kind = ConvPlan::Kind::im2col;
  plan.fused_epilogue = false;
  plan.im2col = choose_im2col_plan(problem.shape, problem.workspace_bytes, kColumnTargetBytes, problem.node);
  plan.scratch_bytes = plan.im2col.workspace_bytes;
  plan.path = to_string(plan.im2col) + " (" + why_not + ")";
  return plan;
}

}  // namespace solder
