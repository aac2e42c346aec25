// Random graphs of every dtype. In float32, fused, unfused and (on the CPU) node by node agree bit for bit.
// With 16-bit values a fused region rounds where it stores or casts and nowhere else, so two proofs take the
// place of one: the passes keep what is computed (same_computation), and the result has the bits of the fused
// graph written out in float32, a node an expression, with its roundings spelled out (expanded).
// SOLDER_GRAPHS sets how many, SOLDER_SEED the first seed; a failure prints the command that repeats it.

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <tuple>

#include "graph/nodes/node_def.h"
#include "graph/passes/passes.h"
#include "tests/cases/random_graph.h"
#include "tests/support/expanded.h"

using namespace solder;
using namespace solder::test;

namespace {

int64_t env_or(const char* name, int64_t fallback) {
  const char* value = std::getenv(name);
  return value != nullptr ? std::atoll(value) : fallback;
}

// Numbers the values of graphs so that equal numbers mean the same computation on the same inputs, rounding
// on store left out. A view or a broadcast of a value is another value than the value itself.
class Numbering {
 public:
  // By name of the output.
  std::map<std::string, int> outputs_of(const Graph& graph) {
    std::vector<std::vector<int>> numbers;  // [node][output]
    for (const Node& node : graph.nodes()) {
      std::vector<int> inputs, operands;
      for (const Value& input : node.inputs)
        inputs.push_back(numbers[static_cast<size_t>(input.node)][static_cast<size_t>(input.output)]);
      if (node.kind == NodeKind::input || node.kind == NodeKind::parameter) {
        numbers.push_back({number({node.name, {}, {}, 0, 0})});
        continue;
      }
      const std::vector<int> own(inputs.begin(),
                                 inputs.begin() + static_cast<std::ptrdiff_t>(node.num_own_inputs()));
      const int result =
          own.empty()
              ? -1
              : number({str(to_string(node.kind), describe(graph, node)), own, node.outputs[0].shape, 0, 0});
      if (node.kind == NodeKind::conv2d || node.kind == NodeKind::matmul) sums_.insert(result);
      const Shape& space = node.outputs[0].shape;
      for (size_t i = 0; i < node.operands().size(); ++i) {
        const size_t input = i + node.num_own_inputs();
        const bool as_it_is =
            graph.type(node.inputs[input]).shape == space && node.epilogue.operand_shapes[i] == space;
        Shape view = node.epilogue.operand_shapes[i];
        view.insert(view.end(), space.begin(), space.end());
        operands.push_back(as_it_is ? inputs[input] : number({"view", {inputs[input]}, view, 0, 0}));
      }
      numbers.push_back(node.epilogue.region.outputs.empty()
                            ? std::vector{result}
                            : region_outputs(node.epilogue.region, result, operands));
    }
    std::map<std::string, int> outputs;
    for (const auto& [name, value] : graph.outputs())
      outputs[name] = numbers[static_cast<size_t>(value.node)][static_cast<size_t>(value.output)];
    return outputs;
  }

 private:
  using Key = std::tuple<std::string, std::vector<int>, Shape, float, float>;

  int number(const Key& key) {
    return numbers_.emplace(key, static_cast<int>(numbers_.size())).first->second;
  }

  std::vector<int> region_outputs(const Region& region, int result, const std::vector<int>& operands) {
    std::vector<int> exprs;
    const auto of = [&](const Arg& arg) {
      switch (arg.kind) {
        case Arg::Kind::result: return result;
        case Arg::Kind::operand: return operands[static_cast<size_t>(arg.index)];
        case Arg::Kind::expr: return exprs[static_cast<size_t>(arg.index)];
        case Arg::Kind::immediate: return number({"number", {}, {}, arg.value, 0});
        default: return -1;
      }
    };
    for (const Expr& expr : region.exprs) {
      const bool twice = expr.op == Op::double_mish;
      const std::string name = twice ? "mish" : to_string(expr.op);
      const bool rounds_sum =
          !is_binary(expr.op) && !op_info(expr.op).is_callable && sums_.count(of(expr.a)) > 0;
      if (rounds_sum) {
        exprs.push_back(of(expr.a));
        continue;
      }
      const int once = number({name, {of(expr.a), of(expr.b)}, {}, twice ? 0 : expr.p, expr.q});
      exprs.push_back(twice ? number({name, {once, -1}, {}, 0, 0}) : once);
    }
    std::vector<int> outputs;
    for (const Arg& output : region.outputs) outputs.push_back(of(output));
    return outputs;
  }

  std::map<Key, int> numbers_;
  std::set<int>
      sums_;  // of 16-bit tensors they are rounded when they are stored, and that is spelled out or not
};

bool same_computation(const Graph& a, const Graph& b) {
  Numbering numbering;
  return numbering.outputs_of(a) == numbering.outputs_of(b);
}

// The graph as compile() makes it of this one before it fuses: what parameters alone determine is computed, and
// weights of 16 bits are float32. conv: the family that computes constants, too, as another adds in another order.
RandomGraph folded(const RandomGraph& random, Device device, const std::string& conv) {
  const CompileOptions options{.device = device, .conv = conv};
  Constants constants(random.graph, random.weights);
  RandomGraph result{widen(fold_constants(remove_dead(random.graph), options, &constants), true, &constants),
                     {},
                     random.inputs,
                     random.is_float32};
  for (const Node& node : result.graph.nodes())
    if (node.kind == NodeKind::parameter) result.weights[node.name] = constants.at(node.name);
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
      const bool is_weight = node.kind == NodeKind::conv2d && i >= 1;
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

// What differs, or nothing.
std::string difference(const TensorMap& a, const TensorMap& b, const char* what) {
  for (const auto& [name, tensor] : a)
    if (!same_bits(tensor, b.at(name))) return name + " differs from " + what;
  return "";
}

// With every value given out, each is what its readers used: then fusion changes no bit of 16-bit graphs either.
std::string check_all_given_out(const RandomGraph& random, Device device, const std::string& conv) {
  Graph graph = random.graph;
  for (size_t i = 0; i < graph.nodes().size(); ++i)
    graph.output("value " + std::to_string(i), {static_cast<int>(i), 0});
  const auto run_with = [&](bool fuse) {
    return compile(graph, random.weights, {.device = device, .fuse = fuse, .conv = conv, .capture = false})
        .session()
        .run(random.inputs);
  };
  return difference(run_with(true), run_with(false), "unfused, where all values are given out");
}

struct Counts {
  int64_t nodes = 0, fused_nodes = 0, mixed_graphs = 0;
};

// What is wrong with the graph of this seed, or nothing.
std::string check_graph(const RandomGraph& random, Device device, Counts* counts) {
  // The oracle of 16-bit graphs is in float32, and what has one result has several where all are given out: other kernels
  // may run there and add in another order. One family for all.
  const std::string conv = random.is_float32 || !device.is_cuda() ? "" : "im2col";
  const CompileOptions unfused{.device = device, .fuse = false, .conv = conv, .capture = false};
  const Model fused =
      compile(random.graph, random.weights, {.device = device, .conv = conv, .capture = false});
  counts->nodes += static_cast<int64_t>(random.graph.nodes().size());
  counts->fused_nodes += static_cast<int64_t>(fused.graph().nodes().size());
  counts->mixed_graphs += !random.is_float32;
  const RandomGraph base = folded(random, device, conv);
  if (!same_computation(base.graph, fused.graph())) return "fusion changed what is computed";
  const TensorMap result = fused.session().run(random.inputs);
  for (const auto& [name, value] : random.graph.outputs())
    if (result.at(name).dtype() != random.graph.type(value).dtype) return name + " has another dtype";
  if (!random.is_float32) {
    const Model oracle = compile(expanded(fused.graph()), base.weights, unfused);
    const std::string found =
        difference(result, oracle.session().run(random.inputs), "the fused graph written out in float32");
    return found.empty() ? check_all_given_out(random, device, conv) : found;
  }
  // The CPU's constants have the GPU's bits only where both compute alike.
  const RandomGraph& alike = device.is_cuda() ? base : random;
  const Model plain = compile(alike.graph, alike.weights, unfused);
  std::string found = difference(result, plain.session().run(random.inputs), "unfused");
  if (found.empty() && !device.is_cuda())
    found = difference(result, node_by_node(random, device), "node by node");
  return found;
}

void check_graphs(Device device, int64_t count) {
  const int64_t first = env_or("SOLDER_SEED", 1);
  const int64_t last = first + env_or("SOLDER_GRAPHS", count);
  std::atomic<int64_t> next{first};
  std::mutex mutex;
  Counts total;
  std::map<int64_t, std::string> failures;  // by seed
  const auto work = [&] {
    Counts counts;
    for (int64_t seed = next++; seed < last; seed = next++) {
      std::string wrong;
      try {
        wrong = check_graph(GraphGenerator(static_cast<uint64_t>(seed)).take(), device, &counts);
      } catch (const std::exception& error) {
        wrong = error.what();
      }
      if (wrong.empty()) continue;
      const std::lock_guard lock(mutex);
      failures[seed] = wrong;
      next = last;
    }
    const std::lock_guard lock(mutex);
    total.nodes += counts.nodes;
    total.fused_nodes += counts.fused_nodes;
    total.mixed_graphs += counts.mixed_graphs;
  };
  std::vector<std::thread> threads;
  // More than four threads on one GPU wait for the driver.
  const unsigned num_threads =
      std::clamp(std::thread::hardware_concurrency(), 1u, device.is_cuda() ? 4u : 64u);
  for (unsigned i = 0; i < num_threads; ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();

  if (!failures.empty()) {
    const auto& [seed, wrong] = *failures.begin();
    FAIL("seed ", seed, " on ", to_string(device), ": ", wrong, "; repeat with SOLDER_SEED=", seed,
         " SOLDER_GRAPHS=1 build/solder_tests --test-case='*random graphs on the ",
         device.is_cuda() ? "GPU" : "CPU", "*'\n",
         dump(GraphGenerator(static_cast<uint64_t>(seed)).take().graph));
  }
  std::printf(
      "random graphs on %s: %lld from seed %lld, %lld of mixed dtypes, %lld nodes, %lld after fusion\n",
      to_string(device).c_str(), static_cast<long long>(last - first), static_cast<long long>(first),
      static_cast<long long>(total.mixed_graphs), static_cast<long long>(total.nodes),
      static_cast<long long>(total.fused_nodes));
}

}  // namespace

TEST_CASE(
    "random graphs: every kind of node and every function is drawn, and most views are read as they lie") {
  std::map<NodeKind, int> kinds;
  std::map<Op, int> ops;
  int copies = 0;
  for (uint64_t seed = 1; seed <= 2000; ++seed) {
    const Graph graph = GraphGenerator(seed).take().graph;
    for (const Node& node : graph.nodes()) {
      ++kinds[node.kind];
      for (const Expr& expr : node.epilogue.region.exprs) ++ops[expr.op];
    }
    copies += static_cast<int>(add_copies(graph).nodes().size() - graph.nodes().size());
  }
  for (const NodeDef* def : node_defs()) {
    INFO(std::string(def->name));
    CHECK((kinds[def->kind] > 50) == (def->kind != NodeKind::batch_norm));  // its fold changes bits
  }
  for (const OpInfo& info : kOps) {
    INFO(std::string(info.name));
    CHECK((ops[info.op] > 50) == (is_unary(info.op) || is_binary(info.op)));
  }
  CHECK(copies < kinds[NodeKind::slice] + kinds[NodeKind::reshape] + kinds[NodeKind::permute]);
}

TEST_CASE(
    "random graphs, what one of them found: a 16-bit sum that is given out is what its fused readers read") {
  for (const Device device : devices()) {
    for (const DType dtype : {DType::float16, DType::bfloat16}) {
      Graph g, reader;
      const Value sum = g.linear(g.input("x", {5, 33}, dtype), g.parameter("w", {7, 33}, dtype));
      g.output("sum", sum);
      g.output("y", g.mul(sum, 1.7f));
      reader.output("y", reader.mul(reader.input("sum", {5, 7}, dtype), 1.7f));
      const TensorMap weights{{"w", uniform({7, 33}, 1).to(dtype)}};
      const TensorMap found =
          compile(g, weights, {.device = device}).session().run({{"x", uniform({5, 33}, 2).to(dtype)}});
      const Tensor expected = run(reader, {}, {{"sum", found.at("sum")}}, {.device = device});
      CHECK(same_bits(found.at("y"), expected));
    }
  }
}

TEST_CASE("random graphs on the CPU: fused, unfused and node by node agree bit for bit") {
  check_graphs(Device::cpu(), 10000);
}

GPU_TEST_CASE("random graphs on the GPU: fused and unfused agree bit for bit") {
  check_graphs(Device::cuda(0), 10000);
}
