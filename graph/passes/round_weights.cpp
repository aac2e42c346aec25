#include <algorithm>
#include <cmath>
#include <map>

#include "graph/nodes/node_def.h"
#include "graph/passes/passes.h"
#include "ops/elementwise/formulas.h"
#include "runtime/check.h"

namespace solder {
namespace {

// The weights as float32 that hold what `dtype` can, rounded to nearest even; of float16, times a power of two for each
// index of `axis`, by which its largest magnitude comes to [2^14, 2^15).
Tensor rounded(const Tensor& weights, size_t axis, DType dtype) {
  const Shape& shape = weights.shape();
  const std::span<const float> values = weights.floats();
  size_t row = 1;
  for (size_t i = axis + 1; i < shape.size(); ++i) row *= static_cast<size_t>(shape[i]);
  const auto num_channels = static_cast<size_t>(shape[axis]);
  std::vector<float> largest(num_channels);
  for (size_t i = 0; i < values.size(); ++i) {
    float& mine = largest[i / row % num_channels];
    if (std::isfinite(values[i])) mine = std::max(mine, std::abs(values[i]));
  }
  std::vector<double> scale(num_channels, 1);
  for (size_t c = 0; c < num_channels; ++c)
    if (dtype == DType::float16 && largest[c] > 0) scale[c] = std::ldexp(1.0, 14 - std::ilogb(largest[c]));
  Tensor result = Tensor::empty(shape);
  const std::span<float> to = result.floats();
  for (size_t i = 0; i < values.size(); ++i) {
    const double s = scale[i / row % num_channels];
    const float scaled = static_cast<float>(values[i] * s);  // inexact only where float16 has nothing, too
    const float stored = dtype == DType::float16 ? math::to_float16(scaled) : math::to_bfloat16(scaled);
    to[i] = static_cast<float>(stored / s);
  }
  return result;
}

}  // namespace

Graph round_weights(const Graph& graph, Math math, Constants* constants) {
  if (!is_16_bit(math)) return graph;
  const DType dtype = dtype_of(math);
  Graph result;
  std::vector<int> moved;                      // by node
  std::map<std::pair<int, size_t>, int> made;  // by parameter and axis of output channels
  for (const Node& node : graph.nodes()) {
    Node mine = node;
    for (Value& input : mine.inputs) input.node = moved[static_cast<size_t>(input.node)];
    const NodeDef& def = node_def(node.kind);
    if (def.is_narrow != nullptr && !def.is_narrow(mine.attributes)) {
      const Node& weights = graph.maker(node.inputs[1]);
      const size_t axis = def.channel_axis(node, graph.type(node.inputs[1]).shape.size());
      const auto [entry, is_new] = made.try_emplace({node.inputs[1].node, axis}, mine.inputs[1].node);
      if (is_new && weights.kind == NodeKind::parameter) {
        entry->second = constants
                            ->append_to(result, str(weights.name, " ", to_string(dtype)),
                                        rounded(constants->at(weights.name).to(Device::cpu()), axis, dtype))
                            .node;
      }
      mine.inputs[1].node = entry->second;
    }
    moved.push_back(result.append(std::move(mine)).node);
  }
  for (const auto& [name, value] : graph.outputs())
    result.append_output(name, {moved[static_cast<size_t>(value.node)], value.output});
  return remove_dead(result);
}

}  // namespace solder
