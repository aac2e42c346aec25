#pragma once
// How a compiled graph runs and where its values lie.

#include <cstdint>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "runtime/visibility.h"

namespace SOLDER_PUBLIC solder {

/// How one node will run: decided at compile time, shared by all sessions.
struct NodePlan {
  std::string path;             ///< what will run, in words; empty where nothing does
  int64_t workspace_bytes = 0;  ///< scratch while the node runs
};

/// Where a value lives: bytes from the start of the arena, or nowhere.
struct Placement {
  int64_t offset_bytes = -1;  ///< -1: a parameter (in the Model's weights), part of another value, or empty
  int64_t size_bytes = 0;     ///< of part of another value, such as a view: 0
  int first_node = 0;         ///< live from the start of this node ...
  int last_node = 0;          ///< ... to the end of this one
};

/// A session's memory, known before anything is allocated. One arena holds the values, then the workspace, then what little else there is.
struct MemoryPlan {
  std::vector<std::vector<Placement>> values;  ///< [node][output]
  int64_t values_bytes = 0;                    ///< inputs, outputs and intermediates
  int64_t workspace_bytes = 0;                 ///< shared by all nodes; follows the values
  int64_t ranges_bytes = 0;                    ///< the state of scaled values (Math::tf32); behind that
  int64_t arena_bytes() const { return values_bytes + workspace_bytes + ranges_bytes; }
  std::string peak_node;  ///< the node at which most value bytes are live
};

/// Every placement starts on a multiple of this.
inline constexpr int64_t kArenaAlignment = 256;

/// The plan as text: one line a value with offset, size and lifetime.
std::string dump(const Graph& graph, const MemoryPlan& plan);

}  // namespace solder
