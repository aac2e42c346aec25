#include <map>

#include "graph/nodes/node_def.h"
#include "graph/passes/passes.h"

namespace solder {
Graph widen(const Graph& graph) {
  Graph result;
  std::vector<Value> moved;                   // by node: its first output in the result
  std::map<std::pair<int, int>, Value> wide;  // by value of the result: its cast
  const auto widened = [&](Value value) {
    const auto [cast, is_new] = wide.try_emplace({value.node, value.output});
    if (is_new) {
      cast->second = result.cast(value, DType::float32);
      if (result.nodes()[static_cast<size_t>(value.node)].kind != NodeKind::parameter) return cast->second;
      result.name(cast->second, result.nodes()[static_cast<size_t>(value.node)].name);
    }
    return cast->second;
  };
  for (const Node& node : graph.nodes()) {
    Node mine = node;
    for (Value& input : mine.inputs) input = {moved[static_cast<size_t>(input.node)].node, input.output};
    const auto is_narrow = node_def(node.kind).is_narrow;
    if (is_narrow == nullptr || graph.type(node.inputs[0]).dtype == DType::float32) {
      moved.push_back(result.append(std::move(mine)));
      continue;
    }
    for (Value& input : mine.inputs) input = widened(input);
    is_narrow(mine.attributes) = true;
    mine.outputs[0].dtype = DType::float32;
    const Value sum = result.append(std::move(mine));
    // Not a cast, whose rounding would stay where more is fused: what is stored in the end is rounded once.
    moved.push_back(result.append(copy_of(sum, node.outputs[0].shape, node.outputs[0].dtype, node.name)));
  }
  for (const auto& [name, value] : graph.outputs())
    result.output(name, {moved[static_cast<size_t>(value.node)].node, value.output});
  return result;
}

}  // namespace solder
