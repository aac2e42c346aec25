#include "tensors.h"

#include <algorithm>
#include <cmath>

namespace solder_run {
namespace {

using solder::ErrorKind;
using solder::Graph;
using solder::Node;
using solder::NodeKind;
using solder::str;
using solder::Tensor;
using solder::TensorMap;

// Uniform in [-range, range), from splitmix64.
Tensor random_tensor(const solder::TensorType& type, uint64_t seed, float range) {
  Tensor tensor = Tensor::empty(type.shape);
  for (float& value : tensor.floats()) {
    uint64_t z = seed += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    value = range * (static_cast<float>((z ^ (z >> 31)) >> 40) * 0x1p-23f - 1.0f);
  }
  return type.dtype == solder::DType::float32 ? tensor : tensor.to(type.dtype);
}

// How far random weights reach: 1 / sqrt(terms of a sum), as PyTorch initialises layers; 0.1 for a bias.
float weight_range(const solder::Shape& shape) {
  if (shape.size() < 2) return 0.1f;
  const int64_t terms = solder::num_elements({shape.begin() + 1, shape.end()});
  return 1.0f / std::sqrt(static_cast<float>(std::max<int64_t>(terms, 1)));
}

std::vector<const Node*> nodes_of(const Graph& graph, NodeKind kind) {
  std::vector<const Node*> nodes;
  for (const Node& node : graph.nodes())
    if (node.kind == kind) nodes.push_back(&node);
  return nodes;
}

// "a", "b" and 7 more.
std::string listed(const std::vector<std::string>& names) {
  constexpr size_t kMostNames = 12;
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kMostNames); ++i)
    text += (i > 0 ? ", " : "") + in_quotes(names[i]);
  return names.size() > kMostNames ? str(text, " and ", names.size() - kMostNames, " more") : text;
}

// The parameters that an output depends on.
std::vector<const Node*> needed_parameters(const Graph& graph) {
  const auto& nodes = graph.nodes();
  std::vector<bool> needed(nodes.size());
  for (const auto& [name, value] : graph.outputs()) needed[static_cast<size_t>(value.node)] = true;
  for (size_t i = nodes.size(); i-- > 0;)
    for (const solder::Value& input : nodes[i].inputs)
      if (needed[i]) needed[static_cast<size_t>(input.node)] = true;
  std::vector<const Node*> parameters;
  for (size_t i = 0; i < nodes.size(); ++i)
    if (needed[i] && nodes[i].kind == NodeKind::parameter) parameters.push_back(&nodes[i]);
  return parameters;
}

// Error that lists every parameter which an output depends on and `weights` lacks.
void require_parameters(const Graph& graph, const TensorMap& weights, const std::vector<std::string>& files) {
  const std::vector<const Node*> parameters = needed_parameters(graph);
  std::vector<std::string> names;
  for (const auto& [name, tensor] : weights) names.push_back(name);
  constexpr size_t kMostLines = 12;
  size_t num_missing = 0;
  std::string lines;
  for (const Node* parameter : parameters) {
    if (weights.contains(parameter->name) || ++num_missing > kMostLines) continue;
    const auto other = weights.left_out.find(parameter->name);
    lines +=
        str("\n  ", in_quotes(parameter->name), " ", to_string(parameter->outputs[0]), ": ",
            other == weights.left_out.end()
                ? "not there" + did_you_mean(parameter->name, names)
                : str("there as ", other->second, "; solder reads F32, F16 and BF16: save tensor.float()"));
  }
  if (num_missing == 0) return;
  if (num_missing > kMostLines) lines += str("\n  and ", num_missing - kMostLines, " more");
  solder::fail(ErrorKind::invalid_argument,
               str(listed(files), files.size() == 1 ? " lacks " : " lack ", num_missing, " of the graph's ",
                   parameters.size(), " parameters:", lines, "\n  tensors there (", names.size(),
                   "): ", listed(names)));
}

TensorMap load_weights(const std::vector<std::string>& files) {
  TensorMap weights;
  std::map<std::string, std::string> source;  // of every tensor
  for (const std::string& file : files) {
    TensorMap part = solder::load_safetensors(file);
    std::vector<std::string> names;
    for (const auto& [name, tensor] : part) names.push_back(name);
    for (const auto& [name, dtype] : part.left_out) names.push_back(name);
    for (const std::string& name : names) {
      const auto [place, is_new] = source.emplace(name, file);
      SOLDER_REQUIRE(is_new, invalid_argument, "tensor ", in_quotes(name), " is in ", place->second,
                     " and in ", file, ": which one is meant?");
    }
    weights.merge(std::move(part));
  }
  return weights;
}

}  // namespace

std::map<std::string, std::string> named(std::map<std::string, std::string> files, const std::string& option,
                                         const std::vector<std::string>& names) {
  if (const auto unnamed = files.find(""); unnamed != files.end()) {
    if (names.size() != 1)
      throw UsageError{str("the graph has ", names.size(), " ", option.substr(2), "s (", listed(names),
                           "): give ", option, " NAME=FILE")};
    if (!files.emplace(names[0], unnamed->second).second)
      throw UsageError{str(option, " is given twice for ", in_quotes(names[0]))};
    files.erase("");
  }
  for (const auto& [name, file] : files)
    if (std::find(names.begin(), names.end(), name) == names.end())
      throw UsageError{
          str("the graph has no ", option.substr(2), " ", in_quotes(name), "; it has ", listed(names))};
  return files;
}

TensorMap inputs_of(const Graph& graph, const Options& options, const Progress& progress) {
  const std::vector<const Node*> nodes = nodes_of(graph, NodeKind::input);
  std::vector<std::string> names;
  for (const Node* node : nodes) names.push_back(node->name);
  const auto files = named(options.inputs, "--input", names);
  TensorMap inputs;
  uint64_t stream = 0;
  for (const Node* node : nodes) {
    const solder::TensorType& type = node->outputs[0];
    ++stream;
    if (const auto file = files.find(node->name); file != files.end()) {
      const Tensor tensor = solder::load_npy(file->second);
      const solder::TensorType given{tensor.shape(), tensor.dtype()};
      SOLDER_REQUIRE(given == type, shape_mismatch, file->second, " holds ", to_string(given),
                     " and the graph's ", node->name, " is ", to_string(type),
                     given.dtype == type.dtype ? "; --shape gives it another shape" : "");
      inputs[node->name] = tensor;
    } else {
      inputs[node->name] = random_tensor(type, options.seed + (stream << 32), 1.0f);
      progress.say(str(node->name, ": random, uniform in [-1, 1), seed ", options.seed));
    }
  }
  return inputs;
}

TensorMap weights_of(const Graph& graph, const Options& options, const Progress& progress) {
  TensorMap weights;
  if (!options.weights.empty()) {
    weights = load_weights(options.weights);
    require_parameters(graph, weights, options.weights);
    return weights;
  }
  uint64_t stream = 1000;
  for (const Node* node : nodes_of(graph, NodeKind::parameter))
    weights[node->name] = random_tensor(node->outputs[0], options.seed + (++stream << 32),
                                        weight_range(node->outputs[0].shape));
  if (!weights.empty()) progress.say(str("weights: random, as a fresh layer has them, seed ", options.seed));
  return weights;
}

}  // namespace solder_run
