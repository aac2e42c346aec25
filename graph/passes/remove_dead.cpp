#include "graph/passes/passes.h"

namespace solder {

Graph remove_dead(const Graph& graph) {
  const std::vector<Node>& nodes = graph.nodes();
  std::vector<bool> needed(nodes.size(), false);
  for (const auto& [name, value] : graph.outputs()) needed[static_cast<size_t>(value.node)] = true;
  for (size_t i = nodes.size(); i-- > 0;) {
    if (nodes[i].is_given()) needed[i] = true;
    if (!needed[i]) continue;
    for (const Value& input : nodes[i].inputs) needed[static_cast<size_t>(input.node)] = true;
  }
  std::vector<int> renumbered(nodes.size(), -1);
  Graph result;
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (!needed[i]) continue;
    Node node = nodes[i];
    for (Value& input : node.inputs) input = {renumbered[static_cast<size_t>(input.node)], input.output};
    renumbered[i] = result.append(std::move(node)).node;
  }
  for (const auto& [name, value] : graph.outputs())
    result.append_output(name, {renumbered[static_cast<size_t>(value.node)], value.output});
  return result;
}

}  // namespace solder
