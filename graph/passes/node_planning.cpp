#include "graph/passes/passes.h"

namespace solder {

std::optional<PlanRequest> NodePlanning::request_for(const Node& node,
                                                     const std::function<const Node&(size_t)>& maker,
                                                     const std::function<ValueView(size_t)>& lies) const {
  PlanRequest request{.node = node, .device = device, .conv = conv, .workspace_bytes = workspace_bytes};
  request.weight = [this, maker](size_t input) { return weights(maker(input)); };
  const size_t num_own = node.num_own_inputs();
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    ValueView value = lies(i);
    if (i >= num_own && !view_as(value.view, node.epilogue.operand_shapes[i - num_own], &value.view))
      return {};
    request.inputs.push_back(std::move(value.view));
    request.offsets.push_back(value.offset_elems);
    request.scaled_inputs.push_back(maker(i).scaled);
  }
  for (const TensorType& output : node.outputs) {
    request.outputs.push_back(own_view(output, node.layout));
    request.offsets.push_back(0);
  }
  return request;
}

}  // namespace solder
