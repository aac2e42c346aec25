#include "graph/nodes/node_def.h"

namespace solder {

extern const NodeDef kParameterNode;
constexpr NodeDef kParameterNode{.kind = NodeKind::parameter, .name = "parameter"};

Value Graph::parameter(const std::string& name, Shape shape, DType dtype) {
  return add_node({.kind = NodeKind::parameter, .name = name, .outputs = {{std::move(shape), dtype}}});
}

}  // namespace solder
