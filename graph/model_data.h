#pragma once
// What a Model holds. Made by compile(), read by sessions.

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "graph/model.h"
#include "graph/nodes/node_def.h"
#include "graph/value_view.h"
#include "runtime/parallel.h"

namespace solder {

struct ModelData {
  Graph graph;  ///< after the passes
  CompileOptions options;
  std::vector<std::unique_ptr<NodeRun>> runs;  ///< by node; null where nothing runs
  std::vector<NodePlan> plans;                 ///< by node
  ValueViews views;                            ///< by node and output
  MemoryPlan memory;
  int64_t cublas_workspace_bytes = 0;
  std::shared_ptr<void> weights;  ///< parameters and the nodes' constants, on the device
  int64_t weights_bytes = 0;
  std::vector<int64_t> weight_offsets;  ///< by node: a parameter's, or its constants'; -1: none
  std::unordered_map<std::string, Value> inputs, outputs;
  std::unique_ptr<ThreadPool> pool;  ///< the CPU's; one session at a time uses it, others run alone meanwhile

  const ValueView& view(Value value) const {
    return views[static_cast<size_t>(value.node)][static_cast<size_t>(value.output)];
  }
  void* weight(size_t node) const { return static_cast<char*>(weights.get()) + weight_offsets[node]; }
};

}  // namespace solder
