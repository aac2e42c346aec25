#pragma once

#include <solder/solder.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "text_graph.h"

namespace solder_run {

extern const char* const kUsage;

/// The command line. A graph is a built-in's name or a file, text or ONNX.
struct Options {
  std::string graph;
  ShapeOverrides shapes;
  std::map<std::string, std::string> inputs, outputs;  ///< name (empty: the only one) -> .npy file
  std::map<std::string, std::string> values;           ///< of an ONNX file's inputs: a .npy file or numbers
  std::vector<std::string> weights;                    ///< .safetensors files; none: random
  std::string strip_prefix;                            ///< of the names in `weights`
  uint64_t seed = 1;
  std::string device = "best";  ///< for find_device()
  solder::CompileOptions compile;
  std::optional<int> iters;
  bool override_fixed = false;  ///< --shape may contradict what an ONNX file fixes
  bool profile = false, describe = false, no_run = false;
  std::string trace, graph_picture, memory_picture, saved_weights;

  enum class Action { run, help, help_graph, version, list, show } action = Action::run;
};

bool is_onnx(const std::string& graph);

/// A command line that cannot be understood: exit status 2.
struct UsageError {
  std::string message;
};

/// Throws UsageError; an option that would win over an earlier one in silence, or do nothing, is one.
Options parse_options(int argc, const char* const* argv);

}  // namespace solder_run
