#pragma once

#include "graph/graph.h"
#include "runtime/tensor_map.h"

namespace solder {

/// Throws unless `weights` has a tensor of the declared shape and dtype for every parameter of `graph`: one message
/// that lists all of them, each missing one with the name in `weights` most like it, and then what `weights` has that
/// the graph does not ask for. Error(invalid_argument) where any is missing, Error(shape_mismatch) otherwise.
void require_weights(const Graph& graph, const TensorMap& weights);

}  // namespace solder
