#include "graph/nodes/batch_change.h"
#include "graph/nodes/node_def.h"
#include "runtime/check.h"

namespace solder {

extern const NodeDef kInputNode;
constexpr NodeDef kInputNode{
    .kind = NodeKind::input, .name = "input", .rebatch = [](Node* node, BatchChange* change) {
      Shape& shape = node->outputs[0].shape;
      if (!shape.empty() && shape[0] == change->from) shape[0] = change->to;
    }};

Value Graph::input(const std::string& name, Shape shape, DType dtype, Layout layout) {
  require_layout(shape, layout, str("input \"", name, "\""));
  return add_node(
      {.kind = NodeKind::input, .name = name, .outputs = {{std::move(shape), dtype}}, .layout = layout});
}

}  // namespace solder
