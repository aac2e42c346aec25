// compile(), and the same for another batch size: passes, then plan_model().

#include "graph/model_data.h"
#include "graph/passes/passes.h"
#include "graph/require_weights.h"
#include "ops/conv/kernels.h"
#include "runtime/check.h"
#include "runtime/float_environment.h"

namespace solder {
namespace {

// The passes that change what is computed; plan_model() has those that say where.
Graph run_passes(const Graph& graph, const CompileOptions& options, Constants* constants) {
  const bool fuses = options.fuse;
  Graph result = remove_dead(graph);
  if (fuses) result = fold_constants(result, options, constants);
  result = lower_batch_norm(result, fuses, constants);
  result = widen(result, fuses, constants);
  return round_weights(result, options.math, constants);
}

}  // namespace

Model compile(const Graph& graph, const TensorMap& weights, const CompileOptions& options) try {
  const DefaultFloatEnvironment environment;  // weights are converted, and ranges worked out
  SOLDER_REQUIRE(!graph.outputs().empty(), invalid_argument, "compile: the graph has no output");
  SOLDER_REQUIRE(options.workspace_bytes >= 0, invalid_argument, "compile: workspace_bytes is ",
                 options.workspace_bytes, "; it must not be negative");
  require_conv_family(options.conv);
  if (options.device.is_cuda()) Device::cuda(options.device.index);
  verify(graph);
  const int num_threads = num_cpu_threads(options.threads);
  require_weights(graph, weights);
  Constants constants(graph, weights);
  auto core = std::make_shared<ModelCore>();
  core->options = options;
  if (!options.device.is_cuda()) core->pool = std::make_unique<ThreadPool>(num_threads);
  core->graph = run_passes(graph, options, &constants);
  const Model model(plan_model(core, core->graph, &constants));
  core->options.progress = nullptr;  // it is the caller's
  return model;
}
SOLDER_HOST_MEMORY("compile()")

Model Model::batch(int64_t n) const try {
  const DefaultFloatEnvironment environment;
  const std::shared_ptr<ModelCore>& core = data().core;
  return Model(plan_model(core, rebatch(core->graph, n), nullptr));
}
SOLDER_HOST_MEMORY("batch()")

}  // namespace solder
