// Whole networks, as the examples build them, against float64: tests/networks/README.md has the goldens and the bounds.
// A part that takes seconds, or every golden at every batch with SOLDER_NETWORKS=all or SOLDER_GOLDENS_DIR.

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <random>
#include <set>

#include "tests/support/networks.h"

namespace solder::test {
namespace {

#define NETWORK_TEST_CASE(name) TEST_CASE("networks: " name* doctest::skip(!has_goldens()))
#define GPU_NETWORK_TEST_CASE(name) \
  TEST_CASE("[gpu] networks: " name* doctest::skip(!has_goldens() || !has_gpu() || is_sanitized()))

bool has_gpu() { return Device::best().is_cuda(); }

std::vector<Device> devices() {
  if (has_gpu()) return {Device::cpu(), Device::cuda(0)};
  return {Device::cpu()};
}

// Under compute-sanitizer a network takes hours.
bool is_sanitized() { return std::getenv("SOLDER_SANITIZED") != nullptr; }

void fill(Tensor& tensor, uint64_t seed, float low, float high) {
  std::mt19937_64 engine(seed);
  std::uniform_real_distribution<float> distribution(low, high);
  for (float& value : tensor.floats()) value = distribution(engine);
}

struct Arithmetic {
  Math math;
  DType dtype;
};

constexpr Arithmetic kFp32{Math::fp32, DType::float32}, kTf32{Math::tf32, DType::float32},
    kFp16{Math::fp16, DType::float32}, kBf16{Math::bf16, DType::float32},
    kFloat16{Math::fp32, DType::float16}, kBfloat16{Math::fp32, DType::bfloat16};

double bound_of(const Bounds& bounds, const Arithmetic& arithmetic) {
  if (arithmetic.dtype == DType::float16 || arithmetic.math == Math::fp16) return bounds.float16;
  if (arithmetic.dtype == DType::bfloat16 || arithmetic.math == Math::bf16) return bounds.bfloat16;
  return arithmetic.math == Math::tf32 ? bounds.tf32 : bounds.fp32;
}

std::string words(const Arithmetic& arithmetic) {
  return str(to_string(arithmetic.math), ", ", to_string(arithmetic.dtype));
}

// Every output over all positions, in batches of `batch` that repeat the golden's as often as it takes.
void check_outputs(const Golden& golden, int64_t batch, const Arithmetic& arithmetic, Device device) {
  const Network net = network_of(golden, batch, arithmetic.dtype);
  const Model model = compile(net.graph, net.weights, {.device = device, .math = arithmetic.math});
  const Errors errors = errors_of(golden, model, batch);
  for (const auto& [output, error] : errors) {
    INFO(golden.name, ", batch ", batch, ", ", words(arithmetic), ", ", to_string(device), ": ", output,
         " is off by ", error);
    CHECK(error <= bound_of(golden.bounds, arithmetic));
    if (all_goldens()) MESSAGE("relative error ", error);
  }
}

// A graph in parts that end with its layers.
struct Parts {
  Graph graph;                          // outputs: the layers
  std::map<std::string, Value> inputs;  // not the graph's own, and the earlier part's values that they are
};

// `layers`: what their nodes are called.
Parts parts_of(const Graph& graph, const std::map<int, std::string>& layers) {
  Parts parts;
  std::vector<int> part, renumbered;  // by node of `graph`
  std::map<std::string, int> inputs;  // their nodes in parts.graph
  int num_parts = 0;
  for (Node node : graph.nodes()) {
    for (Value& value : node.inputs) {
      const auto maker = static_cast<size_t>(value.node);
      if (graph.maker(value).is_given() || part[maker] == num_parts) {
        value = {renumbered[maker], value.output};
        continue;
      }
      const std::string name = str("part ", part[maker], " node ", value.node, " output ", value.output);
      if (parts.inputs.try_emplace(name, value).second)
        inputs[name] = parts.graph.input(name, graph.type(value).shape, graph.type(value).dtype).node;
      value = {inputs[name], 0};
    }
    const auto layer = layers.find(static_cast<int>(part.size()));
    part.push_back(num_parts);
    renumbered.push_back(parts.graph.append(std::move(node)).node);
    if (layer == layers.end()) continue;
    parts.graph.output(layer->second, {renumbered.back(), 0});
    ++num_parts;
  }
  return parts;
}

// With all that is declared in 16 bits in float32, and casts that copy.
Graph widened(const Graph& graph) {
  Graph wide;
  for (Node node : graph.nodes()) {
    for (TensorType& type : node.outputs) type.dtype = DType::float32;
    Region& region = node.epilogue.region;
    if (!region.exprs.empty() &&
        (region.exprs[0].op == Op::to_float16 || region.exprs[0].op == Op::to_bfloat16))
      region.exprs.clear(), region.outputs = {Arg::operand(0)};
    wide.append(std::move(node));
  }
  return wide;
}

// Runs `net` with the golden's inputs, and where the graph has more, with those among `others`.
TensorMap run(const Golden& golden, const Network& net, const TensorMap& others, Math math, Device device) {
  TensorMap inputs = golden.batch_of(0, golden.num_items, net.graph);
  for (const Node& node : net.graph.nodes())
    if (node.kind == NodeKind::input && !inputs.contains(node.name))
      inputs[node.name] = others.at(node.name).to(node.outputs[0].dtype);
  return compile(net.graph, net.weights, {.device = device, .math = math}).session().run(inputs);
}

void check_samples(const Golden& golden, const TensorMap& results, double bound, const std::string& what) {
  for (const std::string& layer : golden.layers()) {
    const double error = sample_error(results.at(layer), golden.results, layer);
    INFO(golden.name, ", ", what, ": ", layer, " is off by ", error);
    CHECK(error <= bound);
    if (all_goldens()) MESSAGE("relative error ", error);
  }
  CHECK(golden.layers().size() >= 5);
}

// The golden's samples of layers in between, within the bound of the network's outputs. In float32 they are those of
// the whole network. Other arithmetics get what float32 has computed up to the layer sampled before: errors of all
// layers together are more than the outputs show, which are means over positions. ResNet-50's layer4.2.bn2 is off by
// 6.6e-3, 8.8e-3 and 7.1e-2 in PyTorch's own TF32, float16 and bfloat16.
void check_layers(const Golden& golden, const Arithmetic& arithmetic, Device device) {
  Network net = network_of(golden, golden.num_items, arithmetic.dtype);
  Network exact{widened(net.graph), network_of(golden, golden.num_items, DType::float32).weights};
  std::map<int, std::string> layers;
  for (const std::string& layer : golden.layers()) layers[layer_value(net.graph, layer).node] = layer;
  for (const auto& [node, layer] : layers) exact.graph.output(layer, {node, 0});
  const Parts parts = parts_of(net.graph, layers);
  for (const auto& [name, value] : parts.inputs) exact.graph.output(name, value);
  const TensorMap results = run(golden, exact, {}, Math::fp32, device);
  check_samples(golden, results, golden.bounds.fp32, str("fp32, ", to_string(device)));
  net.graph = parts.graph;
  check_samples(golden, run(golden, net, results, arithmetic.math, device),
                bound_of(golden.bounds, arithmetic), str(words(arithmetic), ", ", to_string(device)));
}

std::vector<int64_t> batches(const Golden& golden) {
  if (all_goldens()) return {1, 2, 16};
  return {golden.num_items};
}

}  // namespace

TEST_CASE("networks: the goldens that are prepared are the ones asked for" * doctest::skip(!has_goldens())) {
  INFO("make models prepares those of SOLDER_GOLDENS_DIR, or else the repository's");
  CHECK(prepared_folder() == wanted_folder());
  CHECK(!goldens().empty());
}

TEST_CASE(
    "networks: concats and slices copy nothing, and activations, norms and residuals are no nodes of their "
    "own") {
  for (const char* network : {"resnet50", "cspdarknet53_mish"}) {
    for (const int64_t batch : {1, 2}) {
      const Network net = network_of_ones(network, {batch, 3, 64, 64});
      for (const Device device : devices()) {
        const Model model = compile(net.graph, net.weights, {.device = device});
        std::string running;  // beside convolutions, products, pools and means
        int num_concats = 0;
        for (size_t i = 0; i < model.nodes().size(); ++i) {
          const Node& node = model.graph().nodes()[i];
          const std::string& path = model.nodes()[i].path;
          if (node.kind == NodeKind::elementwise) running += " " + node.name;
          if (node.kind != NodeKind::concat) continue;
          ++num_concats;
          if (path != "in place") running += " " + node.name + " (" + path + ")";
        }
        INFO(network, ", batch ", batch, ", ", to_string(device));
        CHECK(num_concats == (std::string(network) == "resnet50" ? 0 : 5));
        CHECK(running == "");
      }
    }
  }
}

TEST_CASE("networks: any batch of a model gives the bits of a model compiled for it, from the same weights") {
  for (const char* network : {"resnet50", "cspdarknet53_mish"}) {
    Network net = network_of_ones(network, {2, 3, 32, 32});
    uint64_t seed = 1;
    for (auto& [name, tensor] : net.weights) {
      const bool is_scale = tensor.shape().size() == 1;
      const auto terms = static_cast<float>(tensor.num_elems() / tensor.shape()[0]);
      fill(tensor, ++seed, is_scale ? 0.5f : -2 / std::sqrt(terms), is_scale ? 1.0f : 2 / std::sqrt(terms));
    }
    for (const Device device : devices()) {
      const Model model = compile(net.graph, net.weights, {.device = device});
      for (const int64_t n : {1, 2, 3, 16}) {
        CAPTURE(network);
        CAPTURE(n);
        Tensor x = Tensor::empty({n, 3, 32, 32});
        fill(x, 99, -1, 1);
        const Graph fresh = network_of_ones(network, x.shape()).graph;
        const std::string output = fresh.outputs()[0].first;
        const Model batch = model.batch(n), expected_model = compile(fresh, net.weights, {.device = device});
        const Tensor expected = expected_model.session().run({{"x", x}}).at(output);
        const Tensor got = batch.session().run({{"x", x}}).at(output);
        CHECK(std::ranges::equal(got.floats(), expected.floats()));
        CHECK(std::isfinite(got.floats()[0]));
        CHECK(batch.weights_bytes() == model.weights_bytes());
      }
    }
  }
}

NETWORK_TEST_CASE("outputs in float32 on the CPU") {
  for (const Golden& golden : goldens())
    for (const int64_t batch : batches(golden)) check_outputs(golden, batch, kFp32, Device::cpu());
}

NETWORK_TEST_CASE("Math::fp16, Math::bf16, and graphs declared in float16 and bfloat16 on the CPU") {
  for (const Golden& golden : goldens())
    for (const Arithmetic& arithmetic : {kFp16, kBf16, kFloat16, kBfloat16})
      check_outputs(golden, golden.num_items, arithmetic, Device::cpu());
}

NETWORK_TEST_CASE("layers in between on the CPU") {
  std::vector<Arithmetic> some{kFp16, kBfloat16};
  if (all_goldens()) some = {kFp16, kBf16, kFloat16, kBfloat16};
  for (const Golden& golden : goldens())
    for (const Arithmetic& arithmetic : some) check_layers(golden, arithmetic, Device::cpu());
}

NETWORK_TEST_CASE("one image alone, and unfused") {
  for (const Golden& golden : goldens()) {
    check_outputs(golden, 1, kFp32, Device::cpu());
    const Network net = network_of(golden, golden.num_items, DType::float32);
    const Model unfused = compile(net.graph, net.weights, {.device = Device::cpu(), .fuse = false});
    for (const auto& [output, error] : errors_of(golden, unfused, golden.num_items))
      CHECK_MESSAGE(error <= golden.bounds.fp32, golden.name, " unfused: ", output, " is off by ", error);
    if (!all_goldens()) break;
  }
}

// A network with one thing wrong must not pass. Its error shows in one output at least.
NETWORK_TEST_CASE("mutants are found") {
  std::set<std::string> seen;
  for (const Golden& golden : goldens()) {
    if (!seen.insert(golden.network).second) continue;
    for (const Mutation mutation : {Mutation::none, Mutation::residual_dropped, Mutation::channels_swapped,
                                    Mutation::activation_swapped, Mutation::conv_scaled}) {
      Network net = network_of(golden, golden.num_items, DType::float32);
      const std::string what = mutate(net, mutation);
      const Model model = compile(net.graph, net.weights, {.device = Device::cpu()});
      double worst = 0;
      for (const auto& [output, error] : errors_of(golden, model, golden.num_items))
        worst = std::max(worst, error);
      INFO(golden.name, ": ", what, ": off by ", worst);
      CHECK((worst > golden.bounds.fp32) == (mutation != Mutation::none));
    }
  }
}

GPU_NETWORK_TEST_CASE("outputs in every arithmetic, in batches of 1, 2 and 16") {
  for (const Golden& golden : goldens())
    for (const int64_t batch : {1, 2, 16})
      for (const Arithmetic& arithmetic : {kFp32, kTf32, kFp16, kBf16, kFloat16, kBfloat16})
        check_outputs(golden, batch, arithmetic, Device::cuda(0));
}

GPU_NETWORK_TEST_CASE("layers in between") {
  for (const Golden& golden : goldens())
    for (const Arithmetic& arithmetic : {kTf32, kFp16, kBf16, kFloat16, kBfloat16})
      check_layers(golden, arithmetic, Device::cuda(0));
}

}  // namespace solder::test
