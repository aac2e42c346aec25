// The families "window" and "packed": their plan and its launches.

#include <algorithm>

#include "ops/conv/epilogue/epilogue.h"
#include "ops/conv/kernels.h"
#include "ops/conv/range/range.h"
#include "ops/conv/window/params.cuh"
#include "runtime/divide.h"
#include "runtime/launch.cuh"

namespace solder {
namespace {

window::Params make_params(const ConvShape& s, const WindowConfig& c, const ConvEpilogue& epilogue,
                           const ConvTensors& t) {
  const int64_t exponent_bytes = round_up(s.K, kWindowBlockK) * 4;
  window::Params p;
  p.x = t.x;
  p.exponents = static_cast<const int32_t*>(t.packed);
  p.blocks = static_cast<const uint8_t*>(t.packed) + exponent_bytes;
  p.ranges = static_cast<ImageRange*>(t.scratch);
  p.packed_x = reinterpret_cast<uint4*>(static_cast<std::byte*>(t.scratch) + window_scratch_bytes(s, c) -
                                        packed_x_bytes(s, c));
  p.y = t.y;
  p.N = static_cast<int>(s.N);
  p.C = static_cast<int>(s.C);
  p.H = static_cast<int>(s.H);
  p.W = static_cast<int>(s.W);
  p.K = static_cast<int>(s.K);
  p.P = static_cast<int>(s.P());
  p.Q = static_cast<int>(s.Q());
  p.S = static_cast<int>(s.S);
  p.stride_h = static_cast<int>(s.stride_h);
  p.stride_w = static_cast<int>(s.stride_w);
  p.dil_h = static_cast<int>(s.dil_h);
  p.dil_w = static_cast<int>(s.dil_w);
  p.pad_top = static_cast<int>(s.pad_top);
  p.pad_left = static_cast<int>(s.pad_left);
  p.is_repair = false;
  p.by_pitch = FastDivisor(static_cast<uint32_t>(c.pitch));
  p.by_rows = FastDivisor(static_cast<uint32_t>(c.rows));
  p.by_strips = FastDivisor(static_cast<uint32_t>(c.num_strips));
  p.by_window = FastDivisor(static_cast<uint32_t>(c.window));
  p.config = c;
  p.epilogue = epilogue;
  return p;
}

struct WindowPlan final : ConvPlan {
  ConvShape shape;
  WindowConfig config;
  ConvEpilogue epilogue;
  std::vector<int32_t> exponents;  // of the weights, until they are packed

  void pack(const ConvProblem& problem) override {
    packed = pack_window_weights(shape, config, problem.weights.data(), exponents);
  }

  // Guess, kernel, repair, strict repair; with packed x: guess, pack, repair of what was packed, kernel,
  // strict repair.
  void enqueue(const Context* context, const ConvTensors& t) const override {
    window::Params params = make_params(shape, config, bound_epilogue(epilogue, t.operands), t);
    const window::Kernel kernel = config.math == Math::tf32 ? window::select_kernel<Math::tf32>(config.tile)
                                                            : window::select_kernel<Math::fp32>(config.tile);
    const int64_t num_blocks = std::min<int64_t>(config.num_tiles(), context->info().num_sms);
    const LaunchConfig grid{.grid = dim3(static_cast<unsigned>(num_blocks)),
                            .block = dim3(window::kNumThreads),
                            .smem_bytes = config.smem_bytes,
                            .overlaps_previous = true};
    // What the block does not need is worth more as L1 (see kSmemBudgets).
    const int carveout = static_cast<int>((config.smem_bytes + 1024) * 100 / (228 << 10)) + 1;
    SOLDER_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                     std::min(carveout, 100)));
    conv_range_guess(*context, shape, config.math, t.x, params.ranges);
    if (config.is_packed) window::pack_x(*context, params);
    launch(*context, "conv_window_kernel", kernel, grid, params);
    if (!config.is_packed) {
      params.is_repair = true;
      launch(*context, "conv_window_kernel (repair)", kernel, grid, params);
    }
    conv_strict(*context, shape, config.math, t.x, t.w, params.ranges, params.epilogue, t.y);
  }
};

std::unique_ptr<ConvPlan> make_window(const ConvProblem& problem, const DeviceInfo& device, WindowInput input,
                                      std::string* why_not) {
  if (device.cc_major != 9) return *why_not = "needs a Hopper GPU (compute capability 9.0)", nullptr;
  auto plan = std::make_unique<WindowPlan>();
  if (!choose_window_config(problem.shape, problem.math, device.num_sms, input, problem.workspace_bytes,
                            &plan->config, why_not) ||
      !weight_exponents(problem, &plan->exponents, why_not))
    return nullptr;
  // So that neither a sum nor its scaling leaves float32.
  const auto [low, high] = std::minmax_element(plan->exponents.begin(), plan->exponents.end());
  if (*low < 14 - 60 || *high > 14 + 100)
    return *why_not = "an output channel's largest weight lies outside [2^-100, 2^60]", nullptr;
  plan->shape = problem.shape;
  plan->runs_epilogue = plan_epilogue(problem, &plan->epilogue);
  plan->scratch_bytes = window_scratch_bytes(problem.shape, plan->config);
  plan->words = to_string(plan->config);
  plan->predicted_us = plan->config.predicted_us + (plan->runs_epilogue ? 0 : conv_pass_us(problem));
  return plan;
}

}  // namespace

std::unique_ptr<ConvPlan> make_window_conv(const ConvProblem& problem, const DeviceInfo* device,
                                           std::string* why_not) {
  return make_window(problem, *device, WindowInput::converted, why_not);
}

std::unique_ptr<ConvPlan> make_packed_conv(const ConvProblem& problem, const DeviceInfo* device,
                                           std::string* why_not) {
  return make_window(problem, *device, WindowInput::packed, why_not);
}

}  // namespace solder
