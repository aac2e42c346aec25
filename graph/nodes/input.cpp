#include "graph/nodes/node_def.h"

namespace solder {

extern const NodeDef kInputNode;
constexpr NodeDef kInputNode{.kind = NodeKind::input, .name = "input"};

Value Graph::input(const std::string& name, Shape shape, DType dtype) {
  return add_node({.kind = NodeKind::input, .name = name, .outputs = {{std::move(shape), dtype}}});
}

}  // namespace solder
