#include "graph/model_data.h"
#include "runtime/check.h"

namespace solder {

const ModelData& Model::data() const {
  SOLDER_REQUIRE(data_ != nullptr, invalid_argument, "this Model is empty: compile() makes one");
  return *data_;
}

const Graph& Model::graph() const { return data().graph; }
const MemoryPlan& Model::memory() const { return data().memory; }
const std::vector<NodePlan>& Model::nodes() const { return data().plans; }
Device Model::device() const { return data().options().device; }
int64_t Model::weights_bytes() const { return data().weights_bytes; }
int64_t Model::session_bytes() const { return data().memory.arena_bytes() + data().cublas_workspace_bytes; }

std::string Model::describe() const try {
  std::string text =
      str("on ", to_string(device()), ", ", to_string(data().options().math), "\n", dump(graph()));
  for (size_t i = 0; i < nodes().size(); ++i)
    if (!nodes()[i].path.empty()) text += str("  ", graph().nodes()[i].name, ": ", nodes()[i].path, "\n");
  return text + dump(graph(), memory()) +
         str("  peak ", peak_bytes(), " B: weights ", weights_bytes(), " B + session ", session_bytes(),
             " B\n");
}
SOLDER_HOST_MEMORY("describe()")

}  // namespace solder
