#include "tests/support/networks.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "examples/katago/gzip.h"
#include "examples/katago/network.h"
#include "examples/networks/networks.h"

namespace solder::test {
namespace {

// A file or folder of the prepared ones. Tests decide on it before main() whether they are skipped.
std::string model_path(const std::string& name) { return SOLDER_MODELS "/" + name; }

std::vector<std::string> prepared_lines() {
  std::ifstream in(model_path("goldens/list.txt"));
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

Bounds bounds_of(const std::string& network) {
  if (network == "resnet50") return {5e-6, 3.5e-3, 3.5e-3, 3e-2};
  if (network == "cspdarknet53_mish") return {5e-6, 3.5e-3, 3.5e-3, 4e-2};
  return {5e-6, 2e-3, 2e-3, 3e-2};
}

Golden load_golden(const std::string& name) {
  const std::string network = name.substr(0, name.find("_seed"));
  const std::string folder = model_path("goldens/" + name + "/");
  Golden golden{.name = name, .network = network, .bounds = bounds_of(network)};
  golden.results = load_safetensors(folder + "golden.safetensors");
  if (network == "katago")
    golden.inputs = {{"spatial", load_npy(folder + "spatial.npy")},
                     {"global", load_npy(folder + "global.npy")}};
  else
    golden.inputs = {{"x", load_npy(folder + "input.npy")}};
  golden.num_items = golden.inputs.begin()->second.shape()[0];
  return golden;
}

// What was read last, since tests ask for the same file many times.
template <class Contents>
struct LastFile {
  std::string path;
  Contents contents;
  template <class Load>
  const Contents& get(const std::string& wanted, Load load) {
    if (path != wanted) contents = load(wanted), path = wanted;
    return contents;
  }
};

double relative_error(std::span<const float> got, std::span<const float> want) {
  double error = 0, norm = 0;
  REQUIRE(got.size() == want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    const double difference = double{got[i]} - want[i];
    error += difference * difference;
    norm += double{want[i]} * want[i];
  }
  const double relative = std::sqrt(error / norm);
  return std::isnan(relative) ? INFINITY : relative;
}

}  // namespace

std::vector<std::string> Golden::layers() const {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : results)
    if (results.contains(name + ":stride")) names.push_back(name);
  return names;
}

TensorMap Golden::batch_of(int64_t first, int64_t batch, const Graph& graph) const {
  TensorMap items;
  for (const auto& [name, tensor] : inputs) {
    Shape shape = tensor.shape();
    shape[0] = batch;
    Tensor item = Tensor::empty(shape);
    const auto elems = static_cast<size_t>(tensor.num_elems() / num_items);
    for (int64_t i = 0; i < batch; ++i)
      std::ranges::copy(tensor.floats().subspan(static_cast<size_t>((first + i) % num_items) * elems, elems),
                        item.floats().begin() + i * static_cast<int64_t>(elems));
    for (const Node& node : graph.nodes())
      if (node.kind == NodeKind::input && node.name == name) items[name] = item.to(node.outputs[0].dtype);
  }
  return items;
}

bool has_goldens() { return prepared_lines().size() > 1; }

bool all_goldens() {
  const char* const asked = std::getenv("SOLDER_NETWORKS");
  return std::getenv("SOLDER_GOLDENS_DIR") != nullptr ||
         (asked != nullptr && std::string_view(asked) == "all");
}

std::string prepared_folder() { return prepared_lines().at(0); }

std::string wanted_folder() {
  const char* const folder = std::getenv("SOLDER_GOLDENS_DIR");
  return std::filesystem::weakly_canonical(folder != nullptr ? folder : SOLDER_TEST_DATA "/networks")
      .string();
}

std::vector<Golden> goldens() {
  std::vector<Golden> all;
  const std::vector<std::string> lines = prepared_lines();
  for (size_t i = 1; i < lines.size(); ++i) {
    const std::string network = lines[i].substr(0, lines[i].find("_seed"));
    if (network == "katago" && !katago::kHasZlib) continue;
    if (all_goldens() || all.empty() || all.back().network != network) all.push_back(load_golden(lines[i]));
  }
  return all;
}

Network network_of(const Golden& golden, int64_t batch, DType dtype) {
  if (golden.network == "katago") {
    static LastFile<std::string> file;
    const std::string path = model_path("katago_b18c384nbt.bin.gz");
    katago::Network net = katago::read_network(file.get(path, katago::read_gzip), path, batch, dtype);
    return {std::move(net.graph), std::move(net.weights)};
  }
  static LastFile<TensorMap> file;
  const std::string seeded = golden.name.substr(0, golden.name.find("_n"));
  TensorMap weights = file.get(model_path(seeded + ".safetensors"),
                               [](const std::string& path) { return load_safetensors(path); });
  for (auto& [name, tensor] : weights) tensor = tensor.to(dtype);
  Shape images = golden.inputs.at("x").shape();
  images[0] = batch;
  return {golden.network == "resnet50" ? networks::resnet50(images, dtype)
                                       : networks::cspdarknet53_mish(images, dtype),
          std::move(weights)};
}

Network network_of_ones(const std::string& network, const Shape& images) {
  Network net{network == "resnet50" ? networks::resnet50(images) : networks::cspdarknet53_mish(images), {}};
  for (const Node& node : net.graph.nodes()) {
    if (node.kind != NodeKind::parameter) continue;
    Tensor& ones = net.weights[node.name] = Tensor::empty(node.outputs[0].shape);
    for (float& value : ones.floats()) value = 1;
  }
  return net;
}

Value layer_value(const Graph& graph, const std::string& layer) {
  const auto find = [&](std::string_view name) {
    for (size_t i = 0; i < graph.nodes().size(); ++i)
      if (graph.nodes()[i].name == name && !graph.nodes()[i].is_given()) return static_cast<int>(i);
    return -1;
  };
  // A block's result is that of its last norm, with the shortcut; it has the block's name.
  for (const char* const norm : {".conv2.bn", ".bn3", ".bn", ""})
    if (layer.ends_with(norm))
      if (const int node = find(std::string_view(layer).substr(0, layer.size() - std::strlen(norm)));
          node >= 0)
        return {.node = node};
  FAIL("no layer " << layer);
  return {};
}

Errors errors_of(const Golden& golden, const Model& model, int64_t batch) {
  std::map<std::string, std::vector<float>> got, want;
  Session session = model.session();
  for (int64_t first = 0; first < golden.num_items; first += batch) {
    const TensorMap results = session.run(golden.batch_of(first, batch, model.graph()));
    for (const auto& [name, tensor] : results) {
      const Tensor wide = tensor.to(DType::float32);
      const Tensor& expected = golden.results.at(name);
      REQUIRE(wide.num_elems() * golden.num_items == expected.num_elems() * batch);
      const auto elems = static_cast<size_t>(wide.num_elems() / batch);
      got[name].insert(got[name].end(), wide.floats().begin(), wide.floats().end());
      for (int64_t i = 0; i < batch; ++i) {
        const auto item =
            expected.floats().subspan(static_cast<size_t>((first + i) % golden.num_items) * elems, elems);
        want[name].insert(want[name].end(), item.begin(), item.end());
      }
    }
  }
  Errors errors;
  for (const auto& [name, values] : got) errors[name] = relative_error(values, want[name]);
  REQUIRE(errors.size() == (golden.network == "katago" ? 5 : 1));
  return errors;
}

double sample_error(const Tensor& got, const TensorMap& results, const std::string& layer) {
  const Tensor wide = got.to(DType::float32);
  Shape shape;
  for (const float extent : results.at(layer + ":shape").floats())
    shape.push_back(static_cast<int64_t>(extent));
  CAPTURE(layer);
  REQUIRE(wide.shape() == shape);
  const auto stride = static_cast<size_t>(results.at(layer + ":stride").floats()[0]);
  std::vector<float> sampled;
  for (size_t i = 0; i < wide.floats().size(); i += stride) sampled.push_back(wide.floats()[i]);
  return relative_error(sampled, results.at(layer).floats());
}

namespace {

// The graph with every use of `node`'s value replaced by its input.
Graph without_node(const Graph& graph, int node, size_t input) {
  Graph changed;
  const auto renewed = [&](Value value) {
    value = value.node == node ? graph.nodes()[static_cast<size_t>(node)].inputs[input] : value;
    return Value{value.node, value.output};
  };
  for (Node each : graph.nodes()) {
    for (Value& value : each.inputs) value = renewed(value);
    changed.append(std::move(each));
  }
  for (const auto& [name, value] : graph.outputs()) changed.output(name, renewed(value));
  return changed;
}

// Of an elementwise node as the builder makes it.
Op op_of(const Node& node) { return node.epilogue.region.exprs[0].op; }

}  // namespace

std::string mutate(Network& net, Mutation mutation) {
  const auto middle = [&](auto is_candidate) {
    std::vector<int> found;
    for (size_t i = 0; i < net.graph.nodes().size(); ++i)
      if (is_candidate(net.graph.nodes()[i])) found.push_back(static_cast<int>(i));
    REQUIRE(!found.empty());
    return found[found.size() / 2];
  };
  const auto node_at = [&](int i) { return net.graph.nodes()[static_cast<size_t>(i)]; };
  const auto parameter_of = [&](const Node& node, size_t input) {
    return node_at(node.inputs[input].node).name;
  };
  switch (mutation) {
    case Mutation::none: return "as it is";
    case Mutation::residual_dropped: {
      const int at = middle([&](const Node& node) {
        return node.kind == NodeKind::elementwise && op_of(node) == Op::add && node.inputs.size() == 2 &&
               net.graph.type(node.inputs[0]) == net.graph.type(node.inputs[1]) &&
               node.outputs[0].shape.size() == 4;
      });
      const std::string name = node_at(at).name;
      // What was made later is the branch, which stays.
      const std::vector<Value> sum = node_at(at).inputs;
      net.graph = without_node(net.graph, at, sum[0].node > sum[1].node ? 0 : 1);
      return "residual dropped at " + name;
    }
    case Mutation::channels_swapped: {
      const Node norm = node_at(middle([](const Node& node) { return node.kind == NodeKind::batch_norm; }));
      for (size_t input = 1; input < 5; ++input) {
        Tensor& tensor = net.weights[parameter_of(norm, input)];
        const Tensor old = tensor;
        tensor = Tensor::from(old.shape(), old.floats());  // a copy: the cached one stays
        std::swap(tensor.floats()[0], tensor.floats()[1]);
      }
      return "channels 0 and 1 swapped in " + norm.name;
    }
    case Mutation::activation_swapped: {
      const int at = middle([](const Node& node) {
        return node.kind == NodeKind::elementwise && (op_of(node) == Op::mish || op_of(node) == Op::relu);
      });
      Graph changed;
      for (Node node : net.graph.nodes()) {
        if (std::ssize(changed.nodes()) == at) {
          Op& op = node.epilogue.region.exprs[0].op;
          op = op == Op::mish ? Op::relu : Op::mish;
        }
        changed.append(std::move(node));
      }
      for (const auto& [name, value] : net.graph.outputs()) changed.output(name, {value.node, value.output});
      net.graph = std::move(changed);
      return "relu for mish, or mish for relu, at " + node_at(at).name;
    }
    case Mutation::conv_scaled: {
      const std::string name =
          parameter_of(node_at(middle([](const Node& node) { return node.kind == NodeKind::conv2d; })), 1);
      Tensor scaled = Tensor::empty(net.weights.at(name).shape());
      std::ranges::transform(net.weights.at(name).floats(), scaled.floats().begin(),
                             [](float w) { return 1.1f * w; });
      net.weights[name] = scaled;
      return name + " times 1.1";
    }
  }
  return {};
}

}  // namespace solder::test
