// The direct convolution of one input channel a group: no matrix product worth the name. Here of float32 planes; of 16-bit
// values with channels innermost: pixels.cu.
//
// conv_direct_kernel: one thread an output, R*S terms in order of r, s; float32 in either Math mode. Bound:
// memory, as the R*S reads of neighbouring threads overlap in the L1 cache.

#include <algorithm>

#include "ops/conv/direct/direct.cuh"
#include "ops/conv/direct/launch.h"
#include "ops/conv/kernels.h"
#include "runtime/divide.h"
#include "runtime/launch.cuh"

namespace solder {
namespace {

constexpr int kThreads = 256;

template <bool kFinite>
__global__ void __launch_bounds__(kThreads)
    conv_direct_kernel(const __grid_constant__ ConvShape s, ConvStrides strides, int64_t num_outputs,
                       const float* x, const float* w, float* y) {
  const int64_t P = s.P(), Q = s.Q(), step = int64_t{gridDim.x} * kThreads;
  const int64_t y_gap = strides.y - s.K * P * Q;  // between images
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < num_outputs; i += step) {
    const int64_t q = i % Q, p = i / Q % P, k = i / (Q * P) % s.K, n = i / (Q * P * s.K);
    y[i + n * y_gap] = direct_sum<kFinite>(s, 1, x + n * strides.x, w, k, p, q);
  }
}

struct DirectPlan final : ConvPlan {
  ConvShape shape;
  ConvStrides strides;
  bool is_finite = false;  // the weights are known, and are

  void enqueue(const Context* context, const ConvTensors& t) const override {
    const int64_t num_outputs = shape.N * shape.K * shape.gemm_n();
    if (num_outputs == 0) return;
    const int64_t blocks = std::min(ceil_div(num_outputs, kThreads), int64_t{context->info().num_sms} * 32);
    const auto kernel = is_finite ? conv_direct_kernel<true> : conv_direct_kernel<false>;
    launch(*context, "conv_direct_kernel", kernel, {static_cast<unsigned>(blocks), kThreads}, shape, strides,
           num_outputs, t.x_floats(), t.w, t.y_floats());
  }
};

}  // namespace

std::unique_ptr<ConvPlan> make_direct_conv(const ConvProblem& problem, const DeviceInfo*,
                                           std::string* why_not) {
  const ConvShape& s = problem.shape;
  if (s.C != s.groups) return *why_not = "more than one input channel a group", nullptr;
  if (problem.x.dtype != DType::float32) return make_direct_pixels_conv(problem, why_not);
  if (!problem.has_plain_tensors()) return *why_not = "takes float32 tensors of dense images", nullptr;
  auto plan = std::make_unique<DirectPlan>();
  plan->shape = s;
  plan->strides = problem.strides();
  const auto is_finite = [](uint32_t largest) { return largest < kNonFiniteBits; };
  plan->is_finite = problem.weights && std::ranges::all_of(problem.weights.largest(), is_finite);
  plan->words = "a thread an output";
  const double outputs = static_cast<double>(s.N * s.K * s.gemm_n());
  const double bytes = 4 * (static_cast<double>(s.N * s.C * s.H * s.W) + outputs);
  const double instructions = outputs * static_cast<double>(150 + 12 * s.R * s.S);
  plan->predicted_us = 5 + std::max(bytes / 2.8e6, instructions / 25e6) + conv_pass_us(problem);
  return plan;
}

}  // namespace solder
