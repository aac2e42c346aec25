#include "graph/nodes/node_def.h"

namespace solder {

extern const NodeDef kPadNode;
constexpr NodeDef kPadNode{.kind = NodeKind::pad, .name = "pad", .num_inputs = 1};

}  // namespace solder
