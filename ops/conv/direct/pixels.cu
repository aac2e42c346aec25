// The plans of conv_direct_pixels_kernel and their launches.

#include <algorithm>

#include "ops/conv/direct/launch.h"
#include "ops/conv/direct/pixels.cuh"
#include "ops/conv/pixels/plan.h"
#include "runtime/launch.cuh"

namespace solder {
namespace {

using direct::Params;

struct DirectPixelPlan final : PixelPlan {
  int64_t num_vectors() const { return ceil_div(call.shape.K, pixels::kVector); }
  int64_t num_items() const {
    return call.shape.N * call.shape.P() * ceil_div(call.shape.Q(), direct::kRun) * num_vectors();
  }

  // float32 [R * S][K up to whole vectors].
  std::vector<std::byte> pack_weights(const float* w) const override {
    const int64_t taps = call.shape.R * call.shape.S, row = num_vectors() * pixels::kVector;
    std::vector<std::byte> packed(static_cast<size_t>(taps * row * 4));
    auto* const to = reinterpret_cast<float*>(packed.data());
    for (int64_t k = 0; k < call.shape.K; ++k)
      for (int64_t tap = 0; tap < taps; ++tap) to[tap * row + k] = w[k * taps + tap];
    return packed;
  }

  void enqueue_call(const Context& context, const PixelCall& bound) const override {
    const ConvShape& s = bound.shape;
    const auto narrow = [](int64_t value) { return static_cast<int>(value); };
    const auto divisor = [](int64_t value) { return FastDivisor(static_cast<uint32_t>(value)); };
    if (num_items() == 0) return;
    Params p{};
    p.x = static_cast<const uint4*>(bound.x), p.weights = static_cast<const float4*>(bound.packed);
    p.bias = bound.bias, p.y = bound.y, p.residual = bound.residual;
    p.activation = bound.activation, p.residual_at = bound.residual_at, p.slope = bound.slope;
    p.x_image = bound.x_strides.image / pixels::kVector, p.x_row = bound.x_strides.row / pixels::kVector;
    p.x_pixel = bound.x_strides.pixel / pixels::kVector;
    p.H = narrow(s.H), p.W = narrow(s.W), p.K = narrow(s.K), p.P = narrow(s.P()), p.Q = narrow(s.Q());
    p.R = narrow(s.R), p.S = narrow(s.S), p.stride_h = narrow(s.stride_h), p.stride_w = narrow(s.stride_w);
    p.dil_h = narrow(s.dil_h), p.dil_w = narrow(s.dil_w);
    p.pad_top = narrow(s.pad_top), p.pad_left = narrow(s.pad_left);
    p.num_vectors = narrow(num_vectors()), p.num_items = narrow(num_items());
    p.by_vectors = divisor(num_vectors()), p.by_runs = divisor(ceil_div(s.Q(), direct::kRun));
    p.by_p = divisor(s.P()), p.by_pixels = divisor(s.gemm_n());
    const auto kernel = call.dtype == DType::bfloat16 ? direct::conv_direct_pixels_kernel<DType::bfloat16>
                                                      : direct::conv_direct_pixels_kernel<DType::float16>;
    const auto blocks = static_cast<unsigned>(ceil_div(num_items(), direct::kThreads));
    launch(context, "conv_direct_pixels_kernel", kernel,
           {.grid = blocks, .block = direct::kThreads, .overlaps_previous = true}, p);
  }
};

}  // namespace

std::unique_ptr<ConvPlan> make_direct_pixels_conv(const ConvProblem& problem, std::string* why_not) {
  const ConvShape& s = problem.shape;
  if (s.K != s.groups) return *why_not = "several output channels a group", nullptr;
  auto plan = std::make_unique<DirectPixelPlan>();
  if (!plan->init(problem, why_not)) return nullptr;
  constexpr int64_t kMost = int64_t{1} << 30;  // counted, rows and columns of padding too, in 31 bits
  const int64_t reach = std::max(s.H + std::abs(s.pad_top) + s.P() * s.stride_h + s.R * s.dil_h,
                                 s.W + std::abs(s.pad_left) + s.Q() * s.stride_w + s.S * s.dil_w);
  if (plan->num_items() >= kMost || s.N * s.gemm_n() >= kMost || reach >= kMost)
    return *why_not = "2^30 or more vectors", nullptr;
  plan->words += "a thread four pixels of eight channels";
  plan->packing += str("direct pixels ", s.K);
  // Instructions of a term: a product, a conversion, half a load.
  const double outputs = static_cast<double>(s.N * s.K * s.gemm_n());
  const double bytes = 2 * (static_cast<double>(s.N * s.C * s.H * s.W) + outputs);
  plan->predicted_us = 3 + std::max(bytes / 2.8e6, outputs * static_cast<double>(10 + s.R * s.S * 3) / 25e6);
  return plan;
}

}  // namespace solder
