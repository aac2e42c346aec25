// compile(), from top to bottom: passes, plans, memory, weights, and what needs the device.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "graph/model_data.h"
#include "graph/passes/passes.h"
#include "graph/plan_memory.h"
#include "graph/require_weights.h"
#include "ops/conv/kernels.h"
#include "ops/elementwise/generated.h"
#include "runtime/check.h"
#include "runtime/context.h"
#include "runtime/divide.h"
#include "runtime/float_environment.h"
#include "runtime/memory.h"

namespace solder {
namespace {

// SOLDER_LOG is a comma-separated list of topics: kinds of nodes, or all.
bool log_wants(std::string_view topic) {
  const char* value = std::getenv("SOLDER_LOG");
  for (std::string_view rest = value != nullptr ? value : ""; !rest.empty();) {
    const size_t comma = std::min(rest.find(','), rest.size());
    const std::string_view asked = rest.substr(0, comma);
    if (asked == topic || asked == "all") return true;
    rest.remove_prefix(std::min(comma + 1, rest.size()));
  }
  return false;
}

// How each node runs, where SOLDER_LOG asks for it; and what it asks for that is no topic.
void log_plans(const ModelData& model) {
  const char* value = std::getenv("SOLDER_LOG");
  if (value == nullptr) return;
  std::string text, known = "all";
  std::vector<std::string_view> topics{"all"};
  for (const NodeDef* def : node_defs()) {
    if (def->plan == nullptr) continue;
    topics.push_back(def->name);
    known += str(", ", def->name);
  }
  for (std::string_view rest = value; !rest.empty();) {
    const size_t comma = std::min(rest.find(','), rest.size());
    const std::string_view asked = rest.substr(0, comma);
    if (!asked.empty() && std::find(topics.begin(), topics.end(), asked) == topics.end())
      text += str("solder: SOLDER_LOG has no topic \"", asked, "\"; its topics: ", known, "\n");
    rest.remove_prefix(std::min(comma + 1, rest.size()));
  }
  for (size_t i = 0; i < model.plans.size(); ++i) {
    const Node& node = model.graph.nodes()[i];
    if (model.plans[i].path.empty() || !log_wants(to_string(node.kind))) continue;
    text += str("solder ", to_string(node.kind), ": ", node.name, ":", describe(model.graph, node), ": ",
                model.plans[i].path, "\n");
  }
  std::fputs(text.c_str(), stderr);
}

PlanRequest request_of(const ModelData& model, int index, const Constants& weights) {
  const Node& node = model.graph.nodes()[static_cast<size_t>(index)];
  PlanRequest request{.node = node, .conv = model.options.conv};
  if (!is_16_bit(model.options.math))
    request.math = model.options.math;  // those have rounded what they round
  const size_t num_own = node.num_own_inputs();
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    const Value input = node.inputs[i];
    TensorView view = model.view(input).view;
    if (i >= num_own) view_as(view, node.epilogue.operand_shapes[i - num_own], &view);
    request.inputs.push_back(std::move(view));
    request.offsets.push_back(model.view(input).offset_elems);
  }
  for (int output = 0; output < static_cast<int>(node.outputs.size()); ++output)
    request.outputs.push_back(model.view({index, output}).view);
  for (int output = 0; output < static_cast<int>(node.outputs.size()); ++output)
    request.offsets.push_back(model.view({index, output}).offset_elems);
  request.lies_at = [&model, &node, index](size_t input, int64_t offset_elems) {
    const ValueView &from = model.view(node.inputs[input]), &to = model.view({index, 0});
    return from.base == to.base && from.offset_elems == to.offset_elems + offset_elems;
  };
  request.weight = [&](size_t input) {
    const Node& source = model.graph.nodes()[static_cast<size_t>(node.inputs[input].node)];
    return source.kind == NodeKind::parameter ? weights.at(source.name).to(Device::cpu()) : Tensor();
  };
  return request;
}

void plan_nodes(const Constants& weights, ModelData& model) {
  const CompileOptions& options = model.options;
  DeviceInfo info;
  int64_t cublas_bytes = 0;
  if (options.device.is_cuda()) {
    info = device_info(options.device);
    cublas_bytes = std::min(Context::kDefaultCublasWorkspaceBytes, options.workspace_bytes / 4);
  }
  for (int i = 0; i < static_cast<int>(model.graph.nodes().size()); ++i) {
    model.runs.emplace_back();
    const auto plan = node_def(model.graph.nodes()[static_cast<size_t>(i)].kind).plan;
    if (plan == nullptr) continue;
    PlanRequest request = request_of(model, i, weights);
    request.device = options.device.is_cuda() ? &info : nullptr;
    request.workspace_bytes = options.workspace_bytes - cublas_bytes;
    model.runs.back() = plan(request);
    if (model.runs.back()->uses_cublas) model.cublas_workspace_bytes = cublas_bytes;
  }
}

void place_weights(const Constants& weights, ModelData& model) {
  const auto& nodes = model.graph.nodes();
  model.weight_offsets.assign(nodes.size(), -1);
  struct Source {
    size_t node;
    const void* data;
    Device device;
    int64_t num_bytes;
  };
  std::vector<Source> sources;
  const auto place = [&](const Source& source) {
    model.weight_offsets[source.node] = model.weights_bytes;
    model.weights_bytes += round_up(source.num_bytes, kArenaAlignment);
    sources.push_back(source);
  };
  std::vector<bool> is_read(nodes.size());  // a parameter that passes have replaced is not
  for (const Node& node : nodes)
    for (const Value& input : node.inputs) is_read[static_cast<size_t>(input.node)] = true;
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i].kind == NodeKind::parameter) {
      if (!is_read[i]) continue;
      const Tensor& tensor = weights.at(nodes[i].name);
      place({i, tensor.data(), tensor.device(), tensor.num_bytes()});
    } else if (model.runs[i] != nullptr && !model.runs[i]->constants.empty()) {
      const std::vector<std::byte>& constants = model.runs[i]->constants;
      place({i, constants.data(), Device::cpu(), static_cast<int64_t>(constants.size())});
    }
  }
  model.weights = allocate(model.options.device, model.weights_bytes);
  for (const Source& source : sources)
    copy(model.weight(source.node), model.options.device, source.data, source.device, source.num_bytes);
  for (const auto& run : model.runs)
    if (run != nullptr) run->constants = {};
}

void prepare_nodes(ModelData& model) {
  if constexpr (kWithCuda) {
    const Context context(model.options.device);
    ElementwiseKernels kernels;
    for (size_t i = 0; i < model.runs.size(); ++i)
      if (model.runs[i] != nullptr)
        model.runs[i]->prepare(context, kernels, model.weight_offsets[i] >= 0 ? model.weight(i) : nullptr);
    context.synchronize();
  }
}

Graph run_passes(const Graph& graph, const CompileOptions& options, Constants* constants) {
  const bool fuses = options.fuse;
  Graph result = remove_dead(graph);
  if (fuses) result = fold_constants(result, options, constants);
  result = lower_batch_norm(result, fuses, constants);
  result = widen(result);
  if (fuses) result = fold_constants(result, options, constants);  // casts of weights
  result = add_copies(result);
  if (fuses) result = fuse(result, options.math);
  result = round_values(result, options.math, constants);
  verify(result);
  return result;
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
  auto model = std::make_shared<ModelData>();
  const int num_threads = num_cpu_threads(options.threads);
  if (!options.device.is_cuda()) model->pool = std::make_unique<ThreadPool>(num_threads);
  model->options = options;
  require_weights(graph, weights);
  Constants constants(graph, weights);
  model->graph = run_passes(graph, options, &constants);

  model->views = placed_value_views(model->graph);
  plan_nodes(constants, *model);
  model->memory = plan_memory(model->graph, model->views, model->runs);
  place_weights(constants, *model);
  if (options.device.is_cuda()) prepare_nodes(*model);

  for (const auto& run : model->runs) model->plans.push_back(run != nullptr ? run->plan : NodePlan());
  for (size_t i = 0; i < model->graph.nodes().size(); ++i)
    if (model->graph.nodes()[i].kind == NodeKind::input)
      model->inputs.emplace(model->graph.nodes()[i].name, Value{static_cast<int>(i), 0});
  for (const auto& [name, value] : model->graph.outputs()) model->outputs.emplace(name, value);
  log_plans(*model);
  return Model(std::move(model));
}
SOLDER_HOST_MEMORY("compile()")

}  // namespace solder
