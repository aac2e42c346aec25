#include <algorithm>

#include "graph/model.h"
#include "graph/nodes/node_def.h"
#include "graph/passes/passes.h"

namespace solder {
namespace {

class Folder {
 public:
  Folder(const Graph& graph, const CompileOptions& options, Constants* constants)
      : graph_(graph),
        options_(options),
        constants_(*constants),
        is_constant_(graph.nodes().size()),
        folds_(is_constant_.size()) {}

  Graph run() {
    find();
    if (std::ranges::none_of(folds_, [](bool folds) { return folds; })) return graph_;
    const TensorMap values = evaluate();
    Graph result;
    std::vector<int> renumbered;
    for (size_t i = 0; i < graph_.nodes().size(); ++i) {
      Node node = graph_.nodes()[i];
      if (folds_[i]) {
        const std::string name = constants_.add(node.name, values.at(std::to_string(i)));
        node = {.kind = NodeKind::parameter, .name = name, .outputs = std::move(node.outputs)};
      }
      for (Value& input : node.inputs) input.node = renumbered[static_cast<size_t>(input.node)];
      renumbered.push_back(result.append(std::move(node)).node);
    }
    for (const auto& [name, value] : graph_.outputs())
      result.append_output(name, {renumbered[static_cast<size_t>(value.node)], value.output});
    return remove_dead(result);
  }

 private:
  // What folds is no larger than this, or than twice its largest input: an expanded parameter stays a view of it.
  static constexpr int64_t kSmallBytes = int64_t{64} << 10;

  void find() {
    std::vector<bool> follows;  // where it is asked for
    const auto follows_the_batch = [&](size_t i) {
      if (follows.empty()) follows = follows_batch(graph_);
      return follows[i];
    };
    for (size_t i = 0; i < graph_.nodes().size(); ++i) {
      const Node& node = graph_.nodes()[i];
      int64_t bytes = 0, input_bytes = 0;
      bool inputs_are = !node.inputs.empty() && node.kind != NodeKind::batch_norm &&
                        node.outputs.size() == 1 && node.layout == Layout::nchw;
      for (const Value& input : node.inputs) {
        const TensorType& type = graph_.type(input);
        inputs_are = inputs_are && is_constant_[static_cast<size_t>(input.node)];
        input_bytes = std::max(input_bytes, num_bytes(type.shape, type.dtype));
      }
      for (const TensorType& type : node.outputs) bytes += num_bytes(type.shape, type.dtype);
      is_constant_[i] =
          node.kind == NodeKind::parameter ||
          (inputs_are && bytes <= std::max(kSmallBytes, 2 * input_bytes) && !follows_the_batch(i));
      if (is_constant_[i]) continue;
      for (const Value& input : node.inputs) fold(input);
    }
    for (const auto& [name, value] : graph_.outputs()) fold(value);
  }

  void fold(Value value) {
    const auto index = static_cast<size_t>(value.node);
    folds_[index] = is_constant_[index] && !graph_.nodes()[index].is_given();
  }

  // The folded nodes' values, by number, as they would be computed in a run.
  TensorMap evaluate() const {
    std::vector<bool> is_needed = folds_;
    for (size_t i = graph_.nodes().size(); i-- > 0;)
      if (is_needed[i])
        for (const Value& input : graph_.nodes()[i].inputs) is_needed[static_cast<size_t>(input.node)] = true;
    Graph sub;
    TensorMap inputs, weights;
    const std::vector<bool> is_weight = find_weights(is_needed);
    std::vector<int> renumbered(graph_.nodes().size());
    for (size_t i = 0; i < graph_.nodes().size(); ++i) {
      if (!is_needed[i]) continue;
      Node node = graph_.nodes()[i];
      if (node.kind == NodeKind::parameter) {
        (is_weight[i] ? weights : inputs)[node.name] = constants_.at(node.name);
        if (!is_weight[i]) node.kind = NodeKind::input;
      }
      for (Value& input : node.inputs) input.node = renumbered[static_cast<size_t>(input.node)];
      const Value value = sub.append(std::move(node));
      renumbered[i] = value.node;
      if (folds_[i]) sub.output(std::to_string(i), value);
    }
    CompileOptions options = options_;
    options.capture = false;  // for one run
    options.progress = nullptr;
    if (is_16_bit(options.math)) options.math = Math::fp32;  // what becomes of them is rounded, once
    return compile(sub, weights, options).session().run(inputs);
  }

  // Parameters that are nothing but weights of convolutions and matmuls: these stay parameters, as kernels that know their
  // weights may add in another order. All others become inputs: then no node of theirs is folded again.
  std::vector<bool> find_weights(const std::vector<bool>& is_needed) const {
    std::vector<bool> result(is_needed.size(), true);
    for (size_t i = 0; i < is_needed.size(); ++i) {
      if (!is_needed[i]) continue;
      const Node& node = graph_.nodes()[i];
      const bool has_weights = node_def(node.kind).is_narrow != nullptr;
      for (size_t input = 0; input < node.inputs.size(); ++input)
        if (!has_weights || input != 1) result[static_cast<size_t>(node.inputs[input].node)] = false;
    }
    return result;
  }

  const Graph& graph_;
  const CompileOptions& options_;
  Constants& constants_;
  std::vector<bool> is_constant_, folds_;  // by node; folds: becomes a parameter
};

}  // namespace

Graph fold_constants(const Graph& graph, const CompileOptions& options, Constants* constants) {
  return Folder(graph, options, constants).run();
}

}  // namespace solder
