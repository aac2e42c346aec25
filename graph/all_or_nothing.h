#pragma once

#include <exception>

#include "graph/graph.h"

namespace solder {

/// For a builder that makes several nodes: takes them back, should it throw before it is done.
class Graph::AllOrNothing {
 public:
  explicit AllOrNothing(Graph* graph) : graph_(*graph), num_nodes_(graph->nodes_.size()) {}
  AllOrNothing(const AllOrNothing&) = delete;
  AllOrNothing& operator=(const AllOrNothing&) = delete;
  ~AllOrNothing() {
    if (std::uncaught_exceptions() <= num_exceptions_) return;
    graph_.nodes_.erase(graph_.nodes_.begin() + static_cast<std::ptrdiff_t>(num_nodes_), graph_.nodes_.end());
    graph_.stamps_.resize(num_nodes_);
  }

 private:
  Graph& graph_;
  const size_t num_nodes_;
  const int num_exceptions_ = std::uncaught_exceptions();
};

}  // namespace solder
