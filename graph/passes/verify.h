#pragma once

#include "graph/graph.h"

namespace solder {

/// Checks the invariants that the builder establishes and every pass must keep: inputs refer to earlier
/// nodes, arities and inferred shapes hold, regions are in order and match their operands, names of inputs
/// and parameters are unique, outputs exist. Throws Error(invalid_argument) naming the node; a failure after
/// a pass is a bug of solder, not of the user.
void verify(const Graph& graph);

}  // namespace solder
