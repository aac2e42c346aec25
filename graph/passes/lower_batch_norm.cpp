#include <algorithm>
#include <cmath>
#include <optional>
#include <unordered_set>

#include "graph/nodes/node_def.h"
#include "graph/passes/passes.h"

namespace solder {
namespace {

const Region kSumAlone{.num_operands = 0, .exprs = {}, .outputs = {Arg::result()}};

// x * scale + shift, a number of each a channel.
struct Affine {
  std::vector<double> scale, shift;
  bool is_finite() const {
    const auto finite = [](double v) { return std::isfinite(static_cast<float>(v)); };
    return std::ranges::all_of(scale, finite) && std::ranges::all_of(shift, finite);
  }
};

class Lowering {
 public:
  Lowering(const Graph& graph, bool fold, Constants* constants)
      : graph_(graph), constants_(*constants), uses_(graph.nodes().size()), folded_into_(uses_.size()) {
    for (const Node& node : graph.nodes())
      for (const Value& input : node.inputs) ++uses_[static_cast<size_t>(input.node)];
    for (const auto& [name, value] : graph.outputs()) ++uses_[static_cast<size_t>(value.node)];
    for (const Node& node : graph.nodes())
      if (fold && node.kind == NodeKind::batch_norm) plan_fold(node);
  }

  Graph run() {
    for (size_t i = 0; i < graph_.nodes().size(); ++i) moved_.push_back(lowered(i));
    for (const auto& [name, value] : graph_.outputs())
      result_.append_output(name, {moved_[static_cast<size_t>(value.node)].node, value.output});
    return std::move(result_);
  }

 private:
  // A sum whose weights take over a batch norm's scale.
  struct Fold {
    const Node* norm = nullptr;
    Affine affine;
    std::vector<float> weights;
  };

  // The values of a parameter, in double; nothing if it is none.
  std::optional<std::vector<double>> values_of(Value value) const {
    if (graph_.maker(value).kind != NodeKind::parameter) return {};
    const Tensor tensor = constants_.at(graph_.maker(value).name).to(Device::cpu()).to(DType::float32);
    const std::span<const float> floats = tensor.floats();
    return std::vector<double>(floats.begin(), floats.end());
  }

  std::optional<Affine> affine_of(const Node& norm) const {
    std::optional<std::vector<double>> given[4];
    for (size_t i = 0; i < 4; ++i)
      if (!(given[i] = values_of(norm.inputs[i + 1]))) return {};
    Affine affine;
    const double eps = std::get<BatchNormAttributes>(norm.attributes).eps;
    for (size_t c = 0; c < given[0]->size(); ++c) {
      const double scale = (*given[0])[c] / std::sqrt((*given[3])[c] + eps);
      affine.scale.push_back(scale);
      affine.shift.push_back((*given[1])[c] - (*given[2])[c] * scale);
    }
    return affine;
  }

  // Legality of folding a batch norm into the sum before it, all of: nothing else reads the sum, nor the sum plus
  // bias; weights, bias and statistics are parameters, and what comes out is finite; channels are output channels;
  // and float32, as folded weights would have to be rounded to 16 bits once more.
  void plan_fold(const Node& norm) {
    std::optional<Affine> affine = affine_of(norm);
    if (!affine) return;
    Value x = norm.inputs[0];
    if (uses_[static_cast<size_t>(x.node)] != 1 || norm.outputs[0].dtype != DType::float32) return;
    size_t bias_node = 0;
    if (const std::optional<Value> summand = bias_of(graph_.maker(x))) {
      const auto bias = values_of(*summand);
      if (!bias) return;
      for (size_t c = 0; c < bias->size(); ++c) affine->shift[c] += (*bias)[c] * affine->scale[c];
      bias_node = static_cast<size_t>(x.node);
      x = graph_.maker(x).inputs[0];
      if (uses_[static_cast<size_t>(x.node)] != 1) return;
    }
    const Node& sum = graph_.maker(x);
    const bool is_conv = sum.kind == NodeKind::conv2d;
    if (!is_conv && !(sum.kind == NodeKind::matmul && sum.outputs[0].shape.size() == 2)) return;
    const auto weights = values_of(sum.inputs[1]);
    if (!weights || sum.epilogue.region != kSumAlone || !affine->is_finite()) return;
    const size_t channels = affine->scale.size();
    const bool by_rows = is_conv || std::get<MatmulAttributes>(sum.attributes).transpose_b;
    const size_t row = by_rows && channels > 0 ? weights->size() / channels : 1;
    Fold fold{&norm, std::move(*affine), {}};
    for (size_t i = 0; i < weights->size(); ++i)
      fold.weights.push_back(static_cast<float>((*weights)[i] * fold.affine.scale[i / row % channels]));
    if (!std::ranges::all_of(fold.weights, [](float w) { return std::isfinite(w); })) return;
    if (bias_node != 0) folded_into_[bias_node] = Fold{&norm, {}, {}};
    folded_into_[static_cast<size_t>(x.node)] = std::move(fold);
    folded_.insert(&norm);
  }

  // What a node adds to its first input, one value an output channel: as conv2d() and linear() make it.
  std::optional<Value> bias_of(const Node& node) const {
    const Region& region = node.epilogue.region;
    if (node.kind != NodeKind::elementwise || node.inputs.size() != 2 || node.outputs.size() != 1) return {};
    if (region.exprs != std::vector{Expr{Op::add, Arg::operand(0), Arg::operand(1)}}) return {};
    const Shape &space = node.outputs[0].shape, &bias = node.epilogue.operand_shapes[1];
    if (node.epilogue.operand_shapes[0] != space || space.size() < 2 || num_elements(bias) != space[1])
      return {};
    return bias == channel_shape(space) ? std::optional(node.inputs[1]) : std::nullopt;
  }

  Value lowered(size_t i) {
    Node node = graph_.nodes()[i];
    for (Value& input : node.inputs) input = {moved_[static_cast<size_t>(input.node)].node, input.output};
    const Fold& fold = folded_into_[i];
    if (node.kind == NodeKind::batch_norm) return lower(node, graph_.nodes()[i]);
    if (fold.norm == nullptr) return result_.append(std::move(node));
    if (node.kind == NodeKind::elementwise) return node.inputs[0];  // its bias has gone into the shift
    const std::string w = graph_.maker(graph_.nodes()[i].inputs[1]).name;
    node.inputs[1] = constants_.append_to(
        result_, w + " folded", Tensor::from(graph_.type(graph_.nodes()[i].inputs[1]).shape, fold.weights));
    const Value sum = result_.append(std::move(node));
    return elementwise(*fold.norm, {sum, per_channel(*fold.norm, "shift", fold.affine.shift)},
                       {{Op::add, Arg::operand(0), Arg::operand(1)}});
  }

  // What is left of a batch norm; `norm` reads the result's values, `original` the graph's.
  Value lower(const Node& norm, const Node& original) {
    const Value x = norm.inputs[0];
    if (folded_.count(&original) > 0) return x;
    const std::vector<Expr> affine = {{Op::mul, Arg::operand(0), Arg::operand(1)},
                                      {Op::add, Arg::expr(0), Arg::operand(2)}};
    if (const std::optional<Affine> known = affine_of(original))
      return elementwise(
          original,
          {x, per_channel(original, "scale", known->scale), per_channel(original, "shift", known->shift)},
          affine);
    // Statistics that are known only when it runs.
    Value wide[4];
    for (size_t i = 0; i < 4; ++i) wide[i] = result_.cast(norm.inputs[i + 1], DType::float32);
    const float eps = std::get<BatchNormAttributes>(norm.attributes).eps;
    const Value scale = result_.mul(wide[0], result_.rsqrt(result_.add(wide[3], eps)));
    const Value shift = result_.sub(wide[1], result_.mul(wide[2], scale));
    return elementwise(original, {x, scale, shift}, affine);
  }

  // The norm's result: x [N,C,...] and one value a channel of all others.
  Value elementwise(const Node& norm, std::vector<Value> inputs, std::vector<Expr> exprs) {
    Node node{.kind = NodeKind::elementwise,
              .name = norm.name,
              .inputs = std::move(inputs),
              .outputs = norm.outputs};
    const int last = static_cast<int>(exprs.size()) - 1;
    node.epilogue.region = {static_cast<int>(node.inputs.size()), std::move(exprs), {Arg::expr(last)}};
    node.epilogue.operand_shapes.assign(node.inputs.size(), channel_shape(norm.outputs[0].shape));
    node.epilogue.operand_shapes[0] = norm.outputs[0].shape;
    return result_.append(std::move(node));
  }

  Value per_channel(const Node& norm, const char* what, const std::vector<double>& values) {
    const std::vector<float> floats(values.begin(), values.end());
    return constants_.append_to(result_, norm.name + " " + what, Tensor::from({values.size()}, floats));
  }

  const Graph& graph_;
  Constants& constants_;
  std::vector<int> uses_;          // by node
  std::vector<Fold> folded_into_;  // by node of a sum, or of the bias behind it
  std::unordered_set<const Node*> folded_;
  Graph result_;
  std::vector<Value> moved_;  // by node: where its first output is in the result
};

}  // namespace

Graph lower_batch_norm(const Graph& graph, bool fold, Constants* constants) {
  const auto is_norm = [](const Node& node) { return node.kind == NodeKind::batch_norm; };
  if (std::ranges::none_of(graph.nodes(), is_norm)) return graph;
  return Lowering(graph, fold, constants).run();
}

}  // namespace solder
