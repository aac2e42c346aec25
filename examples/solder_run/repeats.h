#pragma once
// Blocks of a network that come several times in a row, so that pictures show them once.

#include <solder/solder.h>

#include <string>
#include <vector>

namespace solder_run {

/// `length` nodes that run, one behind the other, then the same again up to `times` times: equal kinds, types,
/// attributes, epilogues and ways of running, each time reading what the time before has made in its place.
struct Repeat {
  std::vector<size_t> nodes;  ///< of the graph, all times together
  size_t length = 0;
  size_t times = 0;
  std::string what;  ///< "layer1.1 to layer1.2" where names say so, otherwise empty
};

/// Those that save three nodes or more, none within another. Only the last time is read by what
/// follows or given out. `plans` are those of a compiled graph's nodes; empty for one as it was written.
std::vector<Repeat> find_repeats(const solder::Graph& graph, const std::vector<solder::NodePlan>& plans);

}  // namespace solder_run
