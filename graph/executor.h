#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "graph/plan.h"
#include "ops/matmul/gemm.h"
#include "runtime/device.h"
#include "runtime/tensor.h"

namespace solder {

/// One node's memory in a session. Pointers are null for empty tensors.
struct NodeBuffers {
  std::vector<void*> inputs;
  std::vector<void*> outputs;
  const void* packed = nullptr;  ///< NodePlan::packed, on the device
  void* workspace = nullptr;
};

/// What a Session asks of its device; one per Session. Work is enqueued in order; on the CPU it runs at once.
class Executor {
 public:
  using Launch = std::function<void()>;

  virtual ~Executor() = default;

  virtual Device device() const = 0;

  /// The session's memory, `arena_bytes` of it, and nothing else of size: what the plan says is what is
  /// taken. Error(out_of_memory) naming `what`.
  virtual void* allocate_arena(int64_t arena_bytes, const char* what) = 0;

  /// The node as a call on fixed addresses: everything that can be decided once is decided here.
  virtual Launch bind(const Graph& graph, const Node& node, const NodePlan& plan, Math math,
                      const NodeBuffers& buffers) = 0;

  /// Enqueues copies between the arena and a tensor of any device.
  virtual void upload(void* to, const Tensor& from) = 0;
  virtual void download(const Tensor& to, const void* from) = 0;

  /// Runs the launches in order; with `capture` (and where the device has it) as one recorded graph that
  /// later calls replay.
  virtual void execute(const std::vector<Launch>& launches, bool capture) = 0;

  /// Runs the launches once, in the way execute() would, and waits. Launch i ran from result[i] to
  /// result[i + 1], in milliseconds since the first of them could start.
  virtual std::vector<double> execute_timed(const std::vector<Launch>& launches, bool capture) = 0;

  /// Bytes a second, read plus written, of a device copy much larger than the caches, measured now; 0 when
  /// that is not known (on the CPU, or too little free memory).
  virtual double copy_bytes_per_s() { return 0; }

  /// Waits for all that was enqueued; throws what it ran into.
  virtual void synchronize() = 0;

  /// Waits for all that was enqueued, whatever becomes of it: afterwards nothing reads or writes a caller's
  /// memory.
  virtual void drain() noexcept {}

  /// The CUDA stream work is enqueued on; null on the CPU.
  virtual void* stream() const { return nullptr; }
};

std::unique_ptr<Executor> make_cpu_executor();
/// Enqueues on `stream`, a cudaStream_t, or with null on one of its own. Error(unsupported) where
/// Device::cuda would throw.
std::unique_ptr<Executor> make_cuda_executor(Device device, int64_t cublas_workspace_bytes, void* stream);

/// What a node's plan depends on besides the node.
struct PlanOptions {
  Device device;
  DeviceInfo info;  ///< of a CUDA device
  Math math = Math::fp32;
  int64_t workspace_bytes = 0;  ///< bounds a node's scratch
  std::string conv;             ///< see CompileOptions
};

/// Decides how a node runs. `weights` are a conv2d's, empty when they are not known before the run.
NodePlan plan_node(const Graph& graph, const Node& node, const PlanOptions& options,
                   std::span<const float> weights);

/// The last step of compile() on a GPU: makes the kernels that were planned, one for all nodes with the same
/// text, says so in `path`, and fills the tables; `packed(i)` is where those of node i lie on the device.
void prepare_cuda(const Graph& graph, Device device, const std::function<void*(size_t)>& packed,
                  std::vector<NodePlan>& plans);

/// Whether a conv2d's program runs as a pass over its result.
inline bool needs_pass(const NodePlan& plan) {
  return !plan.conv->runs_epilogue && plan.program.num_steps > 1;
}

/// The memory of a conv2d.
ConvTensors conv_tensors(const Graph& graph, const Node& node, const NodeBuffers& buffers);

/// No memory yet: for what depends on types alone.
NodeBuffers unbound(const Node& node);

/// The operands of an elementwise or conv2d node's program, with the node's memory.
std::vector<TensorView> operands_of(const Graph& graph, const Node& node, const NodeBuffers& buffers);

/// The same, bound over the node's outputs; a conv2d's as a pass over its result.
ElementwiseArgs bind_region(const Graph& graph, const Node& node, const NodeBuffers& buffers);

/// A matmul node as one GEMM.
GemmShape gemm_of(const Graph& graph, const Node& node);

}  // namespace solder
