#include <array>

#include "graph/nodes/node_def.h"

namespace solder {

extern const NodeDef kInputNode, kParameterNode, kConv2dNode, kMatmulNode, kElementwiseNode, kSliceNode;

namespace {

constexpr std::array kTable = {&kInputNode,  &kParameterNode,   &kConv2dNode,
                               &kMatmulNode, &kElementwiseNode, &kSliceNode};
static_assert(kTable.size() == static_cast<size_t>(NodeKind::slice) + 1, "one row a kind, in its order");

}  // namespace

const NodeDef& node_def(NodeKind kind) { return *kTable[static_cast<size_t>(kind)]; }

std::span<const NodeDef* const> node_defs() { return kTable; }

const char* to_string(NodeKind kind) { return node_def(kind).name; }

std::vector<TensorType> input_types(const Graph& graph, const Node& node) {
  std::vector<TensorType> types;
  for (const Value& input : node.inputs) types.push_back(graph.type(input));
  return types;
}

std::string describe(const Graph& graph, const Node& node) {
  std::string text;
  for (size_t i = 0; i < node.num_own_inputs(); ++i)
    text += (i ? ", " : " ") + to_string(graph.type(node.inputs[i]));
  const auto attributes = node_def(node.kind).attributes;
  return attributes != nullptr ? text + attributes(node) : text;
}

}  // namespace solder
