#include "graph/graph.h"

#include <algorithm>
#include <sstream>

#include "runtime/check.h"

namespace solder {

std::string to_string(const TensorType& type) {
  return str(to_string(type.dtype), " ", to_string(type.shape));
}

const char* to_string(NodeKind kind) {
  switch (kind) {
    case NodeKind::input: return "input";
    case NodeKind::parameter: return "parameter";
    case NodeKind::conv2d: return "conv2d";
    case NodeKind::matmul: return "matmul";
    case NodeKind::elementwise: return "elementwise";
  }
  return "?";
}

const TensorType& Graph::type(Value value) const { return checked_type(value, "type"); }

const TensorType& Graph::checked_type(Value value, const char* op) const {
  SOLDER_REQUIRE(value.node >= 0 && static_cast<size_t>(value.node) < nodes_.size(), invalid_argument, op,
                 ": the value is not of this graph");
  const Node& node = nodes_[static_cast<size_t>(value.node)];
  SOLDER_REQUIRE(value.output >= 0 && static_cast<size_t>(value.output) < node.outputs.size(),
                 invalid_argument, op, ": node ", node.name, " has no output ", value.output);
  return node.outputs[static_cast<size_t>(value.output)];
}

std::string Graph::next_name(const char* op) const { return str(op, "_", nodes_.size()); }

Value Graph::append(Node node) {
  nodes_.push_back(std::move(node));
  return {static_cast<int>(nodes_.size()) - 1, 0};
}

void Graph::require_new_name(const std::string& name, const char* what) const {
  SOLDER_REQUIRE(!name.empty(), invalid_argument, what, " needs a name");
  for (const Node& node : nodes_) {
    SOLDER_REQUIRE((node.kind != NodeKind::input && node.kind != NodeKind::parameter) || node.name != name,
                   invalid_argument, what, " \"", name, "\": the graph already has an ", to_string(node.kind),
                   " of that name");
  }
}

Value Graph::input(const std::string& name, Shape shape, DType dtype) {
  require_new_name(name, "input");
  num_bytes(shape, dtype);
  return append({.kind = NodeKind::input, .name = name, .outputs = {{std::move(shape), dtype}}});
}

Value Graph::parameter(const std::string& name, Shape shape, DType dtype) {
  require_new_name(name, "parameter");
  num_bytes(shape, dtype);
  return append({.kind = NodeKind::parameter, .name = name, .outputs = {{std::move(shape), dtype}}});
}

void Graph::output(const std::string& name, Value value) {
  checked_type(value, "output");
  SOLDER_REQUIRE(!name.empty(), invalid_argument, "output needs a name");
  for (const auto& [other, unused] : outputs_)
    SOLDER_REQUIRE(other != name, invalid_argument, "output \"", name,
                   "\": the graph already has one of that name");
  outputs_.emplace_back(name, value);
}

Value Graph::name(Value value, const std::string& node_name) {
  checked_type(value, "name");
  Node& node = nodes_[static_cast<size_t>(value.node)];
  SOLDER_REQUIRE(node.kind != NodeKind::input && node.kind != NodeKind::parameter, invalid_argument,
                 "name: ", to_string(node.kind), " \"", node.name, "\" is known by its name and keeps it");
  node.name = node_name;
  return value;
}

Value Graph::conv2d(Value x, Value w, const Conv2dOptions& options) {
  const std::string node = options.name.empty() ? next_name("conv2d") : options.name;
  const TensorType& x_type = checked_type(x, "conv2d");
  const TensorType& w_type = checked_type(w, "conv2d");
  SOLDER_REQUIRE(x_type.dtype == DType::float32 && w_type.dtype == DType::float32, unsupported, node,
                 ": takes float32 tensors, not ", to_string(x_type), " and ", to_string(w_type),
                 ": cast them");
  SOLDER_REQUIRE(x_type.shape.size() == 4, shape_mismatch, node, ": x must be [N, C, H, W], not ",
                 to_string(x_type.shape));
  SOLDER_REQUIRE(w_type.shape.size() == 4, shape_mismatch, node, ": w must be [K, C / groups, R, S], not ",
                 to_string(w_type.shape));
  const Shape& xs = x_type.shape;
  const Shape& ws = w_type.shape;
  const ConvShape conv{.N = xs[0],
                       .C = xs[1],
                       .H = xs[2],
                       .W = xs[3],
                       .K = ws[0],
                       .R = ws[2],
                       .S = ws[3],
                       .groups = options.groups,
                       .stride_h = options.stride.h,
                       .stride_w = options.stride.w,
                       .dil_h = options.dilation.h,
                       .dil_w = options.dilation.w,
                       .pad_top = options.padding.top,
                       .pad_left = options.padding.left,
                       .pad_bottom = options.padding.bottom,
                       .pad_right = options.padding.right};
  validate(conv, node);
  SOLDER_REQUIRE(ws[1] * conv.groups == conv.C, shape_mismatch, node, ": x ", to_string(xs), " has ", conv.C,
                 " channels and w ", to_string(ws), " with groups ", conv.groups, " takes ",
                 ws[1] * conv.groups, ": w must be [K, ", conv.C / conv.groups, ", R, S]");
  Node result{.kind = NodeKind::conv2d, .name = node, .inputs = {x, w}};
  result.outputs = {{{conv.N, conv.K, conv.P(), conv.Q()}, DType::float32}};
  result.conv = conv;
  result.region = {.num_operands = 0, .exprs = {}, .outputs = {Arg::result()}};
  return append(std::move(result));
}

Value Graph::conv2d(Value x, Value w, Value bias, const Conv2dOptions& options) {
  const TensorType& w_type = checked_type(w, "conv2d");
  const TensorType& bias_type = checked_type(bias, "conv2d");
  const std::string node = options.name.empty() ? next_name("conv2d") : options.name;
  SOLDER_REQUIRE(w_type.shape.empty() || bias_type == (TensorType{{w_type.shape[0]}, DType::float32}),
                 shape_mismatch, node, ": bias must be float32 [", w_type.shape.empty() ? 0 : w_type.shape[0],
                 "], one value an ", "output channel of w ", to_string(w_type.shape), "; it is ",
                 to_string(bias_type));
  const Value y = conv2d(x, w, options);
  const TensorType result = type(y);
  const Shape bias_shape{result.shape[1], 1, 1};
  return elementwise(Op::add, {y, bias}, {result.shape, bias_shape}, Arg::operand(0), Arg::operand(1), 0, 0,
                     result);
}

Value Graph::matmul(Value a, Value b) {
  const std::string node = next_name("matmul");
  const TensorType& at = checked_type(a, "matmul");
  const TensorType& bt = checked_type(b, "matmul");
  SOLDER_REQUIRE(at.dtype == DType::float32 && bt.dtype == DType::float32, unsupported, node,
                 ": takes float32 tensors, not ", to_string(at), " and ", to_string(bt), ": cast them");
  const size_t rank = at.shape.size();
  SOLDER_REQUIRE(rank >= 2 && (bt.shape.size() == 2 || bt.shape.size() == rank), shape_mismatch, node,
                 ": needs a [..., m, k] and b [k, n] or [..., k, n], not ", to_string(at.shape), " and ",
                 to_string(bt.shape));
  const size_t b_rank = bt.shape.size();
  bool fits = at.shape[rank - 1] == bt.shape[b_rank - 2];
  for (size_t i = 0; b_rank == rank && i + 2 < rank; ++i) fits = fits && at.shape[i] == bt.shape[i];
  SOLDER_REQUIRE(
      fits, shape_mismatch, node, ": ", to_string(at.shape), " and ", to_string(bt.shape),
      " do not fit: the last extent of a must equal the last but one of b, and leading extents each other");
  Node result{
      .kind = NodeKind::matmul, .name = node, .inputs = {a, b}, .outputs = {{at.shape, DType::float32}}};
  result.outputs[0].shape[rank - 1] = bt.shape[b_rank - 1];
  num_bytes(result.outputs[0].shape, DType::float32);
  return append(std::move(result));
}

Value Graph::linear(Value x, Value w) {
  const std::string node = next_name("linear");
  const TensorType& xt = checked_type(x, "linear");
  const TensorType& wt = checked_type(w, "linear");
  SOLDER_REQUIRE(xt.dtype == DType::float32 && wt.dtype == DType::float32, unsupported, node,
                 ": takes float32 tensors, not ", to_string(xt), " and ", to_string(wt), ": cast them");
  SOLDER_REQUIRE(!xt.shape.empty() && wt.shape.size() == 2 && xt.shape.back() == wt.shape[1], shape_mismatch,
                 node, ": needs x [..., in] and w [out, in], not ", to_string(xt.shape), " and ",
                 to_string(wt.shape));
  Node result{
      .kind = NodeKind::matmul, .name = node, .inputs = {x, w}, .outputs = {{xt.shape, DType::float32}}};
  result.outputs[0].shape.back() = wt.shape[0];
  result.transpose_b = true;
  num_bytes(result.outputs[0].shape, DType::float32);
  return append(std::move(result));
}

Value Graph::linear(Value x, Value w, Value bias) {
  const TensorType& wt = checked_type(w, "linear");
  const TensorType& bt = checked_type(bias, "linear");
  SOLDER_REQUIRE(wt.shape.empty() || bt == (TensorType{{wt.shape[0]}, DType::float32}), shape_mismatch,
                 next_name("linear"), ": bias must be float32 [", wt.shape.empty() ? 0 : wt.shape[0],
                 "]; it is ", to_string(bt));
  return add(linear(x, w), bias);
}

Value Graph::elementwise(Op op, std::vector<Value> inputs, std::vector<Shape> operand_shapes, Arg a, Arg b,
                         float p, float q, TensorType result) {
  Node node{.kind = NodeKind::elementwise, .name = next_name(to_string(op)), .inputs = std::move(inputs)};
  node.outputs = {std::move(result)};
  node.region.num_operands = static_cast<int>(node.inputs.size());
  node.region.exprs = {{op, a, b, p, q}};
  node.region.outputs = {Arg::expr(0)};
  node.operand_shapes = std::move(operand_shapes);
  return append(std::move(node));
}

Value Graph::unary(Op op, Value x) {
  for (const OpParam& param : op_info(op).params)
    SOLDER_REQUIRE(!param.is_required(), invalid_argument, next_name(to_string(op)), ": needs `", param.name,
                   "`, which has no default");
  return unary(op, x, op_info(op).params[0].fallback, op_info(op).params[1].fallback);
}

Value Graph::unary(Op op, Value x, float p, float q) {
  SOLDER_REQUIRE(is_unary(op), invalid_argument, "unary: ", to_string(op), " is no function of one argument");
  SOLDER_REQUIRE(op != Op::clip || p <= q, invalid_argument, next_name(to_string(op)), ": low ", p,
                 " must not be above high ", q);
  const TensorType result = checked_type(x, to_string(op));
  return elementwise(op, {x}, {result.shape}, Arg::operand(0), {}, p, q, result);
}

Value Graph::binary(Op op, Value a, Value b) {
  SOLDER_REQUIRE(is_binary(op), invalid_argument, "binary: ", to_string(op),
                 " is no function of two arguments");
  const TensorType at = checked_type(a, to_string(op));
  const TensorType bt = checked_type(b, to_string(op));
  SOLDER_REQUIRE(at.dtype == bt.dtype, invalid_argument, next_name(to_string(op)), ": ", to_string(at),
                 " and ", to_string(bt), " differ in dtype: cast one of them");
  TensorType result{{}, at.dtype};
  SOLDER_REQUIRE(broadcast(at.shape, bt.shape, &result.shape), shape_mismatch, next_name(to_string(op)),
                 ": shapes ", to_string(at.shape), " and ", to_string(bt.shape),
                 " do not broadcast: aligned at the last axis, extents must be equal or 1");
  num_bytes(result.shape, result.dtype);
  if (a == b) return elementwise(op, {a}, {at.shape}, Arg::operand(0), Arg::operand(0), 0, 0, result);
  return elementwise(op, {a, b}, {at.shape, bt.shape}, Arg::operand(0), Arg::operand(1), 0, 0, result);
}

Value Graph::binary(Op op, Value a, float b) {
  SOLDER_REQUIRE(is_binary(op), invalid_argument, "binary: ", to_string(op),
                 " is no function of two arguments");
  const TensorType result = checked_type(a, to_string(op));
  return elementwise(op, {a}, {result.shape}, Arg::operand(0), Arg::immediate(b), 0, 0, result);
}

Value Graph::binary(Op op, float a, Value b) {
  SOLDER_REQUIRE(is_binary(op), invalid_argument, "binary: ", to_string(op),
                 " is no function of two arguments");
  const TensorType result = checked_type(b, to_string(op));
  return elementwise(op, {b}, {result.shape}, Arg::immediate(a), Arg::operand(0), 0, 0, result);
}

Value Graph::cast(Value x, DType dtype) {
  TensorType result = checked_type(x, "cast");
  if (result.dtype == dtype) return x;
  result.dtype = dtype;
  Node node{.kind = NodeKind::elementwise, .name = next_name("cast"), .inputs = {x}, .outputs = {result}};
  node.operand_shapes = {result.shape};
  node.region.outputs = {Arg::expr(0)};
  // Rounding is spelled out, so that it still happens when the value stays inside a fused region.
  const Op round = dtype == DType::float16 ? Op::to_float16 : Op::to_bfloat16;
  if (dtype == DType::float32)
    node.region.outputs = {Arg::operand(0)};
  else
    node.region.exprs = {{round, Arg::operand(0), {}, 0, 0}};
  return append(std::move(node));
}

std::string dump(const Graph& graph) {
  std::ostringstream out;
  const auto show = [&](Value value) {
    const Node& node = graph.nodes()[static_cast<size_t>(value.node)];
    return value.output == 0 ? node.name : str(node.name, ":", value.output);
  };
  for (const Node& node : graph.nodes()) {
    out << "  " << node.name << " = " << to_string(node.kind) << "(";
    for (size_t i = 0; i < node.inputs.size(); ++i) out << (i ? ", " : "") << show(node.inputs[i]);
    out << ")";
    if (!node.region.exprs.empty()) out << " {" << to_string(node.region) << "}";
    for (const TensorType& type : node.outputs) out << " : " << to_string(type);
    out << "\n";
  }
  for (const auto& [name, value] : graph.outputs())
    out << "  output " << name << " = " << show(value) << "\n";
  return out.str();
}

}  // namespace solder
