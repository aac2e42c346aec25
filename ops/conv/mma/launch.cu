// The family "mma": its plans, of float32 planes and of 16-bit pixels, and their launches.

#include <algorithm>

#include "ops/conv/fused.h"
#include "ops/conv/mma/launch.h"
#include "ops/conv/mma/params.cuh"
#include "ops/conv/pixels/plan.h"
#include "runtime/launch.cuh"

namespace solder {
namespace {

using mma::Kernel;
using mma::Params;

// Everything but tensors and epilogue.
Params make_params(const ConvShape& s, const MmaConfig& c, const void* packed) {
  const auto narrow = [](int64_t value) { return static_cast<int>(value); };
  const auto divisor = [](int64_t value) { return FastDivisor(static_cast<uint32_t>(value)); };
  Params p{};
  p.config = c;
  p.scales = static_cast<const float*>(packed);
  p.weights = reinterpret_cast<const uint4*>(static_cast<const std::byte*>(packed) +
                                             round_up(c.padded_channels() * 4, int64_t{256}));
  p.weight_vectors = static_cast<uint32_t>(c.num_steps() / 2 * c.weight_bytes() / 16);
  p.N = narrow(s.N), p.H = narrow(s.H), p.W = narrow(s.W), p.K = narrow(s.K), p.P = narrow(s.P()),
  p.Q = narrow(s.Q());
  p.R = narrow(s.R), p.S = narrow(s.S), p.stride_h = narrow(s.stride_h);
  p.dil_h = narrow(s.dil_h), p.dil_w = narrow(s.dil_w), p.pad_top = narrow(s.pad_top),
  p.pad_left = narrow(s.pad_left);
  p.num_pixels = narrow(s.N * s.gemm_n());
  p.num_vectors = narrow(ceil_div(s.C, 8)), p.last_bytes = narrow((s.C - 1) % 8 + 1) * 2;
  p.stage_columns = c.is_shared ? 1 : p.S;
  p.next_column = narrow(c.is_shared ? 0 : s.dil_w * c.x.column);
  p.next_row = narrow(s.dil_h * c.x.row) - p.stage_columns * p.next_column;
  p.next_block =
      narrow((c.x.block_vectors == 4 ? c.x.block : kMmaUnitChannels / 8) - s.R * s.dil_h * c.x.row);
  p.by_pixels = divisor(s.gemm_n()), p.by_q = divisor(s.Q()), p.by_p = divisor(s.P());
  p.by_pitch = divisor(c.pitch), p.by_channel_tiles = divisor(c.tiles_channels);
  return p;
}

void launch_kernels(const Context& context, Kernel (*find)(int, bool), const Params& p) {
  const MmaConfig& c = p.config;
  const MmaTile& tile = c.shape();
  const Kernel kernel = find(c.tile, false);
  LaunchConfig grid{.grid = dim3(static_cast<unsigned>(c.num_blocks_x), static_cast<unsigned>(c.split)),
                    .block = dim3(static_cast<unsigned>(tile.threads())),
                    .smem_bytes = c.smem_bytes,
                    .overlaps_previous = true};
  // What the blocks do not need is worth more as L1, where weights stay.
  const SmemLimits limits = smem_limits(context.info().cc_major, context.info().cc_minor);
  const int carveout = tile.blocks_per_sm * (c.smem_bytes + 1024) * 100 / limits.per_sm + 1;
  SOLDER_CUDA(
      cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, std::min(carveout, 100)));
  launch(context, "conv_mma_kernel", kernel, grid, p);
  if (c.split == 1) return;
  const int groups = (c.is_planes ? tile.warp_channels : tile.warp_pixels) / 16;
  grid.grid = dim3(static_cast<unsigned>(c.num_tiles()), static_cast<unsigned>(groups));
  launch(context, "conv_mma_reduce_kernel", find(c.tile, true), grid, p);
}

struct MmaPlan final : ConvPlan {
  ConvShape shape;  // some images at a time: as many as packed leave room
  ConvShape inner;  // what the kernel convolves of them, with rows folded into channels or not
  int64_t num_images = 0;
  ConvStrides strides;
  Math math = Math::fp32;
  MmaConfig config;
  ConvEpilogue epilogue;
  bool by_pairs = false, by_quads = false;  // see Params
  std::vector<int32_t> exponents;           // of the weights

  int num_parts() const { return math == Math::fp32 ? 2 : 1; }
  int64_t range_bytes() const { return round_up(conv_range_bytes(num_images), 256); }
  int64_t x_bytes() const { return round_up(packed_mma_input_bytes(inner, config.x, num_parts()), 256); }

  std::vector<std::byte> pack(std::span<const float> weights) const override {
    if (inner == shape) return pack_mma_weights(shape, config, DType::float16, weights.data(), exponents);
    return pack_mma_weights(inner, config, DType::float16, fold_weights(shape, weights).data(), exponents);
  }

  // Guess; pack, repair of what was packed, kernel, for some images after the others; strict repair.
  void enqueue(const Context* context, const ConvTensors& t) const override {
    auto* const scratch = static_cast<std::byte*>(t.scratch);
    auto* const ranges = static_cast<ImageRange*>(t.scratch);
    const ConvEpilogue bound = bound_epilogue(epilogue, t.operands);
    const auto find = num_parts() == 2 ? mma::find_kernel<2, DType::float16, true>
                                       : mma::find_kernel<1, DType::float16, true>;
    Params p = make_params(inner, config, t.packed);
    p.x = reinterpret_cast<const uint4*>(scratch + range_bytes());
    p.partial = reinterpret_cast<float*>(scratch + range_bytes() + x_bytes());
    p.math = math;
    p.bias = bound.bias;
    p.y_image = strides.y, p.residual_image = bound.residual_image;
    p.by_pairs = by_pairs, p.by_quads = by_quads;
    p.activation = bound.activation, p.residual_at = bound.residual_at, p.slope = bound.slope;
    ConvShape all = shape;
    all.N = num_images;
    conv_range_guess(*context, all, strides, math, t.x_floats(), ranges);
    for (int64_t first = 0; first < num_images; first += shape.N) {
      p.ranges = ranges + first;
      p.y_planes = t.y_floats() + first * strides.y;
      p.residual_planes = bound.residual == nullptr ? nullptr : bound.residual + first * bound.residual_image;
      mma_pack_x(*context, shape, strides, math, !(inner == shape), config.x,
                 t.x_floats() + first * strides.x, ranges + first, scratch + range_bytes());
      launch_kernels(*context, find, p);
    }
    conv_strict(*context, all, strides, math, t.x_floats(), t.w, ranges, bound, t.y_floats());
  }
};

// Whether pixels n i to n i + n - 1 of a plane lie on n * 4 bytes.
bool has_groups(int n, const ConvView& view, int64_t plane, int64_t image) {
  return plane % n == 0 && image % n == 0 && view.offset_elems % n == 0;
}

std::unique_ptr<ConvPlan> make_planes(const ConvProblem& problem, const DeviceInfo& device,
                                      std::string* why_not) {
  if (!problem.has_plain_tensors()) return *why_not = "takes float32 tensors of dense images", nullptr;
  auto plan = std::make_unique<MmaPlan>();
  const ConvShape& s = plan->shape;
  plan->shape = problem.shape;
  if (!weight_exponents(problem, &plan->exponents, why_not) || !fit_float32(plan->exponents, why_not))
    return nullptr;
  plan->strides = problem.strides();
  plan->math = problem.math;
  plan->num_images = s.N;
  const int num_parts = plan->num_parts();
  const int64_t for_x = problem.workspace_bytes - plan->range_bytes();
  while (true) {
    plan->inner = folds_rows(s.C, s.R, s.groups) ? folded(s) : s;
    const int64_t bytes =
        packed_mma_input_bytes(plan->inner, packed_mma_input(plan->inner, num_parts), num_parts);
    if (bytes <= for_x || s.N == 1) break;
    do --plan->shape.N;
    while (plan->num_images % s.N != 0);
  }
  const MmaInput x = packed_mma_input(plan->inner, num_parts);
  const auto config = choose_mma_config(plan->inner, x, num_parts, true, for_x, device, why_not);
  if (!config) return nullptr;
  plan->config = *config;
  plan->runs_epilogue = plan_epilogue(problem, &plan->epilogue);
  // A tile's pixels lie less than 2^32 elements from its first.
  const bool is_near = (config->shape().pixels() / s.gemm_n() + 1) * plan->strides.y < int64_t{1} << 32;
  plan->by_pairs = is_near && has_groups(2, problem.y, s.gemm_n(), plan->strides.y);
  plan->by_quads = is_near && has_groups(4, problem.y, s.gemm_n(), plan->strides.y) && s.K % 16 == 0;
  if (plan->epilogue.residual_operand >= 0) {
    plan->by_quads = false;
    plan->by_pairs = plan->by_pairs &&
                     has_groups(2, problem.operands[static_cast<size_t>(plan->epilogue.residual_operand)],
                                s.gemm_n(), plan->epilogue.residual_image);
  }
  plan->scratch_bytes = plan->range_bytes() + plan->x_bytes() + mma_partial_bytes(*config);
  const int64_t turns = plan->num_images / s.N;
  plan->words = str(plan->inner == s ? "" : "rows folded into channels, ",
                    turns > 1 ? str(s.N, " images at a time, ") : "", to_string(*config));
  plan->packing = str(plan->inner == s ? "" : "folded ", packing_of(*config, DType::float16));
  plan->predicted_us =
      config->predicted_us * static_cast<double>(turns) + (plan->runs_epilogue ? 0 : conv_pass_us(problem));
  return plan;
}

struct MmaPixelPlan final : PixelPlan {
  MmaConfig config;

  std::vector<std::byte> pack_weights(const float* w) const override {
    return pack_mma_weights(call.shape, config, call.dtype, w, pixel_exponents(call.shape, call.dtype, w));
  }

  void enqueue_call(const Context& context, const PixelCall& bound) const override {
    Params p = make_params(call.shape, config, bound.packed);
    p.x = static_cast<const uint4*>(bound.x);
    p.partial = static_cast<float*>(bound.scratch);
    p.bias = bound.bias;
    p.y = bound.y, p.residual = bound.residual;
    p.activation = bound.activation, p.residual_at = bound.residual_at, p.slope = bound.slope;
    launch_kernels(context,
                   call.dtype == DType::bfloat16 ? mma::find_kernel<1, DType::bfloat16, false>
                                                 : mma::find_kernel<1, DType::float16, false>,
                   p);
  }
};

std::unique_ptr<ConvPlan> make_pixels(const ConvProblem& problem, const DeviceInfo& device,
                                      std::string* why_not) {
  if (problem.x.dtype == DType::bfloat16 && device.cc_major < 8)
    return *why_not = "bfloat16 needs compute capability 8.0", nullptr;
  auto plan = std::make_unique<MmaPixelPlan>();
  if (!plan->init(problem, why_not)) return nullptr;
  const PixelStrides& strides = plan->call.x_strides;
  MmaInput x{.image = strides.image / 8, .row = strides.row / 8, .column = strides.pixel / 8};
  const int64_t scratch = round_up(plan->copy_bytes, 256);
  const auto config =
      choose_mma_config(plan->call.shape, x, 1, false, problem.workspace_bytes - scratch, device, why_not);
  if (!config) return nullptr;
  plan->config = *config;
  if (config->split > 1) plan->scratch_bytes = scratch + mma_partial_bytes(*config);
  plan->words += to_string(*config);
  plan->packing += packing_of(*config, plan->call.dtype);
  plan->predicted_us = config->predicted_us;
  return plan;
}

}  // namespace

std::unique_ptr<ConvPlan> make_mma_conv(const ConvProblem& problem, const DeviceInfo* device,
                                        std::string* why_not) {
  return problem.x.dtype == DType::float32 ? make_planes(problem, *device, why_not)
                                           : make_pixels(problem, *device, why_not);
}

}  // namespace solder
