// im2col + cuBLAS: the family for everything. Its plan, and the order of its launches:
//
//   step {build 0}  GEMM 0  step {finish 0, build 1}  GEMM 1  ...  step {finish last}
//
// Columns and sums have one buffer each, small enough for the L2 cache.

#include <algorithm>
#include <utility>

#include "ops/conv/fused.h"
#include "ops/conv/im2col/im2col.h"
#include "ops/conv/im2col/step.h"
#include "ops/conv/kernels.h"
#include "ops/conv/range/range.h"
#include "ops/matmul/gemm.h"
#include "runtime/check_cuda.h"
#include "runtime/context.h"
#include "runtime/divide.h"

namespace solder {
namespace {

struct Im2colPlan final : ConvPlan {
  ConvShape shape;
  ConvStrides strides;
  Im2colConfig config;
  ConvEpilogue epilogue;
  std::vector<int32_t> exponents;  // of the weights, where columns are float16

  std::vector<std::byte> pack(std::span<const float> weights) const override {
    if (!config.is_half) return {};
    return pack_weights(shape, config, weights.data(), exponents);
  }

  void enqueue(const Context* context, const ConvTensors& t) const override {
    if (shape.N == 0) return;
    if (config.is_pointwise) return multiply_x(*context, t);
    auto* memory = static_cast<std::byte*>(t.scratch);
    const auto take = [&](int64_t num_bytes) {
      return std::exchange(memory, memory + round_up(num_bytes, 256));
    };
    ImageRange* ranges = nullptr;
    Im2colStep step{.x = t.x_floats(), .y = t.y_floats()};
    if (config.is_half) {
      step.ranges = ranges = reinterpret_cast<ImageRange*>(take(conv_range_bytes(shape.N)));
      step.exponents = static_cast<const int32_t*>(t.packed);
      SOLDER_CUDA(
          cudaMemsetAsync(ranges, 0, static_cast<size_t>(conv_range_bytes(shape.N)), context->stream()));
      conv_range_find(*context, shape, strides, t.x_floats(), ranges);
    }
    const Im2colLayout largest = im2col_layout(shape, config, config.rows_per_gemm, config.width);
    step.columns = take(shape.groups * largest.group_stride * config.elem_bytes());
    float* const sums = reinterpret_cast<float*>(memory);
    step.sums = sums;
    const ConvEpilogue bound = bound_epilogue(epilogue, t.operands);
    for (step.build = next_chunk({}); step.build.num_rows > 0 || step.finish.num_rows > 0;) {
      im2col_step(*context, shape, strides, config, bound, step);
      step.finish = step.build;
      if (step.build.num_rows == 0) break;
      multiply(*context, step.build, t, step.columns, sums);
      step.build = next_chunk(step.build);
    }
    if (config.is_half)
      conv_strict(*context, shape, strides, config.math, t.x_floats(), t.w, ranges, bound, t.y_floats());
  }

 private:
  // The chunk behind `last`; the first behind none.
  Im2colChunk next_chunk(const Im2colChunk& last) const {
    if (!config.shares_rows) {
      const int64_t first = last.first_pixel + last.num_pixels;
      const int64_t pixels = std::min(config.width, shape.N * shape.gemm_n() - first);
      if (pixels == 0) return {};
      return {.first_pixel = first, .num_pixels = pixels, .num_rows = 1, .width = round_up(pixels, 8)};
    }
    Im2colChunk next{
        .image = last.image, .first_row = last.first_row + last.num_rows, .num_pixels = shape.Q()};
    if (next.first_row == shape.P()) ++next.image, next.first_row = 0;
    if (next.image == shape.N) return {};
    next.num_rows = std::min(config.rows_per_gemm, shape.P() - next.first_row);
    next.width = config.width;
    return next;
  }

  // One GEMM call covers either the rows or the groups; the other is a loop.
  void multiply(const Context& context, const Im2colChunk& chunk, const ConvTensors& t, const void* columns,
                float* sums) const {
    const ConvShape& s = shape;
    const Im2colLayout layout = im2col_layout(s, config, chunk.num_rows, chunk.width);
    const int64_t pitch = config.is_half ? packed_im2col_pitch(s) : s.gemm_k();
    GemmShape gemm{.m = s.gemm_m(),
                   .n = chunk.width,
                   .k = s.gemm_k(),
                   .ld_b = chunk.width,
                   .ld_c = chunk.width,
                   .ld_a = pitch,
                   .count = config.shares_rows ? chunk.num_rows : s.groups};
    gemm.stride_a = config.shares_rows ? 0 : gemm.m * pitch;
    gemm.stride_b = config.shares_rows ? layout.blocks_per_row * layout.block_stride : layout.group_stride;
    gemm.stride_c = (config.shares_rows ? padded_channels(s.K) : gemm.m) * chunk.width;
    if (!config.is_half)
      return gemm_cuda(context, gemm, config.math, t.w, static_cast<const float*>(columns), sums);
    const auto* w = static_cast<const std::byte*>(t.packed) + round_up(s.K * int64_t{sizeof(int32_t)}, 256);
    const auto* b = static_cast<const std::byte*>(columns);
    for (int64_t g = 0; g < (config.shares_rows ? s.groups : 1); ++g)
      gemm_half_cuda(context, gemm, w + g * gemm.m * pitch * 2, b + g * layout.group_stride * 2,
                     sums + g * gemm.m * chunk.width);
  }

  // x is the column matrix. One GEMM call covers either the images or the groups.
  void multiply_x(const Context& context, const ConvTensors& t) const {
    const ConvShape& s = shape;
    const int64_t pixels = s.gemm_n();
    GemmShape gemm{.m = s.gemm_m(), .n = pixels, .k = s.gemm_k(), .ld_b = pixels, .ld_c = pixels};
    if (s.groups == 1) {
      gemm.count = s.N, gemm.stride_b = strides.x, gemm.stride_c = strides.y;
      return gemm_cuda(context, gemm, config.math, t.w, t.x_floats(), t.y_floats());
    }
    gemm.count = s.groups;
    gemm.stride_a = gemm.m * gemm.k, gemm.stride_b = gemm.k * pixels, gemm.stride_c = gemm.m * pixels;
    for (int64_t n = 0; n < s.N; ++n)
      gemm_cuda(context, gemm, config.math, t.w, t.x_floats() + n * strides.x, t.y_floats() + n * strides.y);
  }
};

}  // namespace

std::unique_ptr<ConvPlan> make_im2col_conv(const ConvProblem& problem, const DeviceInfo* device,
                                           std::string* why_not) {
  auto plan = std::make_unique<Im2colPlan>();
  std::string why_float;
  const bool knows_weights =
      weight_exponents(problem, &plan->exponents, &why_float) && fit_float32(plan->exponents, &why_float);
  const auto config = choose_im2col_config(problem.shape, problem.math, problem.workspace_bytes, *device,
                                           knows_weights, why_not);
  if (!config) return nullptr;
  plan->shape = problem.shape;
  plan->strides = problem.strides();
  plan->config = *config;
  plan->words = to_string(*config);
  plan->scratch_bytes = im2col_scratch_bytes(problem.shape, *config);
  if (config->is_half) plan->packing = config->shares_rows ? "im2col rows" : "im2col pixels";
  plan->uses_cublas = true;
  plan->runs_epilogue = !config->is_pointwise && plan_epilogue(problem, &plan->epilogue);
  const double pass_us = plan->runs_epilogue ? 0 : conv_pass_us(problem);
  const auto fitted_us = fitted_im2col_us(problem.shape, *config, *device);
  if (fitted_us)
    plan->predicted_us = *fitted_us + (config->is_pointwise ? 0 : pass_us);
  else  // twofold: numbers this rough displace a fused kernel only where they leave no doubt
    plan->predicted_us = 2 * predict_im2col_us(problem.shape, *config, *device) + pass_us;
  return plan;
}

}  // namespace solder
