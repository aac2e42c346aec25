#pragma once
// The tensors of a run: from files, or random.

#include <solder/solder.h>

#include <map>
#include <string>
#include <vector>

#include "options.h"
#include "report.h"

namespace solder_run {

/// `files` by name, as --input or --output (`option`) gave them: a file without a name gets the only one of
/// `names`. Throws UsageError for a name that is not among `names`.
std::map<std::string, std::string> named(std::map<std::string, std::string> files, const std::string& option,
                                         const std::vector<std::string>& names);

/// A tensor for every input of `graph`: from its --input file, otherwise random, which `progress` says. Throws
/// UsageError for unknown names, Error for files that cannot be read or are of another type.
solder::TensorMap inputs_of(const solder::Graph& graph, const Options& options, const Progress& progress);

/// The parameters of `graph`: from the --weights files, otherwise random, which `progress` says. Throws
/// Error(invalid_argument) for a tensor that two files hold; what none holds, compile() says.
solder::TensorMap weights_of(const solder::Graph& graph, const Options& options, const Progress& progress);

/// What import_onnx() is told.
solder::OnnxOptions onnx_options(const Options& options);

}  // namespace solder_run
