#include <map>

#include "graph/nodes/node_def.h"
#include "graph/passes/passes.h"

namespace solder {
Graph widen(const Graph& graph) {
  Graph result;
  std::vector<Value> moved;   // by node: its first output in the result
  std::map<int, Value> wide;  // by parameter of the result: its cast
  const auto widened = [&](Value weights) {
    const auto [cast, is_new] = wide.try_emplace(weights.node);
    if (is_new) {
      cast->second = result.cast(weights, DType::float32);
      result.name(cast->second, result.nodes()[static_cast<size_t>(weights.node)].name);
    }
    return cast->second;
  };
  for (const Node& node : graph.nodes()) {
    Node mine = node;
    for (Value& input : mine.inputs) input = {moved[static_cast<size_t>(input.node)].node, input.output};
    const auto is_narrow = node_def(node.kind).is_narrow;
    if (is_narrow != nullptr && graph.type(node.inputs[0]).dtype != DType::float32) {
      is_narrow(mine.attributes) = true;
      if (result.nodes()[static_cast<size_t>(mine.inputs[1].node)].kind == NodeKind::parameter)
        mine.inputs[1] = widened(mine.inputs[1]);
    }
    moved.push_back(result.append(std::move(mine)));
  }
  for (const auto& [name, value] : graph.outputs())
    result.append_output(name, {moved[static_cast<size_t>(value.node)].node, value.output});
  return result;
}

}  // namespace solder
