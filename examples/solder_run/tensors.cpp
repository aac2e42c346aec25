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

// Random values are uniform in [centre - range, centre + range).
struct Spread {
  float centre = 0, range = 1;
};

// From splitmix64.
Tensor random_tensor(const solder::TensorType& type, uint64_t seed, const Spread& spread) {
  Tensor tensor = Tensor::empty(type.shape);
  for (float& value : tensor.floats()) {
    uint64_t z = seed += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    value = spread.centre + spread.range * (static_cast<float>((z ^ (z >> 31)) >> 40) * 0x1p-23f - 1.0f);
  }
  return type.dtype == solder::DType::float32 ? tensor : tensor.to(type.dtype);
}

// Of a parameter by its shape: He's variance, 2 / terms of a sum, which keeps values in range from layer to layer; 0.1
// for a bias.
Spread usual_spread(const solder::Shape& shape) {
  if (shape.size() < 2) return {.range = 0.1f};
  const int64_t terms = solder::num_elements({shape.begin() + 1, shape.end()});
  return {.range = std::sqrt(6.0f / static_cast<float>(std::max<int64_t>(terms, 1)))};
}

// Of every parameter, by node; the weights and variances of norms are about 1.
std::vector<Spread> spreads_of(const Graph& graph) {
  std::vector<Spread> spreads;
  for (const Node& node : graph.nodes()) {
    spreads.push_back(usual_spread(node.outputs[0].shape));
    if (node.kind == NodeKind::batch_norm)
      for (const size_t input : {1u, 4u}) spreads[static_cast<size_t>(node.inputs[input].node)].centre = 1;
  }
  return spreads;
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

TensorMap load_weights(const Options& options, const Progress& progress) {
  TensorMap weights;
  int num_loaded = 0;
  for (const std::string& file : options.weights) {
    progress.step(num_loaded++, static_cast<int>(options.weights.size()));
    TensorMap part = solder::load_safetensors(file, {.strip_prefix = options.strip_prefix});
    try {
      weights.merge(std::move(part));
    } catch (const solder::Error& error) {
      solder::fail(error.kind(), str(file, ", with the files before it: ", error.message()));
    }
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
      inputs[node->name] = random_tensor(type, options.seed + (stream << 32), {});
      progress.say(str(printable(node->name), ": random, uniform in [-1, 1), seed ", options.seed));
    }
  }
  return inputs;
}

TensorMap weights_of(const Graph& graph, const Options& options, const Progress& progress) {
  if (!options.weights.empty()) return load_weights(options, progress);
  TensorMap weights;
  const std::vector<Spread> spreads = spreads_of(graph);
  uint64_t stream = 1000;
  for (size_t i = 0; i < spreads.size(); ++i) {
    const Node& node = graph.nodes()[i];
    progress.step(static_cast<int>(i), static_cast<int>(spreads.size()));
    if (node.kind == NodeKind::parameter)
      weights[node.name] = random_tensor(node.outputs[0], options.seed + (++stream << 32), spreads[i]);
  }
  if (!weights.empty()) progress.say(str("weights: random, as a fresh layer has them, seed ", options.seed));
  return weights;
}

solder::OnnxOptions onnx_options(const Options& options) {
  solder::OnnxOptions onnx{.shapes = options.shapes, .override_fixed = options.override_fixed};
  for (const auto& [name, text] : options.values) {
    std::vector<int64_t> whole;
    std::vector<float> numbers;
    if (text.ends_with(".npy")) {
      onnx.values[name] = solder::load_npy(text);
    } else if (parse_numbers(text, &whole)) {
      onnx.integers[name] = {{std::ssize(whole)}, whole};
    } else if (parse_numbers(text, &numbers)) {
      onnx.values[name] = Tensor::from({std::ssize(numbers)}, numbers);
    } else {
      throw UsageError{
          str("--value ", name, " takes numbers with commas or a .npy file, not ", in_quotes(text))};
    }
  }
  return onnx;
}

}  // namespace solder_run
