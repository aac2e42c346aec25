#include "graph/nodes/node_def.h"

namespace solder {

extern const NodeDef kPool2dNode;
constexpr NodeDef kPool2dNode{.kind = NodeKind::pool2d, .name = "pool2d", .num_inputs = 1};

}  // namespace solder
