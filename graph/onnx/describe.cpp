// What a file declares, for people.

#include <map>
#include <set>

#include "graph/onnx/file.h"
#include "graph/onnx/onnx.h"
#include "runtime/check.h"

namespace solder {

std::string to_string(const OnnxDeclared& declared) {
  if (!declared.is_tensor) return "no tensor";
  if (!declared.has_shape) return to_string(declared.type) + " of any rank";
  std::string text;
  for (const OnnxExtent& extent : declared.shape)
    text += str(text.empty() ? "" : ", ", extent.value > 0      ? str(extent.value)
                                          : extent.name.empty() ? "?"
                                                                : extent.name);
  return str(to_string(declared.type), " [", text, "]");
}

std::string describe_onnx(const std::string& path) try {
  const FileSource source(path);
  OnnxFile file(source, path);
  const OnnxGraph& graph = file.graph();
  std::string text = str(path, ": opset ", file.opset(), ", ", graph.nodes.size(), " nodes, ",
                         graph.initializers.size(), " initializers\n");
  std::set<std::string> valued;
  for (const auto& [name, message] : graph.initializers) valued.insert(name);
  for (const OnnxDeclared& input : graph.inputs)
    if (!valued.contains(input.name)) text += str("  input ", input.name, ": ", to_string(input), "\n");
  for (const OnnxDeclared& output : graph.outputs)
    text += str("  output ", output.name, ": ", to_string(output), "\n");
  std::map<std::string, int64_t> counts;
  for (const ByteRange message : graph.nodes) {
    const OnnxNode node = file.read_node(message);
    ++counts[(node.domain.empty() ? "" : node.domain + ".") + node.op];
  }
  text += "  operators:";
  for (const auto& [op, count] : counts) text += str(" ", op, " ", count);
  return text + "\n";
}
SOLDER_HOST_MEMORY("describe_onnx()")

}  // namespace solder
