#include "graph/nodes/node_def.h"

namespace solder {

extern const NodeDef kGatherNode;
constexpr NodeDef kGatherNode{.kind = NodeKind::gather, .name = "gather", .num_inputs = 1};

}  // namespace solder
