#include "served_model.h"

#include <cstring>
#include <filesystem>

#include "../solder_run/files.h"
#include "../solder_run/text_graph.h"

namespace solder_triton {
namespace {

using solder::Shape;
using solder::Tensor;
using solder::TensorMap;
using solder_run::ShapeOverrides;

void load(const std::string& folder, const ShapeOverrides& shapes, bool override_fixed, solder::Graph* graph,
          TensorMap* weights) {
  const std::string onnx = folder + "/model.onnx", text = folder + "/model.txt",
                    safetensors = folder + "/model.safetensors";
  if (std::filesystem::exists(onnx)) {
    solder::OnnxNet net = solder::import_onnx(onnx, {.shapes = shapes, .override_fixed = override_fixed});
    *graph = std::move(net.graph);
    *weights = std::move(net.weights);
    return;
  }
  *graph =
      solder_run::parse_graph(solder_run::read_text(text, "; there is no model.onnx either"), text, shapes);
  if (std::filesystem::exists(safetensors)) *weights = solder::load_safetensors(safetensors);
}

}  // namespace

int64_t next_batch(std::span<const int64_t> batches, int64_t rows) {
  const auto holds = std::lower_bound(batches.begin(), batches.end(), rows);
  const bool is_taken = holds == batches.begin() || (holds != batches.end() && (*holds - rows) * 4 <= *holds);
  return is_taken ? *holds : *std::prev(holds);
}

ServedModel::ServedModel(const std::string& folder, ModelConfig config) : config_(std::move(config)) {
  load(folder, config_.shapes, false, &graph_, &weights_);
  if (config_.inputs.empty() && config_.outputs.empty())
    fill_ports(graph_, &config_);
  else
    check_ports(graph_, config_);
  if (config_.max_batch == 0) return;
  // From the largest batch: in a graph of batch 1, extents of 1 that are the batch look like those that are not.
  ShapeOverrides shapes;
  for (const solder::Node& node : graph_.nodes())
    if (node.kind == solder::NodeKind::input) {
      shapes[node.name] = node.outputs[0].shape;
      shapes[node.name][0] = config_.batches.back();
    }
  load(folder, shapes, true, &graph_, &weights_);
}

const std::map<int64_t, solder::Model>& ServedModel::on(solder::Device device) {
  const std::lock_guard lock(mutex_);
  std::map<int64_t, solder::Model>& models = compiled_[to_string(device)];
  if (!models.empty()) return models;
  solder::CompileOptions options = config_.compile;
  options.device = device;
  const solder::Model compiled = solder::compile(graph_, weights_, options);
  std::map<int64_t, solder::Model> made{{config_.max_batch > 0 ? config_.batches.back() : 0, compiled}};
  for (const int64_t n : config_.batches)
    if (!made.contains(n)) made.emplace(n, compiled.batch(n));
  return models = std::move(made);
}

Instance::Instance(ServedModel& model, solder::Device device) : model_(model) {
  const auto& models = model.on(device);
  for (const auto& [batch, compiled] : models) sessions_.emplace(batch, compiled.session());
  for (int64_t rows = 1; rows <= config().max_batch; ++rows) {
    int64_t end = 0;
    while (end < rows) end += next_batch(config().batches, rows - end);
    room_ = std::max(room_, end);
  }
  const solder::Graph& graph = models.begin()->second.graph();
  const auto make_room = [&](const std::string& name, const solder::TensorType& type) {
    Shape shape = type.shape;
    if (config().max_batch > 0) shape[0] = room_;
    Tensor whole = Tensor::empty(shape, type.dtype);
    std::memset(whole.data(), 0, static_cast<size_t>(whole.num_bytes()));
    return std::pair(name, whole);
  };
  for (const solder::Node& node : graph.nodes())
    if (node.kind == solder::NodeKind::input) inputs_.insert(make_room(node.name, node.outputs[0]));
  for (const auto& [name, value] : graph.outputs()) outputs_.insert(make_room(name, graph.type(value)));
  for (auto& [batch, session] : sessions_) session.run(part(inputs_, 0, batch), part(outputs_, 0, batch));
}

Shape Instance::shape(const Tensor& whole, int64_t rows) const {
  Shape shape = whole.shape();
  if (config().max_batch > 0) shape[0] = rows;
  return shape;
}

TensorMap Instance::part(const TensorMap& whole, int64_t begin, int64_t rows) const {
  TensorMap parts;
  for (const auto& [name, tensor] : whole)
    parts[name] = Tensor::view(row(tensor, begin), shape(tensor, rows), tensor.dtype());
  return parts;
}

void Instance::run(int64_t rows) {
  for (int64_t begin = 0; begin < rows;) {
    const int64_t batch = config().max_batch > 0 ? next_batch(config().batches, rows - begin) : 0;
    sessions_.at(batch).run(part(inputs_, begin, batch), part(outputs_, begin, batch));
    begin += std::max<int64_t>(batch, 1);
  }
}

}  // namespace solder_triton
