#include <map>

#include "graph/nodes/node_def.h"
#include "graph/passes/passes.h"
#include "graph/value_view.h"

namespace solder {
namespace {

class Copier {
 public:
  explicit Copier(const Graph& graph) : graph_(graph), views_(value_views(graph)) {}

  Graph run() {
    for (const Node& node : graph_.nodes()) {
      Node mine = node;
      const NodeDef& def = node_def(node.kind);
      const size_t num_own = node.num_own_inputs();
      TensorView unused;
      for (size_t i = 0; i < node.inputs.size(); ++i) {
        const bool needs_dense = i < num_own ? def.takes == TakesStrides::dense
                                             : !view_as(view_of(node.inputs[i]).view,
                                                        node.epilogue.operand_shapes[i - num_own], &unused);
        mine.inputs[i] = usable(node.inputs[i], needs_dense, false);
      }
      renumbered_.push_back(result_.append(std::move(mine)).node);
    }
    for (const auto& [name, value] : graph_.outputs()) result_.output(name, usable(value, true, true));
    return std::move(result_);
  }

 private:
  const Node& node_of(Value value) const { return graph_.nodes()[static_cast<size_t>(value.node)]; }

  const ValueView& view_of(Value value) const {
    return views_[static_cast<size_t>(value.node)][static_cast<size_t>(value.output)];
  }

  // Whether the value's memory is a parameter's, by itself or through views.
  bool is_parameter(Value value) const { return node_of(view_of(value).base).kind == NodeKind::parameter; }

  // The value in the result, or a copy of it, made once.
  Value usable(Value value, bool needs_dense, bool needs_own) {
    const Value mine{renumbered_[static_cast<size_t>(value.node)], value.output};
    if (!(needs_dense && !is_dense(view_of(value).view)) && !(needs_own && is_parameter(value))) return mine;
    const auto [copy, is_new] = copies_.try_emplace({value.node, value.output});
    if (is_new) {
      Node node{.kind = NodeKind::elementwise,
                .name = node_of(value).name + "_copy",
                .inputs = {mine},
                .outputs = {graph_.type(value)}};
      node.epilogue.operand_shapes = {graph_.type(value).shape};
      node.epilogue.region.outputs = {Arg::operand(0)};
      copy->second = result_.append(std::move(node)).node;
    }
    return {copy->second, 0};
  }

  const Graph& graph_;
  Graph result_;
  const std::vector<std::vector<ValueView>> views_;
  std::vector<int> renumbered_;                // by node
  std::map<std::pair<int, int>, int> copies_;  // by value: the copy's node
};

}  // namespace

Graph add_copies(const Graph& graph) { return Copier(graph).run(); }

}  // namespace solder
