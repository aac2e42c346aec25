#pragma once

#include <vector>

#include "graph/graph.h"
#include "runtime/tensor_view.h"

namespace solder {

/// How a value lies in memory: in that of `base`, its own unless it is a view, or is computed in its part of a
/// concat's result, which comes later.
struct ValueView {
  Value base;
  int64_t offset_elems = 0;  ///< of its first element from that of base
  TensorView view;           ///< without an address
};

/// What the distance of pixels is a multiple of where it is not the number of channels.
inline constexpr int64_t kPitchElems = 8;

/// A tensor that lies in memory of its own, and the bytes of that.
TensorView own_view(const TensorType& type, Layout layout);
int64_t own_bytes(const TensorView& view);

/// What a table by node and output has for the value.
template <class Table>
decltype(auto) at(Table& table, Value value) {
  return table[static_cast<size_t>(value.node)][static_cast<size_t>(value.output)];
}

/// By node and output.
using ValueViews = std::vector<std::vector<ValueView>>;

/// Appends those of `node`, the next of its graph. False where it is a view that strides cannot say of its input;
/// nothing is appended then, or with `expects_copy` what it will be once add_copies() has copied the input.
bool append_views(const Node& node, ValueViews* views, bool expects_copy = false);

/// Of a graph in which every view can be: add_copies() has seen to that, or will.
ValueViews value_views(const Graph& graph, bool expects_copies = false);

/// The same, with what a concat joins computed in its part of the result wherever its node can store that and all
/// its readers can read it. And where the first half of a tensor is joined with other values, in its own place, once
/// its second half is dead: then the whole tensor is computed in the result. Near linear in nodes.
ValueViews placed_value_views(const Graph& graph);

}  // namespace solder
