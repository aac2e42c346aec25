#pragma once
// What a graph consists of.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "graph/attributes.h"
#include "graph/region.h"
#include "ops/scaled.h"
#include "runtime/dtype.h"
#include "runtime/shape.h"
#include "runtime/visibility.h"

namespace SOLDER_PUBLIC solder {

/// Static type of a value.
struct TensorType {
  Shape shape;
  DType dtype = DType::float32;
  bool operator==(const TensorType&) const = default;
};

/// "float32 [64, 3, 224, 224]".
std::string to_string(const TensorType& type);

/// What a node of a graph produced: a handle, valid for the Graph that returned it and its copies.
struct Value {
  int node = -1;
  int output = 0;
  uint64_t stamp = 0;  ///< of the call that made it, by which another graph's value is told; 0 is not checked

  bool operator==(const Value& other) const { return node == other.node && output == other.output; }
};

/// Elementwise work on what a node has computed, before it is stored; of an elementwise node, all its work.
struct Epilogue {
  Region region;                      ///< its outputs are the node's; none: the node stores its result
  std::vector<Shape> operand_shapes;  ///< under which each operand is read; a bias [K] is read as [K, 1, 1]
  bool operator==(const Epilogue&) const = default;
};

/// One operation.
struct Node {
  NodeKind kind = NodeKind::input;
  std::string name;
  std::vector<Value> inputs;  ///< the kind's own, then the epilogue's operands
  std::vector<TensorType> outputs;
  Attributes attributes;
  Epilogue epilogue;
  Layout layout = Layout::nchw;        ///< of its outputs, unless they are views
  std::vector<ScaledChannels> scaled;  ///< where its output is scaled, which compile() decides

  /// Given from outside, and known by its name.
  bool is_given() const { return kind == NodeKind::input || kind == NodeKind::parameter; }
  size_t num_own_inputs() const { return inputs.size() - epilogue.operand_shapes.size(); }
  std::span<const Value> operands() const { return std::span(inputs).subspan(num_own_inputs()); }
  bool operator==(const Node&) const = default;
};

}  // namespace solder
