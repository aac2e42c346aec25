#pragma once

#include <concepts>
#include <cstdint>
#include <span>
#include <string>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

#include "graph/region.h"
#include "runtime/dtype.h"
#include "runtime/shape.h"

namespace solder {

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

/// Two extents; one number means both.
struct Pair {
  int64_t h = 0, w = 0;
  constexpr Pair(int64_t both) : h(both), w(both) {}
  constexpr Pair(int64_t h_, int64_t w_) : h(h_), w(w_) {}
  bool operator==(const Pair&) const = default;
};

/// Rows and columns of zeros around an image; negative values crop.
struct Padding {
  int64_t top = 0, left = 0, bottom = 0, right = 0;
  constexpr Padding(int64_t all) : top(all), left(all), bottom(all), right(all) {}
  constexpr Padding(int64_t h, int64_t w) : top(h), left(w), bottom(h), right(w) {}
  constexpr Padding(int64_t top_, int64_t left_, int64_t bottom_, int64_t right_)
      : top(top_), left(left_), bottom(bottom_), right(right_) {}
  bool operator==(const Padding&) const = default;
};

struct Conv2dOptions {
  Pair stride = 1;
  Padding padding = 0;
  Pair dilation = 1;
  int64_t groups = 1;
  std::string name;  ///< of the node, for dumps, errors and profiles; made up when empty
};

/// The operations a node can be. What solder knows of each stands in one file and one row of a table.
enum class NodeKind : uint8_t { input, parameter, conv2d, matmul, elementwise, slice };

const char* to_string(NodeKind kind);

/// What a node is told besides its inputs; kinds without attributes have none.
struct Conv2dAttributes {  ///< inputs x [N,C,H,W], w [K,C/groups,R,S]
  Pair stride = 1;
  Padding padding = 0;
  Pair dilation = 1;
  int64_t groups = 1;
  bool operator==(const Conv2dAttributes&) const = default;
};
struct MatmulAttributes {    ///< inputs a [..., m, k], b [k, n] or [..., k, n]
  bool transpose_b = false;  ///< b is [n, k]
  bool operator==(const MatmulAttributes&) const = default;
};
struct SliceAttributes {  ///< input x; indices start, start + step, ... of `axis`, as many as the output has
  int axis = 0;
  int64_t start = 0, step = 1;
  bool operator==(const SliceAttributes&) const = default;
};
using Attributes = std::variant<std::monostate, Conv2dAttributes, MatmulAttributes, SliceAttributes>;

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

  /// Given from outside, and known by its name.
  bool is_given() const { return kind == NodeKind::input || kind == NodeKind::parameter; }
  size_t num_own_inputs() const { return inputs.size() - epilogue.operand_shapes.size(); }
  std::span<const Value> operands() const { return std::span(inputs).subspan(num_own_inputs()); }
  bool operator==(const Node&) const = default;
};

/// A computation, written call by call. Each call checks its arguments and infers the result's shape; a wrong
/// one throws Error naming op, node and shapes and leaves the graph as it was. Copyable plain data.
class Graph {
 public:
  /// A tensor given at run time. Names of inputs and parameters are unique in a graph.
  Value input(const std::string& name, Shape shape, DType dtype = DType::float32);

  /// A tensor given at compile().
  Value parameter(const std::string& name, Shape shape, DType dtype = DType::float32);

  /// Makes `value` a result of the graph under `name`. A value may have several names; a name is used once.
  void output(const std::string& name, Value value);

  /// Names the node that made `value`, for dumps, errors and profiles; returns `value`.
  Value name(Value value, const std::string& node_name);

  /// 2-D cross-correlation, as in PyTorch: x [N,C,H,W], w [K,C/groups,R,S], float32 -> [N,K,P,Q],
  ///   y[n,k,p,q] = sum over c,r,s of x[n, c, p * stride.h + r * dilation.h - top, q * stride.w + ...] * w[k,c,r,s]
  /// with x = 0 outside the image (0 times an infinite weight is NaN there too).
  Value conv2d(Value x, Value w, const Conv2dOptions& options = {});
  /// The same plus bias [K].
  template <std::same_as<Value> Bias>  // not deduced from {}, which means no options
  Value conv2d(Value x, Value w, Bias bias, const Conv2dOptions& options = {}) {
    return biased_conv2d(x, w, bias, options);
  }

  /// numpy.matmul for a [..., m, k] with b [k, n] or with b [..., k, n] of the same leading extents; float32.
  Value matmul(Value a, Value b);
  /// x [..., in] times w [out, in] transposed, plus bias [out]: torch.nn.Linear; float32.
  Value linear(Value x, Value w);
  Value linear(Value x, Value w, Value bias);

  /// Indices start, start + step, ... before stop of `axis` as a view of x, which moves no data. As in Python:
  /// negative axes, starts and stops count from the end, what lies beyond it is cut, and with a negative step
  /// the axis is walked backwards (a stop before the first index is then INT64_MIN). Any dtype.
  Value slice(Value x, int axis, int64_t start, int64_t stop, int64_t step = 1);

  /// Elementwise functions; formulas, bounds and special values in ops/elementwise/formulas.h. Any dtype; 16-bit types
  /// compute in float32 and round on store.
  Value abs(Value x) { return unary(Op::abs, x); }
  Value neg(Value x) { return unary(Op::neg, x); }
  Value exp(Value x) { return unary(Op::exp, x); }
  Value log(Value x) { return unary(Op::log, x); }
  Value sqrt(Value x) { return unary(Op::sqrt, x); }
  Value rsqrt(Value x) { return unary(Op::rsqrt, x); }
  Value reciprocal(Value x) { return unary(Op::reciprocal, x); }
  Value square(Value x) { return unary(Op::square, x); }
  Value erf(Value x) { return unary(Op::erf, x); }
  Value tanh(Value x) { return unary(Op::tanh, x); }
  Value sigmoid(Value x) { return unary(Op::sigmoid, x); }
  Value softplus(Value x) { return unary(Op::softplus, x); }
  Value relu(Value x) { return unary(Op::relu, x); }
  Value leaky_relu(Value x, float slope = 0.01f) { return unary(Op::leaky_relu, x, slope); }
  Value elu(Value x, float alpha = 1.0f) { return unary(Op::elu, x, alpha); }
  Value selu(Value x) { return unary(Op::selu, x); }
  Value gelu(Value x) { return unary(Op::gelu, x); }
  Value gelu_tanh(Value x) { return unary(Op::gelu_tanh, x); }
  Value silu(Value x) { return unary(Op::silu, x); }
  Value hard_sigmoid(Value x) { return unary(Op::hard_sigmoid, x); }
  Value hard_swish(Value x) { return unary(Op::hard_swish, x); }
  Value mish(Value x) { return unary(Op::mish, x); }
  Value double_mish(Value x) { return unary(Op::double_mish, x); }
  /// Error(invalid_argument) unless low <= high.
  Value clip(Value x, float low, float high) { return unary(Op::clip, x, low, high); }

  /// Elementwise arithmetic of two tensors of one dtype with numpy broadcasting, or of a tensor and a number.
  Value add(Value a, Value b) { return binary(Op::add, a, b); }
  Value sub(Value a, Value b) { return binary(Op::sub, a, b); }
  Value mul(Value a, Value b) { return binary(Op::mul, a, b); }
  Value div(Value a, Value b) { return binary(Op::div, a, b); }
  Value pow(Value a, Value b) { return binary(Op::pow, a, b); }
  Value min(Value a, Value b) { return binary(Op::min, a, b); }
  Value max(Value a, Value b) { return binary(Op::max, a, b); }
  Value add(Value a, float b) { return binary(Op::add, a, b); }
  Value add(float a, Value b) { return binary(Op::add, a, b); }
  Value sub(Value a, float b) { return binary(Op::sub, a, b); }
  Value sub(float a, Value b) { return binary(Op::sub, a, b); }
  Value mul(Value a, float b) { return binary(Op::mul, a, b); }
  Value mul(float a, Value b) { return binary(Op::mul, a, b); }
  Value div(Value a, float b) { return binary(Op::div, a, b); }
  Value div(float a, Value b) { return binary(Op::div, a, b); }
  Value pow(Value a, float b) { return binary(Op::pow, a, b); }
  Value pow(float a, Value b) { return binary(Op::pow, a, b); }
  Value min(Value a, float b) { return binary(Op::min, a, b); }
  Value min(float a, Value b) { return binary(Op::min, a, b); }
  Value max(Value a, float b) { return binary(Op::max, a, b); }
  Value max(float a, Value b) { return binary(Op::max, a, b); }

  /// The same by op, for programs that make graphs. Error(invalid_argument) when `op` has another arity or needs
  /// parameters that are not given; p and q are those of its row in op_info.h.
  Value unary(Op op, Value x);
  Value unary(Op op, Value x, float p, float q = 0);
  Value binary(Op op, Value a, Value b);
  Value binary(Op op, Value a, float b);
  Value binary(Op op, float a, Value b);

  /// `x` as `dtype`, rounded to nearest even.
  Value cast(Value x, DType dtype);

  const TensorType& type(Value value) const;
  const std::vector<Node>& nodes() const { return nodes_; }
  const std::vector<std::pair<std::string, Value>>& outputs() const { return outputs_; }

  /// For passes: appends a finished node (its arguments are not checked; verify() does that).
  Value append(Node node);

  /// For builders: appends `node` after inferring its outputs from its inputs and attributes, which throws the
  /// kind's errors. Of an elementwise node the output's dtype is given.
  Value add_node(Node node);

  bool operator==(const Graph& other) const { return nodes_ == other.nodes_ && outputs_ == other.outputs_; }

 private:
  const TensorType& checked_type(Value value, const char* op) const;
  std::string next_name(const char* op) const;
  Value matmul_node(Value a, Value b, bool transpose_b, const char* op);
  Value biased_conv2d(Value x, Value w, Value bias, const Conv2dOptions& options);
  Value elementwise(Op op, std::vector<Value> inputs, std::vector<Shape> operand_shapes, Arg a, Arg b,
                    float p, float q, DType dtype);

  std::vector<Node> nodes_;
  std::vector<uint64_t> stamps_;  // of nodes_
  std::vector<std::pair<std::string, Value>> outputs_;
  std::unordered_set<std::string> names_;         // of inputs and parameters
  std::unordered_set<std::string> output_names_;  // of outputs_
};

/// The graph as text, one node a line with shapes; fused regions are spelled out.
std::string dump(const Graph& graph);

}  // namespace solder
