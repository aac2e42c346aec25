#pragma once
// What the tests of generated elementwise kernels share: programs to generate, and a cache folder of their
// own.

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "graph/lower.h"
#include "graph/passes/passes.h"
#include "ops/elementwise/generated.h"
#include "ops/elementwise/pass.h"
#include "tests/cases/random_graph.h"
#include "tests/support/support.h"

namespace solder::test {

namespace fs = std::filesystem;

// A folder that SOLDER_CACHE_DIR names while this lives.
class CacheFolder {
 public:
  explicit CacheFolder(const std::string& below = "") {
    std::string name = (fs::temp_directory_path() / "solder_test_XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    root_ = name;
    use(root_ / below);
  }
  ~CacheFolder() {
    ::unsetenv("SOLDER_CACHE_DIR");
    fs::remove_all(root_);
  }
  void use(const fs::path& folder) { ::setenv("SOLDER_CACHE_DIR", folder.c_str(), 1); }
  const fs::path& root() const { return root_; }

  std::vector<fs::path> files() const {
    std::vector<fs::path> found;
    for (const auto& entry : fs::recursive_directory_iterator(root_))
      if (entry.is_regular_file()) found.push_back(entry.path());
    return found;
  }

 private:
  fs::path root_;
};

// A program and the tensors it is for, without addresses.
struct Bound {
  Program program;
  std::vector<TensorView> operands, outputs;

  ElementwiseArgs args() const { return bind_elementwise(operands, outputs); }
  std::string source() const { return elementwise_source(program, args()); }
  ElementwisePass pass(const DeviceInfo* device) const { return {program, operands, outputs, device}; }
};

inline Bound bound(const Graph& graph, const Node& node) {
  Bound result;
  for (size_t i = 0; i < node.inputs.size(); ++i)
    result.operands.push_back(
        dense_view(nullptr, graph.type(node.inputs[i]).dtype, node.epilogue.operand_shapes[i]));
  for (const TensorType& type : node.outputs)
    result.outputs.push_back(dense_view(nullptr, type.dtype, type.shape));
  result.program = lower(node.epilogue.region, false, node.outputs);
  return result;
}

// `build`'s graph as one program over float32 or other inputs "x0", "x1", ...
inline Bound bound(const std::vector<TensorType>& inputs, Value (*build)(Graph&, const std::vector<Value>&)) {
  Graph g;
  std::vector<Value> values;
  for (const TensorType& type : inputs)
    values.push_back(g.input("x" + std::to_string(values.size()), type.shape, type.dtype));
  g.output("y", build(g, values));
  const Graph fused = fuse(g);
  REQUIRE(fused.nodes().size() == inputs.size() + 1);
  return bound(fused, fused.nodes().back());
}

// The elementwise nodes of random graphs from seed 1 on, `count` of them.
template <class Check>
void for_random_programs(int count, Check check) {
  for (uint64_t seed = 1; count > 0; ++seed) {
    const Graph graph = fuse(add_copies(GraphGenerator(seed).take().graph));
    for (const Node& node : graph.nodes()) {
      if (node.kind != NodeKind::elementwise || num_elements(node.outputs[0].shape) == 0 || count == 0)
        continue;
      CAPTURE(seed);
      check(bound(graph, node));
      --count;
    }
  }
}

inline bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

inline Value scale_bias_mish(Graph& g, const std::vector<Value>& v) {
  return g.mish(g.add(g.mul(v[0], v[1]), v[2]));
}
inline Value two_sub_clip(Graph& g, const std::vector<Value>& v) {
  return g.clip(g.sub(2.0f, v[0]), -1, 0.5f);
}
inline Value gate(Graph& g, const std::vector<Value>& v) { return g.mul(v[0], g.sigmoid(g.tanh(v[0]))); }

}  // namespace solder::test
