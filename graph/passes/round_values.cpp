#include <algorithm>
#include <map>
#include <tuple>

#include "graph/lower.h"
#include "graph/nodes/node_def.h"
#include "graph/passes/passes.h"
#include "graph/value_view.h"
#include "runtime/check.h"

namespace solder {
namespace {

bool is_view(const Node& node) { return node_def(node.kind).view != nullptr; }

// A view, or a copy.
bool is_view_or_copy(const Node& node) {
  const bool is_copy = node.num_own_inputs() == 0 && node.inputs.size() == 1 && node.outputs.size() == 1 &&
                       node.epilogue.region.exprs.empty();
  return is_view(node) || is_copy;
}

bool reads(const Region& region, Arg arg, size_t but_output) {
  for (const Expr& expr : region.exprs)
    if (expr.a == arg || expr.b == arg) return true;
  for (size_t o = 0; o < region.outputs.size(); ++o)
    if (o != but_output && region.outputs[o] == arg) return true;
  return false;
}

// Region with operand `arg` rounded before all else; whatever reads it reads the rounded value.
void round_operand(Region* region, Arg arg, Op round) {
  const auto later = [&](Arg& read) {
    if (read == arg)
      read = Arg::expr(0);
    else if (read.kind == Arg::Kind::expr)
      ++read.index;
  };
  for (Expr& expr : region->exprs) later(expr.a), later(expr.b);
  for (Arg& output : region->outputs) later(output);
  region->exprs.insert(region->exprs.begin(), {round, arg, {}, 0, 0});
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
      // What a sum of 16-bit tensors multiplies is stored in those.
      for (size_t input = is_declared(node) ? 2 : 0; input < node.inputs.size(); ++input)
        at(is_read_, node.inputs[input]) = true;
      // fuse() puts a sum last that its own epilogue reads as it is stored.
      if (node_def(node.kind).is_narrow != nullptr && node.outputs.size() > 1) is_read_[i].back() = true;
    }
  }

  Graph run() {
    for (size_t i = 0; i < graph_.nodes().size(); ++i) append(i);
    for (const auto& [name, value] : graph_.outputs())
      result_.append_output(name, stored_as(value, graph_.type(value).dtype));
    return std::move(result_);
  }

 private:
  // Whether the node is a sum that widen() has made of 16-bit tensors.
  static bool is_declared(const Node& node) {
    const auto is_narrow = node_def(node.kind).is_narrow;
    if (is_narrow == nullptr) return false;
    Attributes attributes = node.attributes;  // small, of these kinds
    return is_narrow(attributes);
  }

  // Whether the node reduces values to fewer, or computes from such and from parameters alone.
  bool is_statistic(const Node& node) const {
    if (node_def(node.kind).keeps_float32 != nullptr) return true;
    bool reads_one = false;
    for (const Value& input : node.inputs) {
      const bool is_one = is_statistic_[static_cast<size_t>(input.node)];
      if (!is_one && graph_.maker(input).kind != NodeKind::parameter) return false;
      reads_one = reads_one || is_one;
    }
    return reads_one;
  }

  // Appends the node with what it hands on rounded: as it is stored, or by a node behind it.
  void append(size_t i) {
    const Node& node = graph_.nodes()[i];
    const NodeDef& def = node_def(node.kind);
    Node mine = node;
    for (Value& input : mine.inputs) input = at(moved_, input);
    if (def.is_narrow != nullptr && !is_declared(node)) {
      for (size_t input : {0, 1}) mine.inputs[input] = factor(i, input);
      def.is_narrow(mine.attributes) = !is_statistic_[i];
    }
    const std::vector<bool> is_due = find_due(i);
    if (def.takes_epilogue) {
      for (size_t o = 0; o < node.outputs.size(); ++o)
        if (is_due[o] || hands_on(i)) store_in_16_bits(&mine, o);
    } else if (!node.is_given() && node.outputs[0].dtype == DType::float32) {
      settle_types(i, is_due[0], &mine);
    }
    moved_.emplace_back();
    const bool is_stored = mine.outputs[0].dtype != DType::float32;
    const int index = result_.append(std::move(mine)).node;
    for (int o = 0; o < static_cast<int>(node.outputs.size()); ++o) moved_[i].push_back({index, o});
    if (is_due[0] && !is_stored) moved_[i][0] = stored_as({static_cast<int>(i), 0}, dtype_);
  }

  // By output: whether it is to be rounded here; and into is_rounded_ whether it is then, or has been.
  std::vector<bool> find_due(size_t i) {
    const Node& node = graph_.nodes()[i];
    const NodeDef& def = node_def(node.kind);
    const bool keeps = is_view_or_copy(node) || (def.selects != nullptr && def.selects(node));
    const auto is_rounded = [&](const Value& input) { return at(is_rounded_, input); };
    const bool keeps_rounded = keeps && std::ranges::all_of(node.inputs, is_rounded);
    std::vector<bool> is_due(node.outputs.size());
    for (size_t o = 0; o < node.outputs.size(); ++o) {
      is_due[o] = !is_declared(node) && !is_statistic_[i] && !node.is_given() && !is_view(node) &&
                  is_read_[i][o] && !keeps_rounded && node.outputs[o].dtype == DType::float32;
      is_rounded_[i][o] = is_due[o] || keeps_rounded;
    }
    return is_due;
  }

  // Whether the node is a copy for others to read, which stay with what was stored.
  bool hands_on(size_t i) const {
    const Node& node = graph_.nodes()[i];
    return is_view_or_copy(node) && is_read_[i][0] && type_of(node.inputs[0]) == dtype_ &&
           node.outputs[0].dtype == DType::float32;
  }

  // What is stored is what is read later on, by the region itself too; but not where an operand is passed on.
  void store_in_16_bits(Node* mine, size_t output) const {
    Region& region = mine->epilogue.region;
    mine->outputs[output].dtype = dtype_;
    const Arg arg = region.outputs[output];
    if (arg.kind != Arg::Kind::operand || !reads(region, arg, output)) return;
    const Value operand = mine->operands()[static_cast<size_t>(arg.index)];
    if (result_.type(operand).dtype != dtype_) round_operand(&region, arg, rounding_to(dtype_));
  }

  // Of a kind without an epilogue, whose inputs have one dtype: 16 bits where that is what it hands on and what it
  // reads, or may read; otherwise float32. Statistics of either are float32.
  void settle_types(size_t i, bool is_due, Node* mine) {
    const Node& node = graph_.nodes()[i];
    const NodeDef& def = node_def(node.kind);
    const auto is_stored = [&](const Value& input) { return type_of(input) == dtype_; };
    const bool are_stored = std::ranges::all_of(node.inputs, is_stored);
    const bool selects = def.selects != nullptr && def.selects(node);
    if (def.keeps_float32 != nullptr) {
      def.keeps_float32(mine->attributes) = are_stored;
    } else if (!is_view(node)) {
      const bool is_narrow = selects ? is_due || are_stored : is_due && are_stored;
      for (size_t input = 0; input < node.inputs.size(); ++input)
        mine->inputs[input] = stored_as(node.inputs[input], is_narrow ? dtype_ : DType::float32);
    }
    mine->outputs = def.infer(*mine, input_types(result_, *mine));
  }

  DType type_of(Value original) const { return result_.type(at(moved_, original)).dtype; }

  // The value as it lies in the result, or a copy of it, made once for all that want it so.
  Value stored_as(Value original, DType dtype) {
    const Value value = at(moved_, original);
    const TensorType& type = result_.type(value);
    if (type.dtype == dtype) return value;
    const auto [made, is_new] = copies_.try_emplace({value.node, value.output, dtype});
    if (is_new)
      made->second = result_.append(
          copy_of(value, type.shape, dtype, str(graph_.maker(original).name, " ", to_string(dtype))));
    return made->second;
  }

  // What the convolution or matmul `i` multiplies: weights are rounded; statistics are float32, and so is what is beside
  // them where the product is one; the rest is as it is stored, rounded once for all that read it.
  Value factor(size_t i, size_t input) {
    const Value original = graph_.nodes()[i].inputs[input];
    const bool is_weights = input == 1 && graph_.maker(original).kind == NodeKind::parameter;
    if (is_weights || at(is_rounded_, original)) return at(moved_, original);
    const bool is_wide = is_statistic_[i] || is_statistic_[static_cast<size_t>(original.node)];
    return stored_as(original, is_wide ? DType::float32 : dtype_);
  }

  const Graph& graph_;
  const DType dtype_;
  Graph result_;
  std::vector<std::vector<bool>> is_read_;     // by value: by a node that computes, through views too
  std::vector<std::vector<bool>> is_rounded_;  // by value
  std::vector<bool> is_statistic_;             // by node
  std::vector<std::vector<Value>> moved_;      // by value: where it is in the result
  std::map<std::tuple<int, int, DType>, Value> copies_;  // by value of the result
};

}  // namespace

Graph round_values(const Graph& graph, Math math) {
  return is_16_bit(math) ? Rounder(graph, dtype_of(math)).run() : graph;
}

}  // namespace solder
