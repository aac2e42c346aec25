#include <algorithm>
#include <cmath>
#include <map>

#include "graph/nodes/node_def.h"
#include "graph/passes/passes.h"

namespace solder {
namespace {

bool is_view(const Node& node) { return node_def(node.kind).view != nullptr; }

// `values` as float32 that hold what `dtype` can, rounded to nearest even; channel i / row % num_channels is scaled by
// a power of two so that its largest magnitude lies in [2^14, 2^15), where `scales` says so.
std::vector<float> rounded(std::span<const float> values, DType dtype, size_t row, size_t num_channels,
                           bool scales) {
  std::vector<double> scale(num_channels, 1);
  if (scales) {
    std::vector<float> largest(num_channels);
    for (size_t i = 0; i < values.size(); ++i) {
      float& mine = largest[i / row % num_channels];
      if (std::isfinite(values[i])) mine = std::max(mine, std::abs(values[i]));
    }
    for (size_t c = 0; c < num_channels; ++c)
      if (largest[c] > 0) scale[c] = std::ldexp(1.0, 14 - std::ilogb(largest[c]));
  }
  std::vector<float> result(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    const double s = scale[i / row % num_channels];
    const float scaled = static_cast<float>(values[i] * s);  // inexact only where float16 has nothing, too
    result[i] =
        static_cast<float>((dtype == DType::float16 ? float_from_float16(float16_from_float(scaled))
                                                    : float_from_bfloat16(bfloat16_from_float(scaled))) /
                           s);
  }
  return result;
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
  Rounder(const Graph& graph, DType dtype, Constants* constants)
      : graph_(graph), dtype_(dtype), constants_(*constants) {
    for (const Node& node : graph.nodes()) {
      is_read_.emplace_back(node.outputs.size());
      is_rounded_.emplace_back(node.outputs.size());
      is_statistic_.push_back(is_statistic(node));
    }
    for (size_t i = graph.nodes().size(); i-- > 0;) {
      const Node& node = graph.nodes()[i];
      if (is_view(node) && !is_read_[i][0]) continue;  // only given out
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
  Op round() const { return dtype_ == DType::float16 ? Op::to_float16 : Op::to_bfloat16; }

  // Whether the node is a sum that widen() has made of 16-bit tensors.
  static bool is_declared(const Node& node) {
    Attributes attributes = node.attributes;
    const auto is_narrow = node_def(node.kind).is_narrow;
    return is_narrow != nullptr && is_narrow(attributes);
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
    const bool keeps = is_view(node) || (def.selects != nullptr && def.selects(node));
    std::vector<bool> is_due(node.outputs.size());
    for (size_t o = 0; o < node.outputs.size(); ++o) {
      const auto read_rounded = [&](const Value& input) { return at(is_rounded_, input); };
      is_rounded_[i][o] = keeps && std::all_of(node.inputs.begin(), node.inputs.end(), read_rounded);
      is_due[o] = !is_declared(node) && !is_statistic_[i] && !node.is_given() && !is_view(node) &&
                  is_read_[i][o] && !is_rounded_[i][o] && node.outputs[o].dtype == DType::float32;
      if (!is_due[o]) continue;
      is_rounded_[i][o] = true;
      if (def.takes_epilogue) round_in(&mine.epilogue.region, mine.epilogue.region.outputs[o], round());
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
    round_in(&node.epilogue.region, Arg::operand(0), round());
    return result_.append(std::move(node));
  }

  // What a convolution or matmul multiplies: its weights with a scale for each output channel, the rest as it is
  // stored; rounded once for all that read it in the same way.
  Value factor(const Node& node, size_t input) {
    const Value original = node.inputs[input];
    if (at(is_rounded_, original) || is_statistic_[static_cast<size_t>(original.node)])
      return at(moved_, original);
    const bool is_weight = input == 1 && node_of(original).kind == NodeKind::parameter;
    const size_t axis =
        is_weight ? node_def(node.kind).channel_axis(node, graph_.type(original).shape.size()) : 0;
    const auto [made, is_new] = factors_.try_emplace({original.node, original.output, is_weight, axis});
    if (is_new) {
      const std::string& name = node_of(original).name;
      made->second = is_weight ? rounded_weights(name, axis)
                               : rounded_copy(at(moved_, original), name + " " + to_string(dtype_));
    }
    return made->second;
  }

  Value rounded_weights(const std::string& name, size_t axis) {
    const Tensor weights = constants_.at(name).to(Device::cpu());
    const Shape& shape = weights.shape();
    size_t row = 1;
    for (size_t i = axis + 1; i < shape.size(); ++i) row *= static_cast<size_t>(shape[i]);
    const Tensor result = Tensor::from(
        shape,
        rounded(weights.floats(), dtype_, row, static_cast<size_t>(shape[axis]), dtype_ == DType::float16));
    const std::string mine = constants_.add(name + " " + to_string(dtype_), result);
    return result_.append({.kind = NodeKind::parameter, .name = mine, .outputs = {{shape, DType::float32}}});
  }

  const Graph& graph_;
  const DType dtype_;
  Constants& constants_;
  Graph result_;
  std::vector<std::vector<bool>> is_read_;     // by value: by a node that computes, through views too
  std::vector<std::vector<bool>> is_rounded_;  // by value
  std::vector<bool> is_statistic_;             // by node
  std::vector<std::vector<Value>> moved_;      // by value: where it is in the result
  std::map<std::tuple<int, int, bool, size_t>, Value> factors_;
};

}  // namespace

Graph round_values(const Graph& graph, Math math, Constants* constants) {
  if (!is_16_bit(math)) return graph;
  return Rounder(graph, math == Math::fp16 ? DType::float16 : DType::bfloat16, constants).run();
}

}  // namespace solder
