#include <algorithm>
#include <map>

#include "graph/nodes/node_def.h"
#include "graph/passes/passes.h"

namespace solder {
namespace {

// Whether a tensor has one value for each index of one axis, as a bias does.
bool is_vector(const Shape& shape) {
  return std::ranges::count_if(shape, [](int64_t extent) { return extent != 1; }) <= 1;
}

}  // namespace

Graph widen(const Graph& graph, bool folds, Constants* constants) {
  Graph result;
  std::vector<Value> moved;   // by node: its first output in the result
  std::map<int, Value> wide;  // by parameter of the result: the same in float32
  const auto is_narrow_parameter = [&](Value value) {
    const Node& maker = result.maker(value);
    return maker.kind == NodeKind::parameter && maker.outputs[0].dtype != DType::float32;
  };
  const auto widened = [&](Value parameter) {
    const auto [known, is_new] = wide.try_emplace(parameter.node);
    if (!is_new) return known->second;
    const std::string name = result.maker(parameter).name;
    return known->second =
               constants->append_to(result, name, constants->at(name).to(Device::cpu()).to(DType::float32));
  };
  for (const Node& node : graph.nodes()) {
    Node mine = node;
    for (Value& input : mine.inputs) input = {moved[static_cast<size_t>(input.node)].node, input.output};
    const auto is_narrow = node_def(node.kind).is_narrow;
    if (is_narrow != nullptr && graph.type(node.inputs[0]).dtype != DType::float32) {
      is_narrow(mine.attributes) = true;
      if (is_narrow_parameter(mine.inputs[1])) mine.inputs[1] = widened(mine.inputs[1]);
    }
    for (size_t i = node.num_own_inputs(); folds && i < mine.inputs.size(); ++i)
      if (is_vector(graph.type(node.inputs[i]).shape) && is_narrow_parameter(mine.inputs[i]))
        mine.inputs[i] = widened(mine.inputs[i]);
    moved.push_back(result.append(std::move(mine)));
  }
  for (const auto& [name, value] : graph.outputs())
    result.append_output(name, {moved[static_cast<size_t>(value.node)].node, value.output});
  return remove_dead(result);
}

}  // namespace solder
