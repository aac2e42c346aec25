#include <array>

#include "graph/nodes/node_def.h"
#include "runtime/check.h"

namespace solder {
namespace {

std::vector<TensorType> infer(const Node& node, std::span<const TensorType> inputs) {
  constexpr std::array kNames = {"weight", "bias", "mean", "variance"};
  const TensorType& x = inputs[0];
  SOLDER_REQUIRE(x.shape.size() >= 2, shape_mismatch, node.name, ": x must be [N, C, ...], not ",
                 to_string(x.shape));
  for (size_t i = 0; i < kNames.size(); ++i)
    SOLDER_REQUIRE(inputs[i + 1] == (TensorType{{x.shape[1]}, x.dtype}), shape_mismatch, node.name, ": ",
                   kNames[i], " must be ", to_string(TensorType{{x.shape[1]}, x.dtype}),
                   ", one value a channel of x ", to_string(x.shape), "; it is ", to_string(inputs[i + 1]));
  return {x};
}

}  // namespace

// Nothing runs as such: lower_batch_norm() makes it part of what comes before, or elementwise work.
extern const NodeDef kBatchNormNode;
constexpr NodeDef kBatchNormNode{.kind = NodeKind::batch_norm,
                                 .name = "batch_norm",
                                 .num_inputs = 5,
                                 .attributes_index = index_of<BatchNormAttributes>(),
                                 .takes = Strides::any,
                                 .infer = infer,
                                 .attributes = [](const Node& node) -> std::string {
                                   return str(" eps=", std::get<BatchNormAttributes>(node.attributes).eps);
                                 }};

Value Graph::batch_norm(Value x, Value weight, Value bias, Value mean, Value variance, float eps) {
  for (const Value value : {x, weight, bias, mean, variance}) checked_type(value, "batch_norm");
  return add_node({.kind = NodeKind::batch_norm,
                   .name = next_name("batch_norm"),
                   .inputs = {x, weight, bias, mean, variance},
                   .attributes = BatchNormAttributes{eps}});
}

}  // namespace solder
