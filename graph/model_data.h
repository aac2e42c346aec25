#pragma once
// What a Model holds. Made by compile() and batch(), read by sessions.

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "graph/model.h"
#include "graph/nodes/node_def.h"
#include "graph/passes/constants.h"
#include "graph/value_view.h"
#include "ops/elementwise/generated.h"
#include "runtime/parallel.h"

namespace solder {

/// What is the same for all batch sizes of a model: made once by compile(), and added to by batch().
struct ModelCore {
  Graph graph;  ///< as batch() starts from it: constants are folded, nothing is fused
  CompileOptions options;
  std::unique_ptr<ThreadPool> pool;  ///< the CPU's; one session at a time uses it, others run alone meanwhile
  std::shared_ptr<void> parameter_memory;
  std::unordered_map<std::string, Tensor> parameters;  ///< on the device, by name
  int64_t parameters_bytes = 0;

  struct Shared {
    std::weak_ptr<void> memory;  ///< owned by the models that read it
    int64_t num_bytes = 0;
  };
  std::mutex mutex;  ///< held while a batch size is planned, for what follows
  ElementwiseKernels kernels;
  std::unordered_map<std::string, std::vector<uint32_t>> largest;  ///< largest_weights() by the weights' name
  std::unordered_map<std::string, Shared> constants;  ///< of nodes, on the device, by key and parameters
};

struct ModelData {
  std::shared_ptr<ModelCore> core;
  Graph graph;                                 ///< after the passes
  std::vector<std::unique_ptr<NodeRun>> runs;  ///< by node; null where nothing runs
  std::vector<NodePlan> plans;                 ///< by node
  ValueViews views;                            ///< by node and output
  MemoryPlan memory;
  int64_t cublas_workspace_bytes = 0;
  std::vector<void*> weights;  ///< on the device, by node: a parameter, or its constants; null: neither
  std::vector<std::shared_ptr<void>> constants;  ///< owns those of nodes
  int64_t weights_bytes = 0;
  std::map<std::string, Value> inputs, outputs;

  const ValueView& view(Value value) const { return at(views, value); }
  /// Input `i` of `node` as that reads it, without an address.
  TensorView input_view(const Node& node, size_t i) const {
    TensorView result = view(node.inputs[i]).view;
    const size_t num_own = node.num_own_inputs();
    if (i >= num_own) view_as(result, node.epilogue.operand_shapes[i - num_own], &result);
    return result;
  }
  const CompileOptions& options() const { return core->options; }
};

/// The model of `graph`, which is the core's or another batch of it: what is left of compile() once constants are
/// folded. They come from `constants`, or with null from the device, where the first call has put them.
std::shared_ptr<const ModelData> plan_model(std::shared_ptr<ModelCore> core, const Graph& graph,
                                            const Constants* constants);

}  // namespace solder
