#pragma once
// The general convolution: im2col + GEMM, for every ConvShape; and a direct kernel for depthwise.

#include <cstdint>
#include <string>

#include "ops/conv/conv.h"

namespace solder {

class Context;

/// How a convolution is cut into GEMMs. Plain and printable; see choose_im2col_plan.
struct Im2colPlan {
  enum class Kind {
    direct,     ///< one input channel a group: no matrix product worth the name, a plain loop
    pointwise,  ///< 1x1, stride 1, no padding: the input is the column matrix already
    columns,    ///< build column chunks in the workspace, multiply, repeat
  };
  Kind kind = Kind::columns;
  int64_t images_per_gemm = 1;  ///< images batched into one GEMM call
  int64_t pixels_per_gemm = 0;  ///< output pixels of an image in one GEMM call; gemm_n when an image fits
  int64_t workspace_bytes = 0;  ///< column memory it needs
  bool operator==(const Im2colPlan&) const = default;
};

std::string to_string(const Im2colPlan& plan);

/// Chooses chunks that stay within `workspace_bytes`, and near `target_bytes` where that is smaller: columns
/// that fit in the L2 cache never reach DRAM. At least one 32-pixel chunk is needed; Error(invalid_argument)
/// naming `node` and the bytes it would take when the budget is below that.
Im2colPlan choose_im2col_plan(const ConvShape& shape, int64_t workspace_bytes, int64_t target_bytes,
                              const std::string& node);

/// y = conv(x, w) without bias on the CPU, each output summed in float32 in the order c, r, s.
/// x [N,C,H,W], w [K,C/groups,R,S], y [N,K,P,Q]. Needs no workspace.
void conv_cpu(const ConvShape& shape, const float* x, const float* w, float* y);

/// The same on the GPU, enqueued on the context's stream. `workspace` holds plan.workspace_bytes.
void conv_im2col_cuda(const Context& context, const ConvShape& shape, const Im2colPlan& plan, Math math,
                      const float* x, const float* w, float* y, float* workspace);

}  // namespace solder
