// The convolution without a GPU: plain loops in float32.

#include <algorithm>

#include "ops/conv/kernels.h"

namespace solder {
namespace {

// Each output is summed in the order c, r, s.
void conv_cpu(const ConvShape& s, const float* x, const float* w, float* y) {
  const int64_t P = s.P(), Q = s.Q(), group_c = s.C / s.groups, group_k = s.K / s.groups;
  for (int64_t n = 0; n < s.N; ++n) {
    for (int64_t k = 0; k < s.K; ++k) {
      float* y_image = y + (n * s.K + k) * P * Q;
      std::fill_n(y_image, P * Q, 0.0f);
      for (int64_t c = 0; c < group_c; ++c) {
        const float* x_image = x + (n * s.C + k / group_k * group_c + c) * s.H * s.W;
        for (int64_t r = 0; r < s.R; ++r) {
          for (int64_t column = 0; column < s.S; ++column) {
            const float weight = w[((k * group_c + c) * s.R + r) * s.S + column];
            // Output columns whose input column lies inside the image: q_begin <= q < q_end.
            const int64_t shift = column * s.dil_w - s.pad_left;
            const int64_t q_begin = shift >= 0 ? 0 : std::min(Q, (-shift + s.stride_w - 1) / s.stride_w);
            const int64_t last = s.W - 1 - shift;
            const int64_t q_end = last < 0 ? 0 : std::min(Q, last / s.stride_w + 1);
            for (int64_t p = 0; p < P; ++p) {
              const int64_t h = p * s.stride_h + r * s.dil_h - s.pad_top;
              if (h < 0 || h >= s.H) continue;
              const float* x_row = x_image + h * s.W + shift;
              float* y_row = y_image + p * Q;
              if (s.stride_w == 1) {
                for (int64_t q = q_begin; q < q_end; ++q) y_row[q] += weight * x_row[q];
              } else {
                for (int64_t q = q_begin; q < q_end; ++q) y_row[q] += weight * x_row[q * s.stride_w];
              }
            }
          }
        }
      }
    }
  }
}

struct CpuPlan final : ConvPlan {
  ConvShape shape;

  void enqueue(const Context*, const ConvTensors& t) const override { conv_cpu(shape, t.x, t.w, t.y); }
};

}  // namespace

std::unique_ptr<ConvPlan> make_cpu_conv(const ConvProblem& problem, const DeviceInfo*, std::string*) {
  auto plan = std::make_unique<CpuPlan>();
  plan->shape = problem.shape;
  plan->words = "loops";
  return plan;
}

}  // namespace solder
