#pragma once
// How a node follows when the batch size of its graph becomes another.

#include <string>
#include <vector>

#include "graph/graph.h"

namespace solder {

/// What a node's rebatch() is told. The batch lies in one axis of a value: all of it, or between what a reshape has
/// joined to it, which is `outer` before it and the rest behind it.
struct BatchChange {
  Graph* graph;  ///< that is being made; the node's inputs are its values already
  int64_t from, to;
  std::vector<TensorType> before;  ///< of the node's inputs
  std::vector<int64_t> outers;     ///< of inputs: `outer` in the axis that follows; 0: not known
  int64_t outer = 1;  ///< of the result; that of the first input that follows, unless rebatch() says else

  const Shape& after(const Node& node, size_t input) const { return graph->type(node.inputs[input]).shape; }
  bool changes(const Node& node, size_t input, size_t axis) const {
    return after(node, input)[axis] != before[input].shape[axis];
  }
};

/// Error(unsupported) that names the node and says what keeps it at its batch size.
[[noreturn]] void fail_fixed(const Node& node, const std::string& why);

/// `shape`, which holds the elements of input `input`, for as many as that has now: the axis in which the batch comes to
/// lie grows or shrinks with it, and `change->outer` is its. A batch of 1 lies in the axis of extent 1 at its place;
/// where there is none it has been joined to the axis before it, if all that follows is as it was, and else to the one
/// behind.
Shape follow_batch(const Node& node, size_t input, Shape shape, BatchChange* change);

/// For inputs that have the same extents on their first `num_axes` axes but `except`: where one of them follows a batch
/// of 1, those that stay at 1 are read by every image.
void follow_together(Node* node, int num_axes, int except, BatchChange* change);

/// Error where work along `axis` would join images of which the graph does not show that they are several: those of a
/// batch of 1 whose axis is gone.
void require_own_axis(const Node& node, int axis, const BatchChange& change);

}  // namespace solder
