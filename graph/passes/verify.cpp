#include "graph/passes/verify.h"

#include <set>

#include "runtime/check.h"

namespace solder {
namespace {

void verify_region(const Node& node) {
  const Region& region = node.region;
  const auto check = [&](const Arg& arg, size_t num_exprs) {
    const int limit = arg.kind == Arg::Kind::operand ? region.num_operands
                      : arg.kind == Arg::Kind::expr  ? static_cast<int>(num_exprs)
                                                     : 1;
    SOLDER_REQUIRE(arg.index >= 0 && arg.index < limit, invalid_argument, node.name,
                   ": an expression refers to a value that is not there (", to_string(region), ")");
  };
  for (size_t i = 0; i < region.exprs.size(); ++i) {
    const Expr& expr = region.exprs[i];
    SOLDER_REQUIRE((is_unary(expr.op) || is_binary(expr.op)) && expr.a.kind != Arg::Kind::none &&
                       (expr.b.kind == Arg::Kind::none) == is_unary(expr.op),
                   invalid_argument, node.name, ": ", to_string(expr.op),
                   " has the wrong number of arguments");
    check(expr.a, i);
    check(expr.b, i);
  }
  SOLDER_REQUIRE(region.outputs.size() == node.outputs.size(), invalid_argument, node.name, ": ",
                 region.outputs.size(), " region outputs for ", node.outputs.size(), " node outputs");
  for (const Arg& output : region.outputs) check(output, region.exprs.size());

  const size_t num_inputs = node.inputs.size() - static_cast<size_t>(node.first_operand());
  SOLDER_REQUIRE(
      static_cast<size_t>(region.num_operands) == num_inputs && node.operand_shapes.size() == num_inputs,
      invalid_argument, node.name, ": ", region.num_operands, " operands, ", node.operand_shapes.size(),
      " operand shapes, ", num_inputs, " operand inputs");
  for (const Shape& shape : node.operand_shapes) {
    Shape result;
    SOLDER_REQUIRE(broadcast(shape, node.outputs[0].shape, &result) && result == node.outputs[0].shape,
                   invalid_argument, node.name, ": operand shape ", to_string(shape),
                   " does not broadcast to ", to_string(node.outputs[0].shape));
  }
  for (const TensorType& output : node.outputs)
    SOLDER_REQUIRE(output.shape == node.outputs[0].shape, invalid_argument, node.name,
                   ": outputs differ in shape");
}

}  // namespace

void verify(const Graph& graph) {
  std::set<std::string> names;
  const auto& nodes = graph.nodes();
  for (size_t i = 0; i < nodes.size(); ++i) {
    const Node& node = nodes[i];
    for (const Value& input : node.inputs) {
      SOLDER_REQUIRE(input.node >= 0 && static_cast<size_t>(input.node) < i, invalid_argument, node.name,
                     ": an input does not come from an earlier node");
      graph.type(input);
    }
    SOLDER_REQUIRE(!node.outputs.empty(), invalid_argument, node.name, ": has no output");
    switch (node.kind) {
      case NodeKind::input:
      case NodeKind::parameter:
        SOLDER_REQUIRE(node.inputs.empty() && names.insert(node.name).second, invalid_argument, node.name,
                       ": an input or parameter has inputs, or its name is taken");
        break;
      case NodeKind::conv2d: {
        const ConvShape& s = node.conv;
        validate(s, node.name);
        SOLDER_REQUIRE(node.inputs.size() >= 2 &&
                           graph.type(node.inputs[0]).shape == (Shape{s.N, s.C, s.H, s.W}) &&
                           graph.type(node.inputs[1]).shape == (Shape{s.K, s.C / s.groups, s.R, s.S}) &&
                           node.outputs[0].shape == (Shape{s.N, s.K, s.P(), s.Q()}),
                       invalid_argument, node.name, ": its tensors do not match ", to_string(s));
        verify_region(node);
        break;
      }
      case NodeKind::matmul:
        SOLDER_REQUIRE(node.inputs.size() == 2 && node.outputs.size() == 1, invalid_argument, node.name,
                       ": a matmul has two inputs and one output");
        break;
      case NodeKind::elementwise: verify_region(node); break;
    }
    for (size_t operand = 0; operand < node.operand_shapes.size(); ++operand) {
      const Value input = node.inputs[static_cast<size_t>(node.first_operand()) + operand];
      SOLDER_REQUIRE(num_elements(node.operand_shapes[operand]) == num_elements(graph.type(input).shape),
                     invalid_argument, node.name, ": operand ", operand, " reads ",
                     to_string(graph.type(input)), " as ", to_string(node.operand_shapes[operand]));
    }
  }
  for (const auto& [name, value] : graph.outputs()) graph.type(value);
}

}  // namespace solder
