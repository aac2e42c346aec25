#pragma once
// The operations of a text graph that are calls of the graph's builder; elementwise functions are not among them.

#include "text_line.h"

namespace solder_run {

/// A call with the tensors that its arguments name.
struct CallSite {
  solder::Graph& graph;
  Call& call;  ///< of which the builder takes its keys
  std::vector<solder::Value> x;
};

struct BuilderCall {
  const char* name;
  size_t least, most;  ///< tensors
  solder::Value (*build)(CallSite& site);
};

/// Null where `name` is none.
const BuilderCall* builder_call(std::string_view name);
std::vector<std::string> builder_call_names();

solder::DType parse_dtype(std::string_view text);

}  // namespace solder_run
