#include "graph/nodes/node_def.h"

namespace solder {

extern const NodeDef kResizeNode;
constexpr NodeDef kResizeNode{.kind = NodeKind::resize, .name = "resize", .num_inputs = 1};

}  // namespace solder
