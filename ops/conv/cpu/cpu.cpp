// The convolution without a GPU: plain loops in float32.

#include <algorithm>

#include "ops/conv/kernels.h"

namespace solder {
namespace {

// y [P,Q] += one channel x [H,W] under its filter w [R,S].
void add_channel(const ConvShape& s, const float* x, const float* w, float* y) {
  const int64_t P = s.P(), Q = s.Q();
  for (int64_t tap = 0; tap < s.R * s.S; ++tap) {
    const float weight = w[tap], outside = weight * 0;  // NaN where the weight is not finite
    // Output columns whose input column lies inside the image: begin <= q < end.
    const int64_t shift = tap % s.S * s.dil_w - s.pad_left, last = s.W - 1 - shift;
    const int64_t end = last < 0 ? 0 : std::min(Q, last / s.stride_w + 1);
    const int64_t begin = shift >= 0 ? 0 : std::min(end, (-shift + s.stride_w - 1) / s.stride_w);
    for (int64_t p = 0; p < P; ++p) {
      const int64_t h = p * s.stride_h + tap / s.S * s.dil_h - s.pad_top;
      const bool is_inside = h >= 0 && h < s.H;
      const float* x_row = x + h * s.W + shift;
      float* y_row = y + p * Q;
      if (is_inside && s.stride_w == 1) {
        for (int64_t q = begin; q < end; ++q) y_row[q] += weight * x_row[q];
      } else if (is_inside) {
        for (int64_t q = begin; q < end; ++q) y_row[q] += weight * x_row[q * s.stride_w];
      }
      for (int64_t q = 0; outside != 0 && q < Q; ++q)
        if (!is_inside || q < begin || q >= end) y_row[q] += outside;
    }
  }
}

struct CpuPlan final : ConvPlan {
  ConvShape shape;

  // Each output is summed in the order c, r, s.
  void enqueue(const Context*, const ConvTensors& t) const override {
    const ConvShape& s = shape;
    const int64_t group_c = s.C / s.groups;
    for (int64_t i = 0; i < s.N * s.K; ++i) {
      const int64_t n = i / s.K, k = i % s.K, first_c = k / (s.K / s.groups) * group_c;
      float* y = t.y + i * s.gemm_n();
      std::fill_n(y, s.gemm_n(), 0.0f);
      for (int64_t c = 0; c < group_c; ++c)
        add_channel(s, t.x + (n * s.C + first_c + c) * s.H * s.W, t.w + (k * group_c + c) * s.R * s.S, y);
    }
  }
};

}  // namespace

std::unique_ptr<ConvPlan> make_cpu_conv(const ConvProblem& problem, const DeviceInfo*, std::string*) {
  auto plan = std::make_unique<CpuPlan>();
  plan->shape = problem.shape;
  plan->words = "loops";
  return plan;
}

}  // namespace solder
