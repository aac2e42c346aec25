// Random graphs: fused, unfused and node by node must agree bit for bit in float32. SOLDER_GRAPHS sets how
// many, SOLDER_SEED the first seed; a failure prints the command that repeats it.

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "graph/verify.h"
#include "support.h"

using namespace solder;
using namespace solder::test;

namespace {

struct RandomGraph {
  Graph graph;
  TensorMap weights, inputs;
};

int64_t env_or(const char* name, int64_t fallback) {
  const char* value = std::getenv(name);
  return value != nullptr ? std::atoll(value) : fallback;
}

// Up to 40 nodes over one base shape and the shapes that broadcast to it: fan-out, aliasing (x op x), scalars
// on both sides, several outputs, and in rank 4 convolutions that keep the shape.
RandomGraph random_graph(uint64_t seed) {
  std::mt19937_64 engine(seed);
  const auto pick = [&](uint64_t n) { return static_cast<size_t>(engine() % n); };
  RandomGraph result;
  Graph& g = result.graph;
  Shape base(1 + pick(4));
  for (int64_t& extent : base) extent = pick(25) == 0 ? 0 : static_cast<int64_t>(1 + pick(6));
  if (pick(8) == 0) base.back() = static_cast<int64_t>(60 + pick(300));  // past one block of the CPU, ragged

  std::vector<Value> values;
  for (size_t i = 0, count = 1 + pick(4); i < count; ++i) {
    Shape shape = base;
    if (i > 0) {
      for (int64_t& extent : shape)
        if (pick(3) == 0) extent = 1;
      if (pick(4) == 0)
        shape.erase(shape.begin(), shape.begin() + static_cast<int64_t>(pick(shape.size() + 1)));
    }
    const std::string name = "x" + std::to_string(i);
    const bool is_parameter = i > 0 && pick(3) == 0;
    values.push_back(is_parameter ? g.parameter(name, shape) : g.input(name, shape));
    (is_parameter ? result.weights : result.inputs)[name] = uniform(shape, engine(), -2, 2);
  }
  const size_t num_nodes = 1 + pick(40);
  for (size_t i = 0; i < num_nodes; ++i) {
    // Recent values more often: long chains, yet fan-out too.
    const auto any = [&] {
      return values[pick(2) == 0 ? pick(values.size())
                                 : values.size() - 1 - pick(std::min<size_t>(values.size(), 3))];
    };
    const Value a = any();
    const Op unary = static_cast<Op>(pick(static_cast<uint64_t>(Op::clip)));
    const Op binary = static_cast<Op>(static_cast<size_t>(Op::add) + pick(7));
    const float number = static_cast<float>(pick(9)) * 0.5f - 2;
    switch (pick(7)) {
      case 0:
      case 1: values.push_back(g.unary(unary, a, 0.2f)); break;
      case 2: values.push_back(g.binary(binary, a, number)); break;
      case 3: values.push_back(g.binary(binary, number, a)); break;
      case 4:
        if (base.size() == 4 && g.type(a).shape == base && num_elements(base) > 0) {
          const std::string name = "w" + std::to_string(i);
          const int64_t extent = pick(2) == 0 ? 1 : 3;
          const Shape shape{base[1], base[1], extent, extent};
          result.weights[name] = uniform(shape, engine());
          values.push_back(g.conv2d(a, g.parameter(name, shape), {.padding = extent / 2}));
          break;
        }
        [[fallthrough]];
      default: values.push_back(g.binary(binary, a, any()));
    }
  }
  g.output("last", values.back());
  for (size_t i = 0, count = pick(3); i < count; ++i)
    g.output("out" + std::to_string(i), values[pick(values.size())]);
  return result;
}

// Each node compiled and run by itself: nothing is fused and no memory is shared.
TensorMap node_by_node(const RandomGraph& random, Device device) {
  std::vector<Tensor> results;
  for (const Node& node : random.graph.nodes()) {
    if (node.kind == NodeKind::input || node.kind == NodeKind::parameter) {
      results.push_back((node.kind == NodeKind::input ? random.inputs : random.weights).at(node.name));
      continue;
    }
    Graph single;
    TensorMap inputs, weights;
    Node copy = node;
    for (size_t i = 0; i < copy.inputs.size(); ++i) {
      const Tensor& given = results[static_cast<size_t>(node.inputs[i].node)];
      const std::string name = "in" + std::to_string(i);
      const bool is_weight = node.kind == NodeKind::conv2d && i == 1;
      copy.inputs[i] = is_weight ? single.parameter(name, given.shape()) : single.input(name, given.shape());
      (is_weight ? weights : inputs)[name] = given;
    }
    single.output("y", single.append(copy));
    results.push_back(run(single, weights, inputs, {.device = device, .fuse = false, .capture = false}));
  }
  TensorMap outputs;
  for (const auto& [name, value] : random.graph.outputs())
    outputs[name] = results[static_cast<size_t>(value.node)];
  return outputs;
}

bool agree(const TensorMap& a, const TensorMap& b) {
  return std::all_of(a.begin(), a.end(),
                     [&](const auto& entry) { return same_bits(entry.second, b.at(entry.first)); });
}

void check_graphs(Device device, int64_t count, bool one_by_one) {
  const int64_t first = env_or("SOLDER_SEED", 1);
  const int64_t last = first + env_or("SOLDER_GRAPHS", count);
  int64_t num_nodes = 0, num_fused = 0;
  for (int64_t seed = first; seed < last; ++seed) {
    const RandomGraph random = random_graph(static_cast<uint64_t>(seed));
    bool right = false;
    std::string what;
    try {
      const Model fused = compile(random.graph, random.weights, {.device = device, .capture = false});
      const Model plain =
          compile(random.graph, random.weights, {.device = device, .fuse = false, .capture = false});
      num_nodes += static_cast<int64_t>(plain.graph().nodes().size());
      num_fused += static_cast<int64_t>(fused.graph().nodes().size());
      const TensorMap result = fused.session().run(random.inputs);
      right = agree(result, plain.session().run(random.inputs)) &&
              (!one_by_one || agree(result, node_by_node(random, device)));
    } catch (const Error& error) {
      what = error.what();
    }
    if (right) continue;
    FAIL("seed ", seed, " on ", to_string(device), ": ", what, " repeat with SOLDER_SEED=", seed,
         " SOLDER_GRAPHS=1 build/solder_tests --test-case='*random graphs*'\n", dump(random.graph));
  }
  std::printf("random graphs on %s: %lld from seed %lld, %lld nodes, %lld after fusion\n",
              to_string(device).c_str(), static_cast<long long>(last - first), static_cast<long long>(first),
              static_cast<long long>(num_nodes), static_cast<long long>(num_fused));
}

}  // namespace

TEST_CASE("random graphs on the CPU: fused, unfused and node by node agree bit for bit") {
  check_graphs(Device::cpu(), 10000, true);
}

GPU_TEST_CASE("random graphs on the GPU: fused and unfused agree bit for bit") {
  check_graphs(Device::cuda(0), 1000, false);
}
