#pragma once

#include <memory>
#include <vector>

#include "graph/nodes/node_def.h"
#include "graph/value_view.h"

namespace solder {

/// Places values by liveness: inputs and outputs live throughout (a session may be replayed without new inputs), an
/// intermediate from its node to its last reader, its own or a view's, and a node's output takes over an operand's
/// memory where the node allows it. Largest first, each at the lowest offset that is free for its lifetime. `runs`
/// has an entry a node, null where nothing runs. Near linear in nodes.
MemoryPlan plan_memory(const Graph& graph, const ValueViews& views,
                       const std::vector<std::unique_ptr<NodeRun>>& runs);

}  // namespace solder
