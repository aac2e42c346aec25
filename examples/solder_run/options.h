#pragma once

#include <solder/solder.h>

#include <map>
#include <optional>
#include <string>

#include "text_graph.h"

namespace solder_run {

extern const char* const kUsage;

/// The command line. A graph is a built-in's name or a file.
struct Options {
  std::string graph;
  ShapeOverrides shapes;
  std::map<std::string, std::string> inputs, outputs;  ///< name (empty: the only one) -> .npy file
  std::string weights;                                 ///< .safetensors file; empty: random
  uint64_t seed = 1;
  std::string device = "best";
  solder::CompileOptions compile;
  std::optional<int> iters;
  bool profile = false, describe = false, no_run = false;
  std::string trace, graph_picture, memory_picture;

  enum class Action { run, help, help_graph, list, show } action = Action::run;
};

/// A command line that cannot be understood: exit status 2.
struct UsageError {
  std::string message;
};

/// Throws UsageError.
Options parse_options(int argc, const char* const* argv);

/// "cpu", "cuda", "cuda:1" or "best" as a device; says on stderr why "best" is the CPU. Throws
/// Error(unsupported) for a GPU that is not there.
solder::Device find_device(const std::string& name);

}  // namespace solder_run
