#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "runtime/tensor_map.h"
#include "runtime/visibility.h"

namespace SOLDER_PUBLIC solder {

/// A tensor of integers or truth values that is known when a file is read.
struct OnnxIntegers {
  Shape shape;
  std::vector<int64_t> elements;  ///< row-major
};

struct OnnxOptions {
  /// Shapes of inputs, by name: needed where the file leaves an extent open.
  std::map<std::string, Shape> shapes;
  /// Inputs that become constants, by name: axes, sizes, weights. Float tensors are taken for integer inputs too, and
  /// their elements must then be whole (beyond 2^63: its limits); `integers` says them exactly.
  TensorMap values;
  std::map<std::string, OnnxIntegers> integers;
  /// Lets `shapes` contradict extents that the file fixes; reshapes inside of it may then not fit.
  bool override_fixed = false;
};

/// What a file holds, for compile(net.graph, net.weights).
struct OnnxNet {
  struct Port {
    std::string name;
    TensorType type;
  };
  Graph graph;
  TensorMap weights;
  std::vector<Port> inputs;   ///< that run() takes: those of the file but initializers and constants
  std::vector<Port> outputs;  ///< that run() gives; truth values are 1 or 0 in a float type
  std::map<std::string, OnnxIntegers>
      integers;  ///< outputs of the file that are integers known by now (Shape, Size)
  std::map<std::string, std::string> metadata;  ///< what else its writer says of it: classes, licences
};

/// Reads an ONNX file, opset 7 or newer, of the default operator domain, and its files of external data, which must lie
/// in its folder. Shape arithmetic is worked out, so that all shapes are fixed. Weights keep float32, float16 or
/// bfloat16.
///
/// Error(io) where the file cannot be read, is truncated or contradicts itself. Error(invalid_argument) lists the inputs
/// whose shapes are open. Error(unsupported) lists everything that solder does not have, by operator: how many, the
/// first names, and what about them.
///
/// What is held beside weights and graph is bounded by the file's own size and 64 KiB.
OnnxNet import_onnx(const std::string& path, const OnnxOptions& options = {});

/// The same of bytes in memory, without external data; `name` is what messages call them.
OnnxNet parse_onnx(std::span<const std::byte> bytes, const OnnxOptions& options = {},
                   const std::string& name = "<memory>");

/// What a file declares, for people: opset, inputs and outputs with their shapes, operators with their numbers. Whether
/// it can be imported is not looked at. Error(io) as import_onnx().
std::string describe_onnx(const std::string& path);

}  // namespace solder
