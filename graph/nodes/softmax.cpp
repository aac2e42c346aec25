#include "graph/nodes/node_def.h"

namespace solder {

extern const NodeDef kSoftmaxNode;
constexpr NodeDef kSoftmaxNode{.kind = NodeKind::softmax, .name = "softmax", .num_inputs = 1};

}  // namespace solder
