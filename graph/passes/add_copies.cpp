#include <map>

#include "graph/nodes/node_def.h"
#include "graph/passes/passes.h"
#include "graph/value_view.h"

namespace solder {
namespace {

class Copier {
 public:
  explicit Copier(const Graph& graph) : graph_(graph) {}

  Graph run() {
    for (const Node& node : graph_.nodes()) {
      Node mine = node;
      for (size_t i = 0; i < node.inputs.size(); ++i)
        mine.inputs[i] = usable(node.inputs[i], !takes(node, i, at(views_, renumbered(node.inputs[i])).view));
      if (!append_views(mine, &views_)) {  // of a dense copy, then
        mine.inputs[0] = usable(node.inputs[0], true);
        append_views(mine, &views_);
      }
      renumbered_.push_back(result_.append(std::move(mine)).node);
    }
    for (const auto& [name, value] : graph_.outputs()) {
      const bool is_view = node_def(graph_.maker(value).kind).view != nullptr;
      const bool lies_otherwise = is_view && !is_dense(at(views_, renumbered(value)).view);
      result_.append_output(name, usable(value, is_parameter(value) || lies_otherwise));
    }
    return std::move(result_);
  }

 private:
  // The value in the result.
  Value renumbered(Value value) const { return {renumbered_[static_cast<size_t>(value.node)], value.output}; }

  // Whether the value's memory is a parameter's, by itself or through views.
  bool is_parameter(Value value) const {
    const Value base = at(views_, renumbered(value)).base;
    return result_.maker(base).kind == NodeKind::parameter;
  }

  // The value in the result, or a copy of it, made once.
  Value usable(Value value, bool needs_copy) {
    if (!needs_copy) return renumbered(value);
    const auto [copy, is_new] = copies_.try_emplace({value.node, value.output});
    if (is_new) {
      const TensorType& type = graph_.type(value);
      Node node = copy_of(renumbered(value), type.shape, type.dtype, graph_.maker(value).name + "_copy");
      node.scaled = graph_.maker(value).scaled;
      append_views(node, &views_);
      copy->second = result_.append(std::move(node)).node;
    }
    return {copy->second, 0};
  }

  const Graph& graph_;
  Graph result_;
  ValueViews views_;                           // of the result
  std::vector<int> renumbered_;                // by node
  std::map<std::pair<int, int>, int> copies_;  // by value: the copy's node
};

}  // namespace

Graph add_copies(const Graph& graph) { return Copier(graph).run(); }

}  // namespace solder
