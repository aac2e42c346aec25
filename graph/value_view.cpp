#include "graph/value_view.h"

#include "graph/nodes/node_def.h"

namespace solder {

std::vector<std::vector<ValueView>> value_views(const Graph& graph) {
  std::vector<std::vector<ValueView>> views;
  views.reserve(graph.nodes().size());
  for (const Node& node : graph.nodes()) {
    std::vector<ValueView>& mine = views.emplace_back();
    if (const auto view = node_def(node.kind).view) {
      const Value input = node.inputs[0];
      ValueView result = views[static_cast<size_t>(input.node)][static_cast<size_t>(input.output)];
      int64_t offset = 0;
      result.view = view(node, result.view, &offset);
      result.offset_elems += offset;
      mine.push_back(std::move(result));
      continue;
    }
    const int index = static_cast<int>(views.size()) - 1;
    for (const TensorType& type : node.outputs)
      mine.push_back(
          {{index, static_cast<int>(mine.size())}, 0, dense_view(nullptr, type.dtype, type.shape)});
  }
  return views;
}

}  // namespace solder
