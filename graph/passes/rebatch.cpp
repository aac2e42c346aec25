#include <algorithm>
#include <map>

#include "graph/nodes/batch_change.h"
#include "graph/nodes/node_def.h"
#include "graph/passes/passes.h"
#include "runtime/check.h"

namespace solder {
namespace {

// The graph for `to`, and by node of `graph` where its first output is.
Graph follow(const Graph& graph, int64_t from, int64_t to, std::vector<Value>* moved) {
  Graph result;
  std::vector<int64_t> outers;  // see BatchChange
  for (const Node& node : graph.nodes()) {
    Node mine = node;
    for (Value& input : mine.inputs) input = {(*moved)[static_cast<size_t>(input.node)].node, input.output};
    BatchChange change{&result, from, to, input_types(graph, node), {}};
    for (const Value& input : node.inputs) change.outers.push_back(outers[static_cast<size_t>(input.node)]);
    for (size_t i = node.inputs.size(); i-- > 0;)
      if (change.after(mine, i) != change.before[i].shape) change.outer = change.outers[i];
    if (const auto rebatch = node_def(node.kind).rebatch) rebatch(&mine, &change);
    moved->push_back(result.add_node(std::move(mine)));
    outers.push_back(change.outer);
  }
  for (const auto& [name, value] : graph.outputs())
    result.append_output(name, {(*moved)[static_cast<size_t>(value.node)].node, value.output});
  return result;
}

}  // namespace

int64_t batch_size(const Graph& graph) {
  std::map<int64_t, int> counts;
  for (const Node& node : graph.nodes())
    if (node.kind == NodeKind::input && !node.outputs[0].shape.empty()) ++counts[node.outputs[0].shape[0]];
  if (counts.size() > 1) counts.erase(1);  // what all images read
  const auto rarer = [](const auto& a, const auto& b) { return a.second < b.second; };
  const auto most = std::ranges::max_element(counts, rarer);
  const auto is_as_common = [&](const auto& count) { return count.second == most->second; };
  return std::ranges::count_if(counts, is_as_common) == 1 ? most->first : 0;
}

Graph rebatch(const Graph& graph, int64_t n) {
  SOLDER_REQUIRE(n > 0, invalid_argument, "batch: a batch of ", n, "; it must be positive");
  const int64_t from = batch_size(graph);
  if (from == 0) {
    std::string inputs;
    for (const Node& node : graph.nodes())
      if (node.kind == NodeKind::input)
        inputs += str(inputs.empty() ? "" : ", ", node.name, " ", to_string(node.outputs[0].shape));
    fail(ErrorKind::invalid_argument, str("batch: the graph has no batch size, which is the positive first "
                                          "extent that most of its inputs have: ",
                                          inputs));
  }
  std::vector<Value> moved;
  try {
    return n == from ? graph : follow(graph, from, n, &moved);
  } catch (const Error& error) {
    fail(error.kind(),
         str("batch: of a graph for a batch of ", from, " there is none for ", n, ": ", error.message()));
  }
}

std::vector<bool> follows_batch(const Graph& graph) {
  std::vector<bool> follows(graph.nodes().size());
  const int64_t from = batch_size(graph);
  if (from == 0) return follows;
  std::vector<Value> moved;
  try {
    const Graph other = follow(graph, from, from + 1, &moved);
    for (size_t i = 0; i < follows.size(); ++i)
      follows[i] = other.type(moved[i]) != graph.nodes()[i].outputs[0];
  } catch (const Error&) {  // there is none for any other
  }
  return follows;
}

}  // namespace solder
