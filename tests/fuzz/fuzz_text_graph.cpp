// libFuzzer target: any text is a graph or a typed error that says where. A graph compiles, fused and as it is:
// passes, plans and memory plan hold for whatever the text format can say.

#include <solder/solder.h>

#include <cstdint>
#include <cstring>
#include <string>

#include "examples/solder_run/text_graph.h"
#include "tests/fuzz/fuzz_memory.h"

namespace {

using solder::ErrorKind;
using solder::Graph;

bool is_typed(const solder::Error& error) {
  return error.kind() == ErrorKind::invalid_argument || error.kind() == ErrorKind::shape_mismatch ||
         error.kind() == ErrorKind::unsupported;
}

// A resize's tables have an entry a row and a column.
bool has_large_tables(const Graph& graph) {
  for (const solder::Node& node : graph.nodes())
    if (node.kind == solder::NodeKind::resize)
      for (const size_t axis : {2, 3})
        if (node.outputs[0].shape[axis] > (1 << 16)) return true;
  return false;
}

// Zeros for every parameter; false when they take over 1 MiB. Inputs and values take no memory in compile().
bool make_weights(const Graph& graph, solder::TensorMap* weights) {
  int64_t left_bytes = 1 << 20;
  for (const solder::Node& node : graph.nodes()) {
    if (node.kind != solder::NodeKind::parameter) continue;
    const solder::TensorType& type = node.outputs[0];
    const int64_t num_bytes = solder::num_bytes(type.shape, type.dtype);
    if (num_bytes > left_bytes) return false;
    left_bytes -= num_bytes;
    const solder::Tensor tensor = solder::Tensor::empty(type.shape, type.dtype);
    if (num_bytes > 0) std::memset(tensor.data(), 0, static_cast<size_t>(num_bytes));
    (*weights)[node.name] = tensor;
  }
  return true;
}

void compile(const Graph& graph, const solder::TensorMap& weights, bool fuse) {
  try {
    const auto model = solder::compile(graph, weights, {.device = solder::Device::cpu(), .fuse = fuse});
    fuzz::must(model.graph().outputs().size() == graph.outputs().size());
    const solder::MemoryPlan& memory = model.memory();
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
               std::string(error.what()).starts_with(std::string(to_string(error.kind())) + ": net.txt:"));
    return 0;
  }
  solder::TensorMap weights;
  if (has_large_tables(graph) || !make_weights(graph, &weights)) return 0;
  for (const bool fuse : {false, true}) compile(graph, weights, fuse);
  return 0;
}
