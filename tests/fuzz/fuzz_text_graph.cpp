// libFuzzer target: any text is a graph or a typed error that says where. A graph goes through the passes and
// the memory plan, which hold for whatever the text format can say.

#include <cstdint>
#include <string>

#include "examples/solder_run/text_graph.h"
#include "solder/graph/passes/fuse.h"
#include "solder/graph/passes/verify.h"
#include "tests/fuzz/fuzz_memory.h"

namespace {

using solder::ErrorKind;
using solder::Graph;
using solder::NodeKind;

bool is_typed(const solder::Error& error) {
  return error.kind() == ErrorKind::io || error.kind() == ErrorKind::invalid_argument ||
         error.kind() == ErrorKind::shape_mismatch || error.kind() == ErrorKind::unsupported;
}

void plan(const Graph& graph) {
  std::vector<solder::NodePlan> nodes;
  for (const solder::Node& node : graph.nodes()) {
    nodes.emplace_back();
    const bool is_conv = node.kind == NodeKind::conv2d;
    if (is_conv || node.kind == NodeKind::elementwise) nodes.back().program = lower(node.region, is_conv);
  }
  try {
    const solder::MemoryPlan memory = plan_memory(graph, nodes);
    for (const auto& outputs : memory.values)
      for (const solder::Placement& value : outputs)
        fuzz::must(value.offset_bytes < 0 || value.size_bytes <= memory.arena_bytes() - value.offset_bytes);
  } catch (const solder::Error& error) {
    fuzz::must(error.kind() == ErrorKind::out_of_memory);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Graph graph;
  try {
    graph = solder_run::parse_graph({reinterpret_cast<const char*>(data), size}, "net.txt");
  } catch (const solder::Error& error) {
    fuzz::must(is_typed(error) &&
               std::string(error.what()).find(std::string(to_string(error.kind())) + ": net.txt:") == 0);
    return 0;
  }
  for (const Graph& passed : {solder::remove_dead(graph), solder::fuse(solder::remove_dead(graph))}) {
    verify(passed);
    fuzz::must(passed.outputs().size() == graph.outputs().size());
    plan(passed);
  }
  return 0;
}
