#pragma once
// Which kernel runs a convolution, decided once, at compile time: a list of families, each of which plans a
// problem or says why not.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ops/conv/conv.h"
#include "ops/elementwise/program.h"
#include "ops/image_range.h"
#include "ops/math_mode.h"
#include "ops/scaled.h"
#include "runtime/device.h"
#include "runtime/tensor.h"
#include "runtime/tensor_view.h"

namespace solder {

class Context;
class ThreadPool;

/// Weights that are known before the run, asked for only where a plan depends on them.
struct ConvWeights {
  std::function<Tensor()> values;                      ///< [K,C/groups,R,S], on the CPU
  std::function<std::span<const uint32_t>()> largest;  ///< [K]: largest_weights() of them

  explicit operator bool() const { return largest != nullptr; }
};

/// The bits of the largest |w| of each of `num_channels` output channels; of NaN and infinity >= kNonFiniteBits.
std::vector<uint32_t> largest_weights(std::span<const float> weights, int64_t num_channels);

/// How a tensor of a convolution lies, without an address.
struct ConvView : TensorView {
  int64_t offset_elems = 0;            ///< from a multiple of 256 bytes to its first element
  std::vector<ScaledChannels> scaled;  ///< where it is scaled
};

/// What the choice depends on.
struct ConvProblem {
  std::string node;  ///< for errors
  ConvShape shape;
  Math math = Math::fp32;
  ConvView x;  ///< [N,C,H,W]
  ConvView y;  ///< [N,K,P,Q]: the epilogue's output 0
  std::vector<ConvView>
      more_outputs;                ///< [N,K,P,Q] each: its outputs behind that, see ConvEpilogue::stores_sum
  Program epilogue;                ///< elementwise work on the result, from which it starts
  std::vector<ConvView> operands;  ///< the epilogue's
  ConvWeights weights;             ///< false when not known before the run
  /// The bits of the largest magnitude of an operand, kNonFiniteBits where that is not known before the run.
  std::function<uint32_t(size_t operand)> largest_operand;
  int64_t workspace_bytes = 0;  ///< bound on ConvPlan::scratch_bytes

  /// Whether x and y are float32 with dense images, the epilogue has no other output and nothing is scaled.
  bool has_plain_tensors() const;

  /// Whether x, y or an operand is scaled; of x and y the other is, too, or float32.
  bool is_scaled() const;

  /// Of such; with one image dense, as nothing lies a stride away.
  ConvStrides strides() const;

  /// Whether anything follows the convolution.
  bool has_epilogue() const { return epilogue.num_steps > 1; }
};

/// Memory of one call, on the plan's device; tensors lie as the problem says.
struct ConvTensors {
  const void* x = nullptr;       ///< [N,C,H,W]
  const float* w = nullptr;      ///< [K,C/groups,R,S], dense
  const void* packed = nullptr;  ///< ConvPlan::pack(), 256-byte aligned
  std::vector<void*> operands;   ///< the epilogue's
  void* y = nullptr;             ///< [N,K,P,Q]; overlaps neither x nor an operand
  void* sum = nullptr;           ///< likewise: the problem's second output
  void* scratch = nullptr;       ///< ConvPlan::scratch_bytes, 256-byte aligned
  ImageRange* ranges = nullptr;  ///< the session's, of scaled tensors
  ThreadPool* pool = nullptr;    ///< on the CPU: its threads; null is the calling one

  const float* x_floats() const { return static_cast<const float*>(x); }
  float* y_floats() const { return static_cast<float*>(y); }
};

/// How one convolution runs: made by a family, shared by all sessions.
class ConvPlan {
 public:
  virtual ~ConvPlan() = default;

  /// The problem's weights as the kernel reads them: ConvTensors::packed.
  virtual std::vector<std::byte> pack(std::span<const float> /*weights*/) const { return {}; }

  /// Enqueues on the context's stream (null: runs on the CPU).
  virtual void enqueue(const Context* context, const ConvTensors& tensors) const = 0;

  std::string words;          ///< what runs and why, for logs and describe()
  int64_t scratch_bytes = 0;  ///< memory while it runs
  std::string packing;        ///< all that pack() depends on besides the weights; empty: it makes nothing
  bool uses_cublas = false;
  bool runs_epilogue = false;  ///< otherwise the node adds an elementwise pass over y where it has one
  double predicted_us = 0;     ///< of the whole node, that pass included: comparable between families
};

/// Plans the problem for `device` (null: the CPU); null, with the reason, where the family does not cover it.
using MakeConvPlan = std::unique_ptr<ConvPlan>(const ConvProblem& problem, const DeviceInfo* device,
                                               std::string* why_not);

struct ConvFamily {
  const char* name;
  bool on_gpu;
  MakeConvPlan* make;         ///< null: not in this build
  bool takes_pixels = false;  ///< asked, too, where tensors have 16 bits or their channels innermost
  bool takes_scaled = false;  ///< and where they are scaled
};

/// All families, the most general ones last.
std::span<const ConvFamily> conv_families();

/// The plan predicted to be fastest on `device` (null: the CPU); of equals the first in the list. A `family`
/// that is named is taken where it covers the problem, elsewhere the last in the list that does, with the
/// reason in `words`. Null, with the reasons in `why_not` if given, where tensors are not plain and no family (not
/// the named one) takes them as they lie. Error(invalid_argument) when `family` is unknown, no plan keeps to
/// `workspace_bytes`, or images of y would overlap.
std::unique_ptr<ConvPlan> plan_conv(const ConvProblem& problem, const DeviceInfo* device,
                                    std::string_view family, std::string* why_not = nullptr);

/// Error(invalid_argument), listing the families, unless `family` is one of them or "".
void require_conv_family(std::string_view family);

/// Microseconds of the elementwise pass that must follow a plan which does not run the problem's epilogue.
double conv_pass_us(const ConvProblem& problem);

}  // namespace solder
