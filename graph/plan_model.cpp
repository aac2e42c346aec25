// How a graph's nodes run, and where what they read and write lies: of compile() and of batch().

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "graph/model_data.h"
#include "graph/passes/passes.h"
#include "graph/plan_memory.h"
#include "runtime/check.h"
#include "runtime/context.h"
#include "runtime/divide.h"
#include "runtime/memory.h"

namespace solder {
namespace {

// How each node runs, where SOLDER_LOG asks for it, a comma-separated list of topics: kinds of nodes, or all. And what it
// asks for that is no topic.
void log_plans(const ModelData& model) {
  const char* value = std::getenv("SOLDER_LOG");
  if (value == nullptr) return;
  std::string text, known = "all";
  std::vector<std::string_view> topics{"all"}, asked;
  for (const NodeDef* def : node_defs()) {
    if (def->plan == nullptr) continue;
    topics.push_back(def->name);
    known += str(", ", def->name);
  }
  const auto is_in = [](const std::vector<std::string_view>& list, std::string_view topic) {
    return std::ranges::find(list, topic) != list.end();
  };
  for (std::string_view rest = value; !rest.empty();) {
    const size_t comma = std::min(rest.find(','), rest.size());
    asked.push_back(rest.substr(0, comma));
    if (comma > 0 && !is_in(topics, asked.back()))
      text += str("solder: SOLDER_LOG has no topic \"", asked.back(), "\"; its topics: ", known, "\n");
    rest.remove_prefix(std::min(comma + 1, rest.size()));
  }
  for (size_t i = 0; i < model.plans.size(); ++i) {
    const Node& node = model.graph.nodes()[i];
    if (model.plans[i].path.empty() || !(is_in(asked, "all") || is_in(asked, to_string(node.kind)))) continue;
    text += str("solder ", to_string(node.kind), ": ", node.name, ":", describe(model.graph, node), ": ",
                model.plans[i].path, "\n");
  }
  std::fputs(text.c_str(), stderr);
}

// A parameter that is the weights of a convolution; `constants` null: it is on the device alone.
ConvWeights weights_of(ModelCore& core, const std::string& name, const Constants* constants) {
  const auto values = [&core, name, constants] {
    return (constants != nullptr ? constants->at(name) : core.parameters.at(name)).to(Device::cpu());
  };
  return {values, [&core, name, values]() -> std::span<const uint32_t> {
            const auto known = core.largest.find(name);
            if (known != core.largest.end()) return known->second;
            const Tensor weights = values();
            const int64_t channels = weights.shape().empty() ? 1 : weights.shape()[0];
            return core.largest[name] = largest_weights(weights.floats(), channels);
          }};
}

// Of a parameter with elements; false of any other node.
ConvWeights weights_of(ModelCore& core, const Node& source, const Constants* constants) {
  const bool is_known = source.kind == NodeKind::parameter && num_elements(source.outputs[0].shape) > 0;
  return is_known ? weights_of(core, source.name, constants) : ConvWeights();
}

PlanRequest request_of(const ModelData& model, int index, const Constants* constants) {
  const Node& node = model.graph.nodes()[static_cast<size_t>(index)];
  PlanRequest request{.node = node, .conv = model.options().conv};
  if (!is_16_bit(model.options().math))
    request.math = model.options().math;  // those have rounded what they round
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    request.inputs.push_back(model.input_view(node, i));
    request.offsets.push_back(model.view(node.inputs[i]).offset_elems);
    request.scaled_inputs.push_back(model.graph.maker(node.inputs[i]).scaled);
  }
  for (int output = 0; output < static_cast<int>(node.outputs.size()); ++output) {
    request.outputs.push_back(model.view({index, output}).view);
    request.offsets.push_back(model.view({index, output}).offset_elems);
  }
  request.lies_at = [&model, &node, index](size_t input, int64_t offset_elems) {
    const ValueView &from = model.view(node.inputs[input]), &to = model.view({index, 0});
    return from.base == to.base && from.offset_elems == to.offset_elems + offset_elems;
  };
  request.weight = [&model, &node, constants](size_t input) {
    return weights_of(*model.core, model.graph.maker(node.inputs[input]), constants);
  };
  return request;
}

// Of the workspace, on a GPU.
int64_t cublas_bytes_of(const CompileOptions& options) {
  return std::min(Context::kDefaultCublasWorkspaceBytes, options.workspace_bytes / 4);
}

// The passes that ask what the kernels of a GPU (null: the CPU) take, and those that say where values lie.
Graph laid_out(const Graph& graph, const DeviceInfo* device, const Constants* constants, ModelCore& core) {
  const CompileOptions& options = core.options;
  if (device == nullptr) return add_copies(choose_layouts(graph));
  const NodePlanning planning{
      .device = device,
      .conv = options.conv,
      .workspace_bytes = options.workspace_bytes - cublas_bytes_of(options),
      .weights = [&](const Node& source) { return weights_of(core, source, constants); }};
  Graph result = options.math == Math::tf32 ? scale_values(graph, planning) : graph;
  result = choose_layouts(result);
  if (options.fuse) result = fuse_sums(result, planning);
  return add_copies(result);
}

void plan_nodes(const DeviceInfo* device, const Constants* constants, ModelData& model) {
  const CompileOptions& options = model.options();
  const int64_t cublas_bytes = device != nullptr ? cublas_bytes_of(options) : 0;
  for (int i = 0; i < static_cast<int>(model.graph.nodes().size()); ++i) {
    model.runs.emplace_back();
    const Node& node = model.graph.nodes()[static_cast<size_t>(i)];
    const auto plan = node_def(node.kind).plan;
    if (plan == nullptr) continue;
    PlanRequest request = request_of(model, i, constants);
    request.device = device;
    request.workspace_bytes = options.workspace_bytes - cublas_bytes;
    try {
      model.runs.back() = plan(request);
    } catch (const Error& error) {  // of what knows no node
      if (std::string_view(error.message()).starts_with(node.name + ":")) throw;
      fail(error.kind(), str(node.name, ": ", error.message()));
    }
    if (model.runs.back()->uses_cublas) model.cublas_workspace_bytes = cublas_bytes;
  }
}

// What a run's graph reads of the parameters, to the device.
void place_parameters(const Graph& graph, const Constants& constants, ModelCore& core) {
  std::vector<bool> is_read(graph.nodes().size());  // a parameter that passes have replaced is not
  for (const Node& node : graph.nodes())
    for (const Value& input : node.inputs) is_read[static_cast<size_t>(input.node)] = true;
  std::vector<const Node*> placed;
  for (size_t i = 0; i < is_read.size(); ++i) {
    const Node& node = graph.nodes()[i];
    if (node.kind != NodeKind::parameter || !is_read[i]) continue;
    placed.push_back(&node);
    core.parameters_bytes += round_up(constants.at(node.name).num_bytes(), kArenaAlignment);
  }
  const Device device = core.options.device;
  core.parameter_memory = allocate(device, core.parameters_bytes, "a model's weights");
  char* to = static_cast<char*>(core.parameter_memory.get());
  for (const Node* node : placed) {
    const Tensor& from = constants.at(node->name);
    copy(to, device, from.data(), from.device(), from.num_bytes());
    core.parameters.emplace(
        node->name, Tensor::view(from.num_bytes() > 0 ? to : nullptr, from.shape(), from.dtype(), device));
    to += round_up(from.num_bytes(), kArenaAlignment);
  }
}

// Under what the constants of node `index` are shared: what they are, and of which parameters.
std::string key_of(const ModelData& model, size_t index) {
  std::string key = model.runs[index]->constants.key;
  const Node& node = model.graph.nodes()[index];
  for (size_t input = 0; !key.empty() && input < node.num_own_inputs(); ++input) {
    const Node& source = model.graph.maker(node.inputs[input]);
    if (source.kind == NodeKind::parameter) key += str(" of ", source.name);
  }
  return key;
}

// The nodes' constants on the device: those that another batch size has there, and the others in one allocation.
// Returns by node those that prepare() must complete, once each.
std::vector<void*> place_constants(ModelData& model) {
  struct Placed {
    std::shared_ptr<void> memory;
    int64_t num_bytes = 0;
    std::vector<std::byte> made;
    size_t first_node = 0;
  };
  ModelCore& core = *model.core;
  std::unordered_map<std::string, Placed> all;
  std::vector<Placed*> by_node(model.runs.size());
  int64_t new_bytes = 0;
  for (size_t i = 0; i < by_node.size(); ++i) {
    const std::string key = model.runs[i] != nullptr ? key_of(model, i) : "";
    if (key.empty()) continue;
    const auto [entry, is_first] = all.try_emplace(key);
    Placed& placed = *(by_node[i] = &entry->second);
    if (!is_first) continue;
    placed.first_node = i;
    if (const auto shared = core.constants.find(key); shared != core.constants.end())
      placed.memory = shared->second.memory.lock(), placed.num_bytes = shared->second.num_bytes;
    if (placed.memory == nullptr) {
      placed.made = model.runs[i]->constants.make();
      placed.num_bytes = static_cast<int64_t>(placed.made.size());
      new_bytes += round_up(placed.num_bytes, kArenaAlignment);
    }
    model.weights_bytes += round_up(placed.num_bytes, kArenaAlignment);
  }
  std::erase_if(core.constants, [](const auto& entry) { return entry.second.memory.expired(); });

  const std::shared_ptr<void> memory = allocate(core.options.device, new_bytes, "a model's constants");
  std::vector<void*> incomplete(by_node.size());
  int64_t offset_bytes = 0;
  for (auto& [key, placed] : all) {
    if (placed.memory == nullptr) {
      placed.memory = {memory, static_cast<char*>(memory.get()) + offset_bytes};
      offset_bytes += round_up(placed.num_bytes, kArenaAlignment);
      copy(placed.memory.get(), core.options.device, placed.made.data(), Device::cpu(), placed.num_bytes);
      core.constants[key] = {placed.memory, placed.num_bytes};
      incomplete[placed.first_node] = placed.memory.get();
    }
    model.constants.push_back(placed.memory);
  }
  for (size_t i = 0; i < by_node.size(); ++i)
    if (by_node[i] != nullptr) model.weights[i] = by_node[i]->memory.get();
  for (const auto& run : model.runs)
    if (run != nullptr) run->constants = {};
  return incomplete;
}

void prepare_nodes(const std::vector<void*>& incomplete, ModelData& model) {
  if constexpr (kWithCuda) {
    const Context context(model.options().device);
    const auto& progress = model.options().progress;
    for (size_t i = 0; i < model.runs.size(); ++i) {
      if (progress) progress(static_cast<int>(i), static_cast<int>(model.runs.size()));
      if (model.runs[i] != nullptr) model.runs[i]->prepare(context, model.core->kernels, incomplete[i]);
    }
    context.synchronize();
  }
}

}  // namespace

std::shared_ptr<const ModelData> plan_model(std::shared_ptr<ModelCore> core, const Graph& graph,
                                            const Constants* constants) {
  const std::lock_guard lock(core->mutex);
  auto model = std::make_shared<ModelData>();
  model->core = core;
  model->graph = core->options.fuse ? fuse(graph, core->options.math) : graph;
  model->graph = round_values(model->graph, core->options.math);
  std::optional<DeviceInfo> info;
  if (core->options.device.is_cuda()) info = device_info(core->options.device);
  const DeviceInfo* const device = info ? &*info : nullptr;
  model->graph = laid_out(model->graph, device, constants, *core);
  verify(model->graph);
  model->views = placed_value_views(model->graph);
  plan_nodes(device, constants, *model);
  model->memory = plan_memory(model->graph, model->views, model->runs);
  model->memory.ranges_bytes = num_scaled_images(model->graph) * static_cast<int64_t>(sizeof(ImageRange));

  if (constants != nullptr) place_parameters(model->graph, *constants, *core);
  const std::vector<Node>& nodes = model->graph.nodes();
  model->weights.resize(nodes.size());
  model->weights_bytes = core->parameters_bytes;
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i].kind == NodeKind::input) model->inputs.emplace(nodes[i].name, Value{static_cast<int>(i), 0});
    if (nodes[i].kind != NodeKind::parameter) continue;
    const auto found = core->parameters.find(nodes[i].name);
    if (found != core->parameters.end()) model->weights[i] = found->second.data();
  }
  for (const auto& [name, value] : model->graph.outputs()) model->outputs.emplace(name, value);
  const std::vector<void*> incomplete = place_constants(*model);
  if (core->options.device.is_cuda()) prepare_nodes(incomplete, *model);

  for (const auto& run : model->runs) model->plans.push_back(run != nullptr ? run->plan : NodePlan());
  log_plans(*model);
  return model;
}

}  // namespace solder
