// The convolution without a GPU: plain loops in float32.

#include <algorithm>

#include "ops/conv/kernels.h"

namespace solder {
namespace {

// Output columns whose input column lies inside the image for a filter column `shift` to the right.
struct Columns {
  int64_t begin, end;

  Columns(const ConvShape& s, int64_t shift) {
    const int64_t last = s.W - 1 - shift;
    begin = shift >= 0 ? 0 : std::min(s.Q(), (-shift + s.stride_w - 1) / s.stride_w);
    end = last < 0 ? 0 : std::min(s.Q(), last / s.stride_w + 1);
    if (end < begin) end = begin;
  }
};

// y_row[q] += weight * x_row[q * stride] inside the image.
void add_row(const ConvShape& s, const Columns& columns, float weight, const float* x_row, float* y_row) {
  if (s.stride_w == 1) {
    for (int64_t q = columns.begin; q < columns.end; ++q) y_row[q] += weight * x_row[q];
  } else {
    for (int64_t q = columns.begin; q < columns.end; ++q) y_row[q] += weight * x_row[q * s.stride_w];
  }
}

// y [P,Q] += w [R,S] over one channel x [H,W].
void add_channel(const ConvShape& s, const float* x, const float* w, float* y) {
  for (int64_t r = 0; r < s.R; ++r) {
    for (int64_t column = 0; column < s.S; ++column) {
      const float weight = w[r * s.S + column];
      const float outside = weight * 0;  // NaN where the weight is not finite
      const int64_t shift = column * s.dil_w - s.pad_left;
      const Columns columns(s, shift);
      for (int64_t p = 0; p < s.P(); ++p) {
        const int64_t h = p * s.stride_h + r * s.dil_h - s.pad_top;
        float* y_row = y + p * s.Q();
        const bool is_inside = h >= 0 && h < s.H;
        if (is_inside) add_row(s, columns, weight, x + h * s.W + shift, y_row);
        if (outside == 0) continue;
        for (int64_t q = 0; q < s.Q(); ++q)
          if (!is_inside || q < columns.begin || q >= columns.end) y_row[q] += outside;
      }
    }
  }
}

// Each output is summed in the order c, r, s.
void conv_cpu(const ConvShape& s, const float* x, const float* w, float* y) {
  const int64_t group_c = s.C / s.groups, group_k = s.K / s.groups;
  for (int64_t n = 0; n < s.N; ++n) {
    for (int64_t k = 0; k < s.K; ++k, y += s.gemm_n()) {
      std::fill_n(y, s.gemm_n(), 0.0f);
      for (int64_t c = 0; c < group_c; ++c)
        add_channel(s, x + (n * s.C + k / group_k * group_c + c) * s.H * s.W,
                    w + (k * group_c + c) * s.R * s.S, y);
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
