#include <chrono>

#include "graph/executor.h"
#include "graph/model_data.h"
#include "graph/passes/passes.h"
#include "runtime/check.h"
#include "runtime/context.h"

namespace solder {

struct SessionData {
  SessionData(std::shared_ptr<const ModelData> of_model, void* stream);

  char* address(Value value) const;
  TensorView view(Value value) const;
  Tensor tensor(Value value) const;
  void require_types(const TensorMap& inputs, const TensorMap& outputs) const;
  void execute() { executor->execute(launches, model->options().capture); }
  void enqueue(const TensorMap& inputs, const TensorMap& outputs);

  std::shared_ptr<const ModelData> model;
  std::unique_ptr<Executor> executor;
  char* arena = nullptr;
  std::vector<Launch> launches;
  std::vector<size_t> launch_nodes;  // launches[i] runs node launch_nodes[i]
};

namespace {

std::unique_ptr<Executor> make_executor(const ModelData& model, void* stream) {
  if constexpr (kWithCuda)
    if (model.options().device.is_cuda())
      return make_cuda_executor(model.options().device, model.cublas_workspace_bytes, stream);
  return make_cpu_executor();
}

// The value that `name` stands for among the graph's inputs or outputs, or an Error with those that there are.
Value find(const std::map<std::string, Value>& values, const std::string& name, const char* what) {
  const auto found = values.find(name);
  if (found != values.end()) return found->second;
  std::string names;
  for (const auto& [other, value] : values) names += (names.empty() ? "" : ", ") + other;
  fail(ErrorKind::invalid_argument,
       str("the graph has no ", what, " \"", name, "\"; its ", what, "s: ", names));
}

// Where all that is wrong with an input is that there is another number of images: what takes them.
std::string batch_hint(const ModelData& model, const std::string& input, const TensorType& given,
                       const TensorType& declared) {
  TensorType other = declared;
  if (given.shape.empty() || declared.shape.empty() || given.shape[0] <= 0) return {};
  other.shape[0] = given.shape[0];
  const Graph& graph = model.core->graph;
  for (const Node& node : graph.nodes())
    if (node.name == input && node.kind == NodeKind::input && node.outputs[0].shape[0] == batch_size(graph) &&
        other == given)
      return str("; model.batch(", given.shape[0], ") takes it");
  return {};
}

void require_type(const ModelData& model, const char* what, const std::string& name, const Tensor& tensor,
                  const TensorType& declared) {
  if (tensor.shape() == declared.shape && tensor.dtype() == declared.dtype) return;  // without an allocation
  const TensorType given{tensor.shape(), tensor.dtype()};
  fail(ErrorKind::shape_mismatch,
       str("run: ", what, " \"", name, "\" is ", to_string(given), "; the graph declares ",
           to_string(declared), batch_hint(model, name, given, declared)));
}

}  // namespace

SessionData::SessionData(std::shared_ptr<const ModelData> of_model, void* stream)
    : model(std::move(of_model)), executor(make_executor(*model, stream)) {
  const std::string what = str("a session (peak at node ", model->memory.peak_node, ")");
  const MemoryPlan& memory = model->memory;
  arena = static_cast<char*>(executor->allocate_arena(memory.arena_bytes(), what.c_str()));
  auto* ranges = reinterpret_cast<ImageRange*>(arena + memory.values_bytes + memory.workspace_bytes);
  bool is_cleared = false;
  for (size_t i = 0; i < model->runs.size(); ++i) {
    if (model->runs[i] == nullptr) continue;
    const Node& node = model->graph.nodes()[i];
    std::vector<TensorView> inputs, outputs;
    for (size_t input = 0; input < node.inputs.size(); ++input) {
      inputs.push_back(model->input_view(node, input));
      inputs.back().data = address(node.inputs[input]);
    }
    for (size_t output = 0; output < node.outputs.size(); ++output)
      outputs.push_back(view({static_cast<int>(i), static_cast<int>(output)}));
    Launch launch = model->runs[i]->bind({.inputs = inputs,
                                          .outputs = outputs,
                                          .constants = model->weights[i],
                                          .scratch = arena + memory.values_bytes,
                                          .ranges = ranges,
                                          .pool = model->core->pool.get()},
                                         executor->context());
    if (!launch) continue;
    if (!node.scaled.empty() && !is_cleared) {  // of all, before the first
      const auto clear = [this, ranges] { executor->clear(ranges, model->memory.ranges_bytes); };
      launch = in_order({clear, std::move(launch)});
      is_cleared = true;
    }
    launches.push_back(std::move(launch));
    launch_nodes.push_back(i);
  }
}

// Where the value's first element lies; null for an empty tensor.
char* SessionData::address(Value value) const {
  const ValueView& of = model->view(value);
  const size_t base = static_cast<size_t>(of.base.node);
  const int64_t offset_bytes = of.offset_elems * size_of(of.view.dtype);
  if (model->graph.nodes()[base].kind == NodeKind::parameter)
    return static_cast<char*>(model->weights[base]) + offset_bytes;
  const int64_t placed = model->memory.values[base][static_cast<size_t>(of.base.output)].offset_bytes;
  return placed < 0 ? nullptr : arena + placed + offset_bytes;
}

// The value in the session's memory.
TensorView SessionData::view(Value value) const {
  TensorView result = model->view(value).view;
  result.data = address(value);
  return result;
}

Tensor SessionData::tensor(Value value) const {
  const TensorView of = view(value);
  return Tensor::view(of.data, of.shape, of.dtype, model->options().device);
}

void SessionData::require_types(const TensorMap& inputs, const TensorMap& outputs) const {
  for (const auto& [name, tensor] : inputs)
    require_type(*model, "input", name, tensor, model->graph.type(find(model->inputs, name, "input")));
  for (const auto& [name, tensor] : outputs)
    require_type(*model, "output", name, tensor, model->graph.type(find(model->outputs, name, "output")));
  if (inputs.size() == model->inputs.size()) return;
  for (const Node& node : model->graph.nodes())
    SOLDER_REQUIRE(node.kind != NodeKind::input || inputs.count(node.name) == 1, invalid_argument,
                   "run: input \"", node.name, "\" was not given; it is ", to_string(node.outputs[0]));
}

void SessionData::enqueue(const TensorMap& inputs, const TensorMap& outputs) {
  for (const auto& [name, tensor] : inputs)
    executor->upload(address(model->inputs.find(name)->second), tensor);
  execute();
  for (const auto& [name, tensor] : outputs)
    executor->download(tensor, address(model->outputs.find(name)->second));
}

Session Model::session(void* stream) const try {
  data();
  return Session(std::make_unique<SessionData>(data_, stream));
}
SOLDER_HOST_MEMORY("session()")

Session::Session() noexcept = default;
Session::Session(std::unique_ptr<SessionData> data) noexcept : data_(std::move(data)) {}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;
Session::~Session() = default;

SessionData& Session::data() const {
  SOLDER_REQUIRE(data_ != nullptr, invalid_argument,
                 "this Session is empty: it was moved from, or not made by Model::session()");
  return *data_;
}

TensorMap Session::run(const TensorMap& inputs) try {
  const ModelData& model = *data().model;
  TensorMap outputs;
  for (const auto& [name, value] : model.graph.outputs()) {
    const TensorType& type = model.graph.type(value);
    outputs[name] = Tensor::empty(type.shape, type.dtype);
  }
  run(inputs, outputs);
  return outputs;
}
SOLDER_HOST_MEMORY("run()")

void Session::run(const TensorMap& inputs, const TensorMap& outputs) try {
  data().require_types(inputs, outputs);
  try {
    data().enqueue(inputs, outputs);
    synchronize();
  } catch (...) {
    data().executor->drain();  // the caller may free the tensors now
    throw;
  }
}
SOLDER_HOST_MEMORY("run()")

void Session::enqueue(const TensorMap& inputs, const TensorMap& outputs) try {
  data().require_types(inputs, outputs);
  const Device device = data().model->options().device;
  for (const TensorMap* tensors : {&inputs, &outputs})
    for (const auto& [name, tensor] : *tensors)
      SOLDER_REQUIRE(tensor.device() == device, invalid_argument, "enqueue: \"", name, "\" is on ",
                     to_string(tensor.device()), " and the model on ", to_string(device),
                     ": move it there, or call run()");
  data().enqueue(inputs, outputs);
}
SOLDER_HOST_MEMORY("enqueue()")

Tensor Session::input(const std::string& name) const try {
  return data().tensor(find(data().model->inputs, name, "input"));
}
SOLDER_HOST_MEMORY("input()")

Tensor Session::output(const std::string& name) const try {
  return data().tensor(find(data().model->outputs, name, "output"));
}
SOLDER_HOST_MEMORY("output()")

void Session::execute() try { data().execute(); }
SOLDER_HOST_MEMORY("execute()")

void Session::synchronize() { data().executor->synchronize(); }

void* Session::stream() const { return data().executor->stream(); }

Profile Session::profile(int iterations) try {
  SOLDER_REQUIRE(iterations >= 1, invalid_argument, "profile: ", iterations, " iterations; at least 1");
  const auto start = std::chrono::steady_clock::now();
  const ModelData& model = *data().model;
  const Device device = model.options().device;
  Profile profile{.copy_bytes_per_s = data().executor->copy_bytes_per_s()};
  if (device.is_cuda())
    profile.peak_flops_per_s = peak_flops_per_s(device_info(device), clock_hz(device), model.options().math);
  for (const size_t i : data().launch_nodes)
    profile.nodes.push_back(describe_work(model.graph, model.graph.nodes()[i], model.plans[i].path));
  for (int run = -1; run < iterations; ++run) {
    const std::chrono::duration<double, std::milli> since = std::chrono::steady_clock::now() - start;
    const std::vector<double> marks =
        data().executor->execute_timed(data().launches, model.options().capture);
    for (size_t i = 0; run >= 0 && i < profile.nodes.size(); ++i)
      profile.nodes[i].spans.push_back({since.count() + marks[i], since.count() + marks[i + 1]});
  }
  return profile;
}
SOLDER_HOST_MEMORY("profile()")

}  // namespace solder
