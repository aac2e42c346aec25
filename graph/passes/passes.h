#pragma once
// What compile() does to a graph, in this order. Each pass is pure; verify() holds before and after.

#include "graph/graph.h"

namespace solder {

/// Without the nodes that no output needs. Inputs and parameters stay: they are what the caller gives.
Graph remove_dead(const Graph& graph);

/// With a copy wherever a value cannot be used as it lies: an output that is a parameter, of which all sessions
/// share the memory, or a view that is not dense; and a view that a node of its reader's kind cannot read.
Graph add_copies(const Graph& graph);

/// Merges elementwise work into what it follows: elementwise chains become one region, and a region behind a node
/// that takes an epilogue becomes that. Near linear in nodes.
Graph fuse(const Graph& graph);

/// Checks a graph as passes and programs make them: references, names, the types that each kind infers, regions
/// and the shapes under which they read. Throws Error naming the node.
void verify(const Graph& graph);

}  // namespace solder
