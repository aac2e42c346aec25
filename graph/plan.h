#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "ops/conv/kernels.h"
#include "ops/elementwise/program.h"

namespace solder {

/// How one node will run: decided at compile time, shared by all sessions.
struct NodePlan {
  Program program;                 ///< the region, lowered (elementwise, conv2d)
  std::shared_ptr<ConvPlan> conv;  ///< conv2d
  /// Until they are uploaded: a conv2d's weights as its kernel reads them, an elementwise node's table.
  std::vector<std::byte> packed;
  ElementwisePath pass = ElementwisePath::interpreted;  ///< the program on a GPU, unless a conv2d absorbs it
  std::shared_ptr<const ElementwiseKernel> kernel;      ///< the generated one, if any
  bool uses_cublas = false;
  int64_t workspace_bytes = 0;  ///< scratch while the node runs
  std::string path;             ///< what will run, in words
};

/// Where a value lives: bytes from the start of the arena, or nowhere.
struct Placement {
  int64_t offset_bytes = -1;  ///< -1: a parameter (in the Model's weights), or an empty tensor
  int64_t size_bytes = 0;
  int first_node = 0;  ///< live from the start of this node ...
  int last_node = 0;   ///< ... to the end of this one
};

/// A session's memory, known before anything is allocated. One arena holds the values, then the workspace.
struct MemoryPlan {
  std::vector<std::vector<Placement>> values;  ///< [node][output]
  int64_t values_bytes = 0;                    ///< inputs, outputs and intermediates
  int64_t workspace_bytes = 0;                 ///< shared by all nodes; follows the values
  int64_t arena_bytes() const { return values_bytes + workspace_bytes; }
  std::string peak_node;  ///< the node at which most value bytes are live
};

/// Every placement starts on a multiple of this.
inline constexpr int64_t kArenaAlignment = 256;

/// Places values by liveness: inputs and outputs live throughout (a session may be replayed without new
/// inputs), an intermediate from its node to its last reader, and a node's output takes over an operand's
/// memory where the program allows it. Largest first, each at the lowest offset that is free for its
/// lifetime.
MemoryPlan plan_memory(const Graph& graph, const std::vector<NodePlan>& nodes);

/// The plan as text: one line a value with offset, size and lifetime.
std::string dump(const Graph& graph, const MemoryPlan& plan);

}  // namespace solder
