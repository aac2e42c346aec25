// The convolution without a GPU: for each image and group a product of the weights, as they lie, and columns
// of taps, of which a panel at a time is packed. There is no column matrix. Groups of few channels, which are
// not worth that, go by taps.h.

#include "ops/conv/cpu/cpu.h"

#include <algorithm>

#include "ops/conv/cpu/copy_row.h"
#include "ops/conv/cpu/taps.h"
#include "ops/conv/kernels.h"
#include "ops/matmul/panel_cpu.h"

namespace solder {
namespace {

// Part of an output row in a panel: its columns are [at, at + count).
struct Run {
  int64_t at, count;
  int64_t h, w;  // what tap (0, 0) sees from its first column
};

struct Operands {
  ConvShape s;
  ConvStrides strides;
  int64_t Q, gemm_k, gemm_n;
  const float* x;
  const float* w;
  float* y;

  const float* a(int64_t i) const { return w + i % s.groups * s.gemm_m() * gemm_k; }
  float* c(int64_t i) const { return y + i / s.groups * strides.y + i % s.groups * s.gemm_m() * gemm_n; }

  // Row k = (c, r, t) of the panel is what tap (r, t) of channel c sees from each output; zeros are padding.
  void pack(int64_t i, int64_t k_begin, int64_t k_end, int64_t column, int64_t columns, float* panel) const {
    Run runs[kPanelColumns];
    int64_t num_runs = 0;
    for (int64_t at = 0, p = column / Q, q = column % Q; at < columns; ++p, q = 0) {
      const int64_t count = std::min(columns - at, Q - q);
      runs[num_runs++] = {at, count, p * s.stride_h - s.pad_top, q * s.stride_w - s.pad_left};
      at += count;
    }
    const int64_t c = i % s.groups * (s.C / s.groups) + k_begin / (s.R * s.S);
    const float* image = x + i / s.groups * strides.x + c * s.H * s.W;
    int64_t r = k_begin / s.S % s.R, t = k_begin % s.S;
    for (int64_t k = k_begin; k < k_end; ++k, panel += kPanelColumns) {
      for (const Run* run = runs; run < runs + num_runs; ++run)
        copy_run(image, run->h + r * s.dil_h, run->w + t * s.dil_w, run->count, t == 0, panel + run->at);
      if (++t < s.S) continue;
      t = 0;
      if (++r < s.R) continue;
      r = 0;
      image += s.H * s.W;
    }
  }

  // What `count` outputs see at row h of the image [H,W], the first of them at column w_begin.
  void copy_run(const float* image, int64_t h, int64_t w_begin, int64_t count, bool prefetches,
                float* to) const {
    const bool is_inside = h >= 0 && h < s.H;
    const auto [low, high] = is_inside ? inside_range(s, w_begin, count) : InsideRange{count, count};
    std::fill_n(to, low, 0.0f);
    std::fill_n(to + high, count - high, 0.0f);
    if (low == high) return;
    const float* const from = image + (h * s.W + w_begin + low * s.stride_w);
    if (prefetches)  // of channels to come, which lie too far apart for the processor to foresee
      for (int64_t j = 0; j < count + 16; j += 16) __builtin_prefetch(from + (4 * s.H * s.W + j));
    copy_strided(from, s.stride_w, high - low, to + low);
  }
};

struct CpuPlan final : ConvPlan {
  ConvShape shape;
  ConvStrides strides;

  void enqueue(const Context*, const ConvTensors& t) const override {
    conv_cpu(shape, strides, t.x_floats(), t.w, t.y_floats(), t.pool);
  }
};

}  // namespace

void conv_cpu(const ConvShape& shape, const ConvStrides& strides, const float* x, const float* w, float* y,
              ThreadPool* pool, CpuLevel level) {
  if (const std::optional<TapTiles> tiles = plan_tap_tiles(shape))
    return conv_taps(*tiles, strides, x, w, y, pool, level);
  ConvShape s = shape;
  if (s.is_pointwise()) s.W *= s.H, s.H = 1;  // of pixels, whatever their row
  multiply_panels({.count = s.N * s.groups,
                   .m = s.gemm_m(),
                   .n = s.gemm_n(),
                   .k = s.gemm_k(),
                   .ld_a = s.gemm_k(),
                   .ld_c = s.gemm_n()},
                  Operands{s, strides, s.Q(), s.gemm_k(), s.gemm_n(), x, w, y}, pool, level);
}

std::unique_ptr<ConvPlan> make_cpu_conv(const ConvProblem& problem, const DeviceInfo*, std::string*) {
  auto plan = std::make_unique<CpuPlan>();
  plan->shape = problem.shape;
  plan->strides = problem.strides();
  plan->words = "loops";
  return plan;
}

}  // namespace solder
