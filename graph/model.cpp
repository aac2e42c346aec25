#include "graph/model.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "graph/executor.h"
#include "graph/passes/fuse.h"
#include "graph/passes/verify.h"
#include "runtime/check.h"
#include "runtime/context.h"
#include "runtime/divide.h"
#include "runtime/memory.h"

namespace solder {

struct Model::Impl {
  Graph graph;
  CompileOptions options;
  std::vector<NodePlan> nodes;
  MemoryPlan memory;
  int64_t cublas_workspace_bytes = 0;
  std::shared_ptr<void> weights;
  int64_t weights_bytes = 0;
  std::vector<int64_t> weight_offsets;  // by node: a parameter's, or what NodePlan::packed was; -1: none

  void* weight(size_t node) const { return static_cast<char*>(weights.get()) + weight_offsets[node]; }
};

namespace {

// SOLDER_LOG is a comma-separated list of topics.
bool log_wants(std::string_view topic) {
  const char* value = std::getenv("SOLDER_LOG");
  std::string_view rest = value != nullptr ? value : "";
  while (!rest.empty()) {
    const size_t comma = rest.find(',');
    if (rest.substr(0, comma) == topic) return true;
    rest = comma == std::string_view::npos ? "" : rest.substr(comma + 1);
  }
  return false;
}

void log_paths(const Graph& graph, const std::vector<NodePlan>& plans) {
  const bool convs = log_wants("conv"), passes = log_wants("elementwise");
  for (size_t i = 0; i < plans.size(); ++i) {
    const Node& node = graph.nodes()[i];
    std::string line;
    if (convs && node.kind == NodeKind::conv2d)
      line = str("solder conv: ", node.name, ": ", to_string(node.conv), ": ", plans[i].path, "\n");
    if (passes && node.kind == NodeKind::elementwise)
      line = str("solder elementwise: ", node.name, ": ", plans[i].path, "\n");
    std::fputs(line.c_str(), stderr);
  }
}

// Error unless `tensor` is what `what` declares.
void require_type(const std::string& what, const Tensor& tensor, const TensorType& declared) {
  SOLDER_REQUIRE(tensor.shape() == declared.shape && tensor.dtype() == declared.dtype, shape_mismatch, what,
                 " is ", to_string(TensorType{tensor.shape(), tensor.dtype()}), "; the graph declares ",
                 to_string(declared));
}

// The tensor given for parameter `node`, checked.
const Tensor& find_weight(const TensorMap& weights, const Node& node) {
  const auto found = weights.find(node.name);
  SOLDER_REQUIRE(found != weights.end(), invalid_argument, "compile: no weight \"", node.name,
                 "\" was given; the graph declares it as ", to_string(node.outputs[0]));
  require_type(str("compile: weight \"", node.name, "\""), found->second, node.outputs[0]);
  return found->second;
}

void plan_nodes(const TensorMap& weights, Model::Impl& model) {
  const CompileOptions& options = model.options;
  PlanOptions plan_options;
  plan_options.device = options.device;
  plan_options.math = options.math;
  plan_options.conv = options.conv;
  int64_t cublas_bytes = 0;
  if (options.device.is_cuda()) {
    plan_options.info = device_info(options.device);
    cublas_bytes = std::min(Context::kDefaultCublasWorkspaceBytes, options.workspace_bytes / 4);
  }
  plan_options.workspace_bytes = options.workspace_bytes - cublas_bytes;
  for (const Node& node : model.graph.nodes()) {
    Tensor w;  // keeps a conv2d's weights on the host while they are packed
    if (node.kind == NodeKind::conv2d) {
      const Node& source = model.graph.nodes()[static_cast<size_t>(node.inputs[1].node)];
      if (source.kind == NodeKind::parameter) w = find_weight(weights, source).to(Device::cpu());
    }
    model.nodes.push_back(plan_node(model.graph, node, plan_options, w.floats()));
    if (options.device.is_cuda() && model.nodes.back().uses_cublas)
      model.cublas_workspace_bytes = cublas_bytes;
  }
}

void place_weights(const TensorMap& weights, Model::Impl& model) {
  const auto& nodes = model.graph.nodes();
  model.weight_offsets.assign(nodes.size(), -1);
  const auto place = [&](size_t node, int64_t bytes) {
    model.weight_offsets[node] = model.weights_bytes;
    model.weights_bytes += round_up(bytes, kArenaAlignment);
  };
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i].kind == NodeKind::parameter) place(i, find_weight(weights, nodes[i]).num_bytes());
    if (!model.nodes[i].packed.empty()) place(i, static_cast<int64_t>(model.nodes[i].packed.size()));
  }
  const Device device = model.options.device;
  model.weights = allocate(device, model.weights_bytes);
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i].kind == NodeKind::parameter) {
      const Tensor& tensor = weights.at(nodes[i].name);
      copy(model.weight(i), device, tensor.data(), tensor.device(), tensor.num_bytes());
    } else if (!model.nodes[i].packed.empty()) {
      std::vector<std::byte>& packed = model.nodes[i].packed;
      copy(model.weight(i), device, packed.data(), Device::cpu(), static_cast<int64_t>(packed.size()));
      packed = {};
    }
  }
}

}  // namespace

Model compile(const Graph& graph, const TensorMap& weights, const CompileOptions& options) try {
  SOLDER_REQUIRE(!graph.outputs().empty(), invalid_argument, "compile: the graph has no output");
  SOLDER_REQUIRE(options.workspace_bytes >= 0, invalid_argument, "compile: workspace_bytes is ",
                 options.workspace_bytes, "; it must not be negative");
  require_conv_family(options.conv);
  if (options.device.is_cuda()) Device::cuda(options.device.index);
  auto model = std::make_shared<Model::Impl>();
  model->options = options;
  model->graph = remove_dead(graph);
  if (options.fuse) model->graph = fuse(model->graph);
  verify(model->graph);

  plan_nodes(weights, *model);
  model->memory = plan_memory(model->graph, model->nodes);
  place_weights(weights, *model);
  if (options.device.is_cuda())
    prepare_cuda(
        model->graph, options.device, [&](size_t i) { return model->weight(i); }, model->nodes);
  log_paths(model->graph, model->nodes);
  return Model(std::move(model));
}
SOLDER_HOST_MEMORY("compile()")

Session Model::session(void* stream) const { return Session(impl_, stream); }
const Graph& Model::graph() const { return impl_->graph; }
const MemoryPlan& Model::memory() const { return impl_->memory; }
const std::vector<NodePlan>& Model::nodes() const { return impl_->nodes; }
Device Model::device() const { return impl_->options.device; }
int64_t Model::weights_bytes() const { return impl_->weights_bytes; }
int64_t Model::session_bytes() const { return impl_->memory.arena_bytes() + impl_->cublas_workspace_bytes; }

std::string Model::describe() const try {
  std::string text =
      str("on ", to_string(device()), ", ", to_string(impl_->options.math), "\n", dump(graph()));
  for (size_t i = 0; i < nodes().size(); ++i)
    if (!nodes()[i].path.empty()) text += str("  ", graph().nodes()[i].name, ": ", nodes()[i].path, "\n");
  return text + dump(graph(), memory()) +
         str("  peak ", peak_bytes(), " B: weights ", weights_bytes(), " B + session ", session_bytes(),
             " B\n");
}
SOLDER_HOST_MEMORY("describe()")

struct Session::Impl {
  std::shared_ptr<const Model::Impl> model;
  std::unique_ptr<Executor> executor;
  char* arena = nullptr;
  std::vector<Executor::Launch> launches;
  std::vector<size_t> launch_nodes;  // launches[i] runs node launch_nodes[i]

  const Node& node(size_t i) const { return model->graph.nodes()[i]; }

  void* address(Value value) const {
    const size_t index = static_cast<size_t>(value.node);
    if (model->graph.nodes()[index].kind == NodeKind::parameter) return model->weight(index);
    const Placement& placement = model->memory.values[index][static_cast<size_t>(value.output)];
    return placement.offset_bytes < 0 ? nullptr : arena + placement.offset_bytes;
  }

  Tensor view(Value value) const {
    const TensorType& type = model->graph.type(value);
    return Tensor::view(address(value), type.shape, type.dtype, executor->device());
  }

  std::string input_names() const {
    std::string names;
    for (const Node& candidate : model->graph.nodes())
      if (candidate.kind == NodeKind::input) names += (names.empty() ? "" : ", ") + candidate.name;
    return names;
  }

  Value input(const std::string& name) const {
    for (size_t i = 0; i < model->graph.nodes().size(); ++i)
      if (node(i).kind == NodeKind::input && node(i).name == name) return {static_cast<int>(i), 0};
    fail(ErrorKind::invalid_argument,
         str("the graph has no input \"", name, "\"; its inputs: ", input_names()));
  }

  Value output(const std::string& name) const {
    std::string names;
    for (const auto& [other, value] : model->graph.outputs()) {
      if (other == name) return value;
      names += (names.empty() ? "" : ", ") + other;
    }
    fail(ErrorKind::invalid_argument, str("the graph has no output \"", name, "\"; its outputs: ", names));
  }

  void require_types(const TensorMap& inputs, const TensorMap& outputs) const {
    require_inputs(inputs);
    for (const auto& [name, tensor] : outputs)
      require_type(str("run: output \"", name, "\""), tensor, model->graph.type(output(name)));
  }

  void execute() const { executor->execute(launches, model->options.capture); }

  void enqueue(const TensorMap& inputs, const TensorMap& outputs) const {
    for (const auto& [name, tensor] : inputs) executor->upload(address(input(name)), tensor);
    execute();
    for (const auto& [name, tensor] : outputs) executor->download(tensor, address(output(name)));
  }

  void require_inputs(const TensorMap& inputs) const {
    for (const auto& [name, tensor] : inputs)
      require_type(str("run: input \"", name, "\""), tensor, model->graph.type(input(name)));
    for (const Node& candidate : model->graph.nodes()) {
      SOLDER_REQUIRE(candidate.kind != NodeKind::input || inputs.count(candidate.name) == 1, invalid_argument,
                     "run: input \"", candidate.name, "\" was not given; it is ",
                     to_string(candidate.outputs[0]));
    }
  }
};

Session::Session(std::shared_ptr<const Model::Impl> model, void* stream) try
    : impl_(std::make_unique<Impl>()) {
  Impl& self = *impl_;
  self.model = std::move(model);
  const Graph& graph = self.model->graph;
  const Device device = self.model->options.device;
  self.executor = device.is_cuda() ? make_cuda_executor(device, self.model->cublas_workspace_bytes, stream)
                                   : make_cpu_executor();
  const std::string what = str("a session (peak at node ", self.model->memory.peak_node, ")");
  self.arena =
      static_cast<char*>(self.executor->allocate_arena(self.model->memory.arena_bytes(), what.c_str()));

  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    const Node& node = graph.nodes()[i];
    NodeBuffers buffers;
    for (const Value& input : node.inputs) buffers.inputs.push_back(self.address(input));
    for (size_t output = 0; output < node.outputs.size(); ++output)
      buffers.outputs.push_back(self.address({static_cast<int>(i), static_cast<int>(output)}));
    if (node.kind != NodeKind::parameter && self.model->weight_offsets[i] >= 0)
      buffers.packed = self.model->weight(i);
    buffers.workspace = self.arena + self.model->memory.values_bytes;
    Executor::Launch launch =
        self.executor->bind(graph, node, self.model->nodes[i], self.model->options.math, buffers);
    if (!launch) continue;
    self.launches.push_back(std::move(launch));
    self.launch_nodes.push_back(i);
  }
}
SOLDER_HOST_MEMORY("session()")

Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;
Session::~Session() = default;

TensorMap Session::run(const TensorMap& inputs) try {
  impl_->require_inputs(inputs);
  TensorMap outputs;
  for (const auto& [name, value] : impl_->model->graph.outputs()) {
    const TensorType& type = impl_->model->graph.type(value);
    outputs[name] = Tensor::empty(type.shape, type.dtype);
  }
  run(inputs, outputs);
  return outputs;
}
SOLDER_HOST_MEMORY("run()")

void Session::run(const TensorMap& inputs, const TensorMap& outputs) try {
  impl_->require_types(inputs, outputs);
  try {
    impl_->enqueue(inputs, outputs);
    synchronize();
  } catch (...) {
    impl_->executor->drain();  // the caller may free the tensors now
    throw;
  }
}
SOLDER_HOST_MEMORY("run()")

void Session::enqueue(const TensorMap& inputs, const TensorMap& outputs) try {
  impl_->require_types(inputs, outputs);
  const Device device = impl_->executor->device();
  for (const TensorMap* tensors : {&inputs, &outputs})
    for (const auto& [name, tensor] : *tensors)
      SOLDER_REQUIRE(tensor.device() == device, invalid_argument, "enqueue: \"", name, "\" is on ",
                     to_string(tensor.device()), " and the model on ", to_string(device),
                     ": move it there, or call run()");
  impl_->enqueue(inputs, outputs);
}
SOLDER_HOST_MEMORY("enqueue()")

Tensor Session::input(const std::string& name) const try { return impl_->view(impl_->input(name)); }
SOLDER_HOST_MEMORY("input()")
Tensor Session::output(const std::string& name) const try { return impl_->view(impl_->output(name)); }
SOLDER_HOST_MEMORY("output()")
void Session::execute() try { impl_->execute(); }
SOLDER_HOST_MEMORY("execute()")
void Session::synchronize() { impl_->executor->synchronize(); }
Profile Session::profile(int iterations) try {
  SOLDER_REQUIRE(iterations >= 1, invalid_argument, "profile: ", iterations, " iterations; at least 1");
  const auto start = std::chrono::steady_clock::now();
  const Model::Impl& model = *impl_->model;
  const Device device = model.options.device;
  Profile profile{.copy_bytes_per_s = impl_->executor->copy_bytes_per_s()};
  if (device.is_cuda())
    profile.peak_flops_per_s = peak_flops_per_s(device_info(device), clock_hz(device), model.options.math);
  for (const size_t i : impl_->launch_nodes)
    profile.nodes.push_back(describe_work(model.graph, impl_->node(i), model.nodes[i].path));
  for (int run = -1; run < iterations; ++run) {
    const std::chrono::duration<double, std::milli> since = std::chrono::steady_clock::now() - start;
    const std::vector<double> marks = impl_->executor->execute_timed(impl_->launches, model.options.capture);
    for (size_t i = 0; run >= 0 && i < profile.nodes.size(); ++i)
      profile.nodes[i].spans.push_back({since.count() + marks[i], since.count() + marks[i + 1]});
  }
  return profile;
}
SOLDER_HOST_MEMORY("profile()")

void* Session::stream() const { return impl_->executor->stream(); }

}  // namespace solder
