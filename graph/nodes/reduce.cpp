#include "graph/nodes/node_def.h"

namespace solder {

extern const NodeDef kReduceNode;
constexpr NodeDef kReduceNode{.kind = NodeKind::reduce, .name = "reduce", .num_inputs = 1};

}  // namespace solder
