#include <algorithm>

#include "graph/nodes/node_def.h"
#include "graph/passes/passes.h"
#include "graph/value_view.h"

namespace solder {
namespace {

// Entries of a convolution with scaled results: one an image, and behind them as many of x where that is float32.
int64_t num_entries(int64_t num_images, bool reads_scaled) {
  return reads_scaled ? num_images : 2 * num_images;
}

class Scaler {
 public:
  Scaler(const Graph& graph, const NodePlanning& planning)
      : graph_(graph),
        planning_(planning),
        views_(value_views(graph, true)),
        is_scaled_(graph.nodes().size()),
        readers_(is_scaled_.size()) {
    for (size_t i = 0; i < is_scaled_.size(); ++i) {
      is_scaled_[i] = may_be_scaled(graph.nodes()[i]);
      for (const Value& input : graph.nodes()[i].inputs) readers_[index_of(input)].push_back(i);
    }
    for (const auto& [name, value] : graph.outputs()) is_scaled_[index_of(value)] = false;
    is_multiplied_.resize(is_scaled_.size());
    for (size_t i = is_scaled_.size(); i-- > 0;) {
      const NodeDef& def = node_def(node(i).kind);
      if (makes_scaled(def) || (def.passes_scaled != nullptr && is_multiplied_[i]))
        for (const Value& input : node(i).inputs) is_multiplied_[index_of(input)] = true;
    }
    parts_ = all_parts();
  }

  Graph run() {
    // What a value cannot be is the business of its maker and its readers; each stops being scaled once at most.
    for (size_t i = 0; i < is_scaled_.size(); ++i) due_.push_back(i);
    while (!due_.empty()) {
      const size_t i = due_.back();
      due_.pop_back();
      if (!runs(i)) refuse(i);
    }
    if (std::ranges::none_of(is_scaled_, [](bool is) { return is; })) return graph_;
    parts_ = all_parts();
    Graph result;
    for (size_t i = 0; i < is_scaled_.size(); ++i) {
      Node mine = as_planned(i);
      if (node_def(mine.kind).infer != nullptr && !node_def(mine.kind).takes_epilogue)
        mine.outputs = node_def(mine.kind).infer(mine, input_types(result, mine));
      result.append(std::move(mine));
    }
    for (const auto& [name, value] : graph_.outputs()) result.append_output(name, {value.node, value.output});
    return result;
  }

 private:
  static size_t index_of(Value value) { return static_cast<size_t>(value.node); }
  const Node& node(size_t i) const { return graph_.nodes()[i]; }
  bool reads_scaled(const Value& input) const { return is_scaled_[index_of(input)]; }

  static bool makes_scaled(const NodeDef& def) { return def.takes_scaled != nullptr && def.takes_epilogue; }

  static bool may_be_scaled(const Node& node) {
    const NodeDef& def = node_def(node.kind);
    return (def.passes_scaled != nullptr || makes_scaled(def)) && node.outputs.size() == 1 &&
           node.outputs[0].dtype == DType::float32 && node.outputs[0].shape.size() == 4;
  }

  // By node, of values that are scaled: an entry of the session's ranges for each image of what is made, and the entries
  // of that for what it is passed on as.
  std::vector<std::vector<ScaledChannels>> all_parts() const {
    std::vector<std::vector<ScaledChannels>> all(is_scaled_.size());
    int64_t next = 0;
    for (size_t i = 0; i < all.size(); ++i) {
      if (!is_scaled_[i]) continue;
      const Shape& shape = node(i).outputs[0].shape;
      if (const auto pass = node_def(node(i).kind).passes_scaled) {
        std::vector<std::vector<ScaledChannels>> parts;
        for (const Value& input : node(i).inputs) parts.push_back(all[index_of(input)]);
        if (std::ranges::none_of(parts, [](const auto& of) { return of.empty(); }))
          all[i] = pass(node(i), input_types(graph_, node(i)), parts);
      } else {
        // Maxima cost time, and bounds of bounds would cost digits.
        bool reads_measured = true;
        for (const Value& input : node(i).inputs)
          for (const ScaledChannels& part : all[index_of(input)]) reads_measured &= part.is_measured;
        all[i] = {{shape[1], next, !reads_measured}};
        next += num_entries(shape[0], reads_scaled(node(i).inputs[0]));
      }
    }
    return all;
  }

  // Whether the node runs with the values that are scaled now, or has nothing to do with such.
  bool runs(size_t i) const {
    const bool reads = std::ranges::any_of(node(i).inputs, [&](const Value& v) { return reads_scaled(v); });
    if (!reads && !is_scaled_[i]) return true;
    const NodeDef& def = node_def(node(i).kind);
    if (def.passes_scaled != nullptr)
      return is_scaled_[i] && !parts_[i].empty() &&
             std::ranges::all_of(node(i).inputs, [&](const Value& v) { return reads_scaled(v); });
    // From float32 to what is not multiplied again nothing is gained.
    if (def.takes_scaled == nullptr || (!reads && !is_multiplied_[i])) return false;
    const Node mine = as_planned(i);
    const auto maker = [&](size_t input) -> const Node& { return graph_.maker(mine.inputs[input]); };
    auto request = planning_.request_for(mine, maker, [&](size_t input) -> ValueView {
      const Value value = mine.inputs[input];
      return reads_scaled(value) ? ValueView{value, 0, scaled_view(value)} : at(views_, value);
    });
    if (!request) return false;
    request->math = Math::tf32;
    for (size_t input = 0; input < mine.inputs.size(); ++input)
      request->scaled_inputs[input] = parts_of(mine.inputs[input]);
    const Value result{static_cast<int>(i), 0};
    request->outputs = {is_scaled_[i] ? scaled_view(result) : at(views_, result).view};
    return def.takes_scaled(*request);
  }

  std::vector<ScaledChannels> parts_of(Value value) const {
    return reads_scaled(value) ? parts_[index_of(value)] : std::vector<ScaledChannels>();
  }

  // How a value lies that is scaled, or as good as that: slices and parts of a concat begin where vectors do.
  TensorView scaled_view(Value value) const {
    return own_view({graph_.type(value).shape, DType::float16}, Layout::padded_channels_last);
  }

  // The node as it is with what is scaled now, but for types that follow from its inputs'.
  Node as_planned(size_t i) const {
    Node mine = node(i);
    const bool reads = std::ranges::any_of(mine.inputs, [&](const Value& v) { return reads_scaled(v); });
    const NodeDef& def = node_def(mine.kind);
    if (is_scaled_[i]) mine.outputs[0].dtype = DType::float16, mine.scaled = parts_[i];
    if (def.is_narrow != nullptr && (reads || is_scaled_[i])) def.is_narrow(mine.attributes) = true;
    if (def.keeps_float32 != nullptr && reads) def.keeps_float32(mine.attributes) = true;
    return mine;
  }

  // The node and what it reads and makes: in float32 then.
  void refuse(size_t i) {
    const auto stop = [&](size_t value) {
      if (!is_scaled_[value]) return;
      is_scaled_[value] = false;
      due_.push_back(value);
      due_.insert(due_.end(), readers_[value].begin(), readers_[value].end());
    };
    stop(i);
    for (const Value& input : node(i).inputs) stop(index_of(input));
  }

  const Graph& graph_;
  const NodePlanning& planning_;
  const ValueViews views_;       // of the graph as it is
  std::vector<bool> is_scaled_;  // by node: its output, as far as is known now
  std::vector<bool>
      is_multiplied_;  // likewise: whether a convolution reads it, by itself or through what passes it on
  std::vector<std::vector<size_t>> readers_;
  std::vector<std::vector<ScaledChannels>> parts_;  // by node
  std::vector<size_t> due_;                         // nodes to be looked at
};

}  // namespace

Graph scale_values(const Graph& graph, const NodePlanning& planning) { return Scaler(graph, planning).run(); }

int64_t num_scaled_images(const Graph& graph) {
  int64_t count = 0;
  for (const Node& node : graph.nodes())
    if (!node.scaled.empty() && node_def(node.kind).takes_scaled != nullptr)
      count =
          std::max(count, node.scaled[0].first + num_entries(node.outputs[0].shape[0],
                                                             !graph.maker(node.inputs[0]).scaled.empty()));
  return count;
}

}  // namespace solder
