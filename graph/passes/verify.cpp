#include "graph/nodes/node_def.h"
#include "graph/passes/passes.h"
#include "runtime/check.h"

namespace solder {
namespace {

void verify_region(const Node& node) {
  const Region& region = node.epilogue.region;
  const bool has_result = node.kind != NodeKind::elementwise;
  const auto check = [&](const Arg& arg, size_t num_exprs) {
    const int limit = arg.kind == Arg::Kind::operand  ? region.num_operands
                      : arg.kind == Arg::Kind::expr   ? static_cast<int>(num_exprs)
                      : arg.kind == Arg::Kind::result ? has_result
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
  for (const Arg& output : region.outputs) {
    SOLDER_REQUIRE(output.kind != Arg::Kind::none && output.kind != Arg::Kind::immediate, invalid_argument,
                   node.name, ": a region stores what it has not computed");
    check(output, region.exprs.size());
  }
  SOLDER_REQUIRE(static_cast<size_t>(region.num_operands) == node.operands().size(), invalid_argument,
                 node.name, ": ", region.num_operands, " operands and ", node.operands().size(),
                 " shapes under which they are read");
}

// That the operands' shapes are other shapes of their tensors, which broadcast to the node's own.
void verify_operands(const Graph& graph, const Node& node) {
  const Shape& space = node.outputs[0].shape;
  for (size_t i = 0; i < node.operands().size(); ++i) {
    const Shape& shape = node.epilogue.operand_shapes[i];
    Shape result;
    SOLDER_REQUIRE(broadcast(shape, space, &result) && result == space, invalid_argument, node.name,
                   ": operand shape ", to_string(shape), " does not broadcast to ", to_string(space));
    const TensorType& type = graph.type(node.operands()[i]);
    SOLDER_REQUIRE(num_elements(shape) == num_elements(type.shape), invalid_argument, node.name, ": operand ",
                   i, " reads ", to_string(type), " as ", to_string(shape));
  }
}

// What the kind says of the node's types. An epilogue's outputs have the shape of the result that it follows, and
// the dtypes that they are stored as.
void verify_types(const Graph& graph, const Node& node, const NodeDef& def) {
  if (def.infer == nullptr) return;
  const std::vector<TensorType> results = def.infer(node, input_types(graph, node));
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    const TensorType& result = results[def.takes_epilogue ? 0 : i];
    const bool same_dtype = def.takes_epilogue || node.outputs[i].dtype == result.dtype;
    SOLDER_REQUIRE(node.outputs[i].shape == result.shape && same_dtype, invalid_argument, node.name,
                   ": output ", i, " is ", to_string(node.outputs[i]), "; ", def.name, " gives ",
                   to_string(result));
  }
}

}  // namespace

void verify(const Graph& graph) {
  std::unordered_set<std::string> names;
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    const Node& node = graph.nodes()[i];
    const NodeDef& def = node_def(node.kind);
    for (const Value& input : node.inputs) {
      SOLDER_REQUIRE(input.node >= 0 && static_cast<size_t>(input.node) < i, invalid_argument, node.name,
                     ": an input does not come from an earlier node");
      graph.type(input);
    }
    require_form(node);
    SOLDER_REQUIRE(!node.outputs.empty(), invalid_argument, node.name, ": a ", def.name, " has an output");
    SOLDER_REQUIRE(node.layout == Layout::nchw || (def.view == nullptr && node.outputs[0].shape.size() == 4),
                   invalid_argument, node.name, ": lies ", to_string(node.layout),
                   ", which is for [N, C, H, W]");
    SOLDER_REQUIRE(!node.is_given() || names.insert(node.name).second, invalid_argument, node.name,
                   ": an input or parameter of that name is there already");
    if (def.takes_epilogue) {
      verify_region(node);
      verify_operands(graph, node);
    } else {
      SOLDER_REQUIRE(node.outputs.size() == 1 && node.epilogue == Epilogue{}, invalid_argument, node.name,
                     ": a ", def.name, " has one output and no epilogue");
    }
    verify_types(graph, node, def);
  }
  for (const auto& [name, value] : graph.outputs()) graph.type(value);
}

}  // namespace solder
