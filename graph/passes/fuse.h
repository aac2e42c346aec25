#pragma once

#include "graph/graph.h"

namespace solder {

/// Drops nodes that no output needs. Inputs and parameters stay (they are the graph's signature).
Graph remove_dead(const Graph& graph);

/// Fuses elementwise nodes into maximal regions and regions into the convolution that feeds them, so that
/// intermediates never reach memory; mish of mish becomes double_mish. In float32 the result is the same bit
/// for bit; in 16-bit types a fused chain rounds once, at its end.
Graph fuse(const Graph& graph);

}  // namespace solder
