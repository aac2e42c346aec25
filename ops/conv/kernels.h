#pragma once
// Which of the GPU's convolutions runs a problem, decided once, at compile time.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ops/conv/epilogue/epilogue.h"
#include "ops/conv/im2col/im2col.h"
#include "ops/conv/rows/rows.h"
#include "ops/conv/window/window.h"
#include "runtime/device.h"

namespace solder {

/// How one convolution and the elementwise program that follows it will run.
struct ConvPlan {
  enum class Kind {
    im2col,  ///< im2col + cuBLAS: everything, on every GPU
    rows,    ///< the fused Hopper kernel for wide images with few input channels
    window,  ///< the general fused Hopper kernel
  };
  Kind kind = Kind::im2col;
  Math math = Math::fp32;
  Im2colPlan im2col;
  RowsConfig rows;
  WindowConfig window;
  Program program;              ///< starts from the result
  bool fused_epilogue = false;  ///< the program runs inside the kernel; otherwise as a pass over y
  ConvEpilogue epilogue;        ///< what the kernel runs; just the store when the program runs behind it
  int64_t scratch_bytes = 0;    ///< device memory while it runs
  std::string path;             ///< what runs and why, in words

  bool needs_pass() const { return !fused_epilogue && program.num_steps > 1; }
};

/// What the choice depends on.
struct ConvProblem {
  std::string node;  ///< for errors
  ConvShape shape;
  Math math = Math::fp32;
  Program program;                   ///< elementwise work on the result, from which it starts
  std::vector<TensorView> operands;  ///< the program's; data may be null
  std::span<const float> weights;    ///< [K,C/groups,R,S], empty when not known at compile time
  int64_t workspace_bytes = 0;       ///< bound on im2col's columns and the window kernel's packed x
  ConvAlgorithm algorithm = ConvAlgorithm::automatic;
};

/// Chooses the kernel for `problem` on a GPU. Fused kernels need a Hopper GPU and weights known now, which
/// are packed into `packed` (to be uploaded, 256-byte aligned, and given to conv_cuda).
/// Error(invalid_argument) when im2col is all there is and `workspace_bytes` is too small for it.
ConvPlan choose_conv_plan(const ConvProblem& problem, const DeviceInfo& device,
                          std::vector<std::byte>* packed);

/// Device memory of one call: x [N,C,H,W], w [K,C/groups,R,S], y [N,K,P,Q], dense float32.
struct ConvTensors {
  const float* x = nullptr;
  const float* w = nullptr;
  const void* packed = nullptr;  ///< choose_conv_plan's bytes
  std::vector<void*> operands;   ///< the program's
  float* y = nullptr;            ///< must not overlap x or an operand
  void* scratch = nullptr;       ///< plan.scratch_bytes, 256-byte aligned
  ElementwiseArgs pass;          ///< the program bound over y in place, for plan.needs_pass()
  const ElementwiseKernel* pass_kernel = nullptr;  ///< what was generated for that, if anything
};

/// Enqueues the convolution and its program on the context's stream.
void conv_cuda(const Context& context, const ConvShape& shape, const ConvPlan& plan,
               const ConvTensors& tensors);

}  // namespace solder
