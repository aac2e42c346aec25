#pragma once
// The oracle of what passes do to 16-bit values: where a graph rounds, spelled out.

#include "graph/solder.h"

namespace solder::test {

inline Value rounded(Graph& g, Value value, DType dtype) {
  return dtype == DType::float16    ? g.unary(Op::to_float16, value)
         : dtype == DType::bfloat16 ? g.unary(Op::to_bfloat16, value)
                                    : value;
}

/// `fused`, which passes have made, in float32, a node an expression and all of it nchw: what it stores in 16 bits is
/// rounded there, by a node of its own.
inline Graph expanded(const Graph& fused) {
  Graph g;
  std::vector<std::vector<Value>> values;  // [node][output], float32
  for (const Node& node : fused.nodes()) {
    if (node.kind == NodeKind::input || node.kind == NodeKind::parameter) {
      const auto& [shape, dtype] = node.outputs[0];
      const Value source = node.kind == NodeKind::input ? g.input(node.name, shape, dtype, node.layout)
                                                        : g.parameter(node.name, shape, dtype);
      values.push_back({g.cast(source, DType::float32)});
      continue;
    }
    std::vector<Value> operands;
    for (const Value& input : node.inputs)
      operands.push_back(values[static_cast<size_t>(input.node)][static_cast<size_t>(input.output)]);
    Value result;
    if (node.kind != NodeKind::elementwise) {
      Node alone = node;
      const size_t num_own = node.num_own_inputs();
      alone.inputs = {operands.begin(), operands.begin() + static_cast<std::ptrdiff_t>(num_own)};
      alone.outputs = {{node.outputs[0].shape, DType::float32}};
      alone.epilogue = {};
      alone.layout = Layout::nchw;
      if (!node.epilogue.region.outputs.empty())
        alone.epilogue.region = {.num_operands = 0, .exprs = {}, .outputs = {Arg::result()}};
      result = g.append(alone);
      operands.erase(operands.begin(), operands.begin() + static_cast<std::ptrdiff_t>(num_own));
    }
    if (node.epilogue.region.outputs.empty()) {
      values.push_back({rounded(g, result, node.outputs[0].dtype)});
      continue;
    }
    for (size_t i = 0; i < operands.size(); ++i)  // a bias [K] is read as [K, 1, 1]
      if (g.type(operands[i]).shape != node.epilogue.operand_shapes[i])
        operands[i] = g.reshape(operands[i], node.epilogue.operand_shapes[i]);
    std::vector<Value> exprs;
    const auto of = [&](const Arg& arg) {
      if (arg.kind == Arg::Kind::result) return result;
      return (arg.kind == Arg::Kind::expr ? exprs : operands)[static_cast<size_t>(arg.index)];
    };
    // What is stored in 16 bits is what later expressions read.
    const auto store = [&](const Arg& arg, Value* value) {
      for (size_t i = 0; i < node.outputs.size(); ++i)
        if (node.epilogue.region.outputs[i] == arg) *value = rounded(g, *value, node.outputs[i].dtype);
    };
    store(Arg::result(), &result);
    for (const Expr& expr : node.epilogue.region.exprs) {
      const bool number_first = expr.a.kind == Arg::Kind::immediate;
      exprs.push_back(is_unary(expr.op)                     ? g.unary(expr.op, of(expr.a), expr.p, expr.q)
                      : number_first                        ? g.binary(expr.op, expr.a.value, of(expr.b))
                      : expr.b.kind == Arg::Kind::immediate ? g.binary(expr.op, of(expr.a), expr.b.value)
                                                            : g.binary(expr.op, of(expr.a), of(expr.b)));
      store(Arg::expr(static_cast<int>(exprs.size()) - 1), &exprs.back());
    }
    values.emplace_back();
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      const Arg& output = node.epilogue.region.outputs[i];
      const DType dtype = output.kind == Arg::Kind::operand ? node.outputs[i].dtype : DType::float32;
      values.back().push_back(rounded(g, of(output), dtype));
    }
  }
  for (const auto& [name, value] : fused.outputs())
    g.output(name, values[static_cast<size_t>(value.node)][static_cast<size_t>(value.output)]);
  return g;
}

}  // namespace solder::test
