#include <algorithm>
#include <map>

#include "graph/lower.h"
#include "graph/nodes/node_def.h"
#include "graph/passes/passes.h"
#include "runtime/check.h"

namespace solder {
namespace {

bool is_view(const Node& node) { return node_def(node.kind).view != nullptr; }

// A view, or what add_copies() puts behind one.
bool is_view_or_copy(const Node& node) {
  const bool is_copy = node.num_own_inputs() == 0 && node.inputs.size() == 1 && node.outputs.size() == 1 &&
                       node.epilogue.region.exprs.empty();
  return is_view(node) || is_copy;
}

// Region with `arg` rounded as soon as it is there; all that reads it later reads the rounded value.
void round_in(Region* region, Arg arg, Op round) {
  const bool is_expr = arg.kind == Arg::Kind::expr;
  if (is_expr && region->exprs[static_cast<size_t>(arg.index)].op == round) return;
  const int place = is_expr ? arg.index + 1 : 0;
  const auto later = [&](Arg& read) {
    if (read == arg)
      read = Arg::expr(place);
    else if (read.kind == Arg::Kind::expr && read.index >= place)
      ++read.index;
  };
  for (size_t i = static_cast<size_t>(place); i < region->exprs.size(); ++i)
    later(region->exprs[i].a), later(region->exprs[i].b);
  for (Arg& output : region->outputs) later(output);
  region->exprs.insert(region->exprs.begin() + place, {round, arg, {}, 0, 0});
}

class Rounder {
 public:
  Rounder(const Graph& graph, DType dtype) : graph_(graph), dtype_(dtype) {
    for (const Node& node : graph.nodes()) {
      is_read_.emplace_back(node.outputs.size());
      is_rounded_.emplace_back(node.outputs.size());
      is_statistic_.push_back(is_statistic(node));
    }
    for (size_t i = graph.nodes().size(); i-- > 0;) {
      const Node& node = graph.nodes()[i];
      if (is_view_or_copy(node) && !is_read_[i][0]) continue;  // only given out
      // What a sum of 16-bit tensors multiplies are those, widened for it alone.
      for (size_t input = is_declared(node) ? 2 : 0; input < node.inputs.size(); ++input)
        at(is_read_, node.inputs[input]) = true;
    }
  }

  Graph run() {
    for (size_t i = 0; i < graph_.nodes().size(); ++i) {
      const Node& node = graph_.nodes()[i];
      Node mine = node;
      for (Value& input : mine.inputs) input = at(moved_, input);
      const auto is_narrow = node_def(node.kind).is_narrow;
      if (is_narrow != nullptr && !is_declared(node)) {
        for (size_t input : {0, 1}) mine.inputs[input] = factor(node, input);
        is_narrow(mine.attributes) = !is_statistic_[i];
      }
      append(i, std::move(mine));
    }
    for (const auto& [name, value] : graph_.outputs()) result_.output(name, at(moved_, value));
    return std::move(result_);
  }

 private:
  template <class T>
  static auto at(T& by_node, Value value) -> decltype(by_node[0][0]) {
    return by_node[static_cast<size_t>(value.node)][static_cast<size_t>(value.output)];
  }
  const Node& node_of(Value value) const { return graph_.nodes()[static_cast<size_t>(value.node)]; }

  // Whether the node is a sum that widen() has made of 16-bit tensors.
  static bool is_declared(const Node& node) {
    const auto is_narrow = node_def(node.kind).is_narrow;
    if (is_narrow == nullptr) return false;
    Attributes attributes = node.attributes;  // small, of these kinds
    return is_narrow(attributes);
  }

  // Whether the node reduces values to fewer, or computes from such and from parameters alone.
  bool is_statistic(const Node& node) const {
    if (node_def(node.kind).reduces) return true;
    bool reads_one = false;
    for (const Value& input : node.inputs) {
      const bool is_one = is_statistic_[static_cast<size_t>(input.node)];
      if (!is_one && node_of(input).kind != NodeKind::parameter) return false;
      reads_one = reads_one || is_one;
    }
    return reads_one;
  }

  // Appends the node with what it hands on rounded: in its region, or by a node behind it.
  void append(size_t i, Node mine) {
    const Node& node = graph_.nodes()[i];
    const NodeDef& def = node_def(node.kind);
    const bool keeps = is_view_or_copy(node) || (def.selects != nullptr && def.selects(node));
    std::vector<bool> is_due(node.outputs.size());
    for (size_t o = 0; o < node.outputs.size(); ++o) {
      const auto read_rounded = [&](const Value& input) { return at(is_rounded_, input); };
      is_rounded_[i][o] = keeps && std::all_of(node.inputs.begin(), node.inputs.end(), read_rounded);
      is_due[o] = !is_declared(node) && !is_statistic_[i] && !node.is_given() && !is_view(node) &&
                  is_read_[i][o] && !is_rounded_[i][o] && node.outputs[o].dtype == DType::float32;
      if (!is_due[o]) continue;
      is_rounded_[i][o] = true;
      if (def.takes_epilogue)
        round_in(&mine.epilogue.region, mine.epilogue.region.outputs[o], rounding_to(dtype_));
    }
    const int index = result_.append(std::move(mine)).node;
    moved_.emplace_back();
    for (size_t o = 0; o < node.outputs.size(); ++o) {
      const Value value{index, static_cast<int>(o)};
      moved_[i].push_back(is_due[o] && !def.takes_epilogue ? rounded_copy(value, node.name) : value);
    }
  }

  Value rounded_copy(Value value, const std::string& name) {
    Node node = copy_of(value, result_.type(value).shape, DType::float32, name);
    round_in(&node.epilogue.region, Arg::operand(0), rounding_to(dtype_));
    return result_.append(std::move(node));
  }

  // What a convolution or matmul multiplies: weights are rounded, the rest is as it is stored; rounded once for all
  // that read it.
  Value factor(const Node& node, size_t input) {
    const Value original = node.inputs[input];
    const Node& maker = node_of(original);
    const bool is_weights = input == 1 && maker.kind == NodeKind::parameter;
    if (is_weights || at(is_rounded_, original) || is_statistic_[static_cast<size_t>(original.node)])
      return at(moved_, original);
    const auto [made, is_new] = factors_.try_emplace({original.node, original.output});
    if (is_new) made->second = rounded_copy(at(moved_, original), str(maker.name, " ", to_string(dtype_)));
    return made->second;
  }

  const Graph& graph_;
  const DType dtype_;
  Graph result_;
  std::vector<std::vector<bool>> is_read_;     // by value: by a node that computes, through views too
  std::vector<std::vector<bool>> is_rounded_;  // by value
  std::vector<bool> is_statistic_;             // by node
  std::vector<std::vector<Value>> moved_;      // by value: where it is in the result
  std::map<std::pair<int, int>, Value> factors_;
};

}  // namespace

Graph round_values(const Graph& graph, Math math) {
  return is_16_bit(math) ? Rounder(graph, dtype_of(math)).run() : graph;
}

}  // namespace solder
