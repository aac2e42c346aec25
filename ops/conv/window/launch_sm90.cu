// The families "window" and "packed": their plan and its launches.

#include <algorithm>

#include "ops/conv/fused.h"
#include "ops/conv/range/range.h"
#include "ops/conv/window/params.cuh"
#include "runtime/divide.h"
#include "runtime/launch.cuh"

namespace solder {
namespace {

window::Params make_params(const ConvShape& s, const ConvStrides& strides, const WindowConfig& c,
                           const ConvEpilogue& epilogue, const ConvTensors& t) {
  const int64_t exponent_bytes = round_up(s.K, kWindowBlockK) * 4;
  window::Params p{kernel_shape(s)};
  p.x = t.x_floats();
  p.exponents = static_cast<const int32_t*>(t.packed);
  p.blocks = static_cast<const uint8_t*>(t.packed) + exponent_bytes;
  p.ranges = static_cast<ImageRange*>(t.scratch);
  p.packed_x = reinterpret_cast<uint4*>(static_cast<std::byte*>(t.scratch) + conv_scratch_bytes(s, c) -
                                        packed_x_bytes(s, c));
  p.y = t.y_floats();
  p.x_image = strides.x, p.y_image = strides.y;
  p.by_pitch = FastDivisor(static_cast<uint32_t>(c.pitch));
  p.by_rows = FastDivisor(static_cast<uint32_t>(c.rows));
  p.by_strips = FastDivisor(static_cast<uint32_t>(c.num_strips));
  p.by_window = FastDivisor(static_cast<uint32_t>(c.window));
  p.config = c;
  p.epilogue = epilogue;
  return p;
}

struct WindowPlan final : FusedPlan<WindowConfig> {
  // Guess, kernel, repair, strict repair; with packed x: guess, pack, repair of what was packed, kernel,
  // strict repair.
  void enqueue(const Context* context, const ConvTensors& t) const override {
    window::Params params = make_params(shape, strides, config, bound_epilogue(epilogue, t.operands), t);
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
    conv_range_guess(*context, shape, strides, config.math, params.x, params.ranges);
    if (config.is_packed) window::pack_x(*context, params);
    launch(*context, "conv_window_kernel", kernel, grid, params);
    if (!config.is_packed) {
      params.is_repair = true;
      launch(*context, "conv_window_kernel (repair)", kernel, grid, params);
    }
    conv_strict(*context, shape, strides, config.math, params.x, t.w, params.ranges, params.epilogue,
                params.y);
  }
};

std::unique_ptr<ConvPlan> make_window(const ConvProblem& problem, const DeviceInfo& device, bool is_packed,
                                      std::string* why_not) {
  if (device.cc_major != 9) return *why_not = "needs a Hopper GPU (compute capability 9.0)", nullptr;
  const auto config = choose_window_config(problem.shape, problem.math, device.num_sms, is_packed,
                                           problem.workspace_bytes, why_not);
  auto plan = std::make_unique<WindowPlan>();
  if (!config || !plan->init(problem, *config, why_not)) return nullptr;
  if (!fit_float32(plan->exponents, why_not)) return nullptr;
  return plan;
}

}  // namespace

std::unique_ptr<ConvPlan> make_window_conv(const ConvProblem& problem, const DeviceInfo* device,
                                           std::string* why_not) {
  return make_window(problem, *device, false, why_not);
}

std::unique_ptr<ConvPlan> make_packed_conv(const ConvProblem& problem, const DeviceInfo* device,
                                           std::string* why_not) {
  return make_window(problem, *device, true, why_not);
}

}  // namespace solder
