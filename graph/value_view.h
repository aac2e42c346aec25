#pragma once

#include <vector>

#include "graph/graph.h"
#include "runtime/tensor_view.h"

namespace solder {

/// How a value lies in memory: in that of `base`, a value that a node computes or is given; its own, unless it is
/// a view.
struct ValueView {
  Value base;
  int64_t offset_elems = 0;  ///< of its first element from that of base
  TensorView view;           ///< without an address
};

/// By node and output.
std::vector<std::vector<ValueView>> value_views(const Graph& graph);

}  // namespace solder
