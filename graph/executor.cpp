#include "graph/executor.h"

#include "ops/elementwise/table.h"

namespace solder {

NodeBuffers unbound(const Node& node) {
  return {std::vector<void*>(node.inputs.size()), std::vector<void*>(node.outputs.size())};
}

NodePlan plan_node(const Graph& graph, const Node& node, const PlanOptions& options,
                   std::span<const float> weights) {
  NodePlan plan;
  switch (node.kind) {
    case NodeKind::input:
    case NodeKind::parameter: break;
    case NodeKind::conv2d: {
      plan.program = lower(node.region, true);
      plan.conv = plan_conv({.node = node.name,
                             .shape = node.conv,
                             .math = options.math,
                             .epilogue = plan.program,
                             .operands = operands_of(graph, node, unbound(node)),
                             .weights = weights,
                             .workspace_bytes = options.workspace_bytes},
                            options.device.is_cuda() ? &options.info : nullptr, options.conv);
      plan.workspace_bytes = plan.conv->scratch_bytes;
      plan.path = plan.conv->words;
      plan.packed = std::move(plan.conv->packed);
      plan.uses_cublas = plan.conv->uses_cublas;
      if (options.device.is_cuda() && needs_pass(plan)) {
        plan.path += "; then one elementwise pass";
        plan.pass = choose_elementwise_path(as_pass(plan.program), bind_region(graph, node, unbound(node)));
      }
      break;
    }
    case NodeKind::matmul:
      plan.path = options.device.is_cuda() ? "cuBLAS" : "loops, CPU";
      plan.uses_cublas = true;
      break;
    case NodeKind::elementwise:
      plan.program = lower(node.region, false);
      plan.path = "one pass";
      if (!options.device.is_cuda()) break;
      plan.pass = choose_elementwise_path(plan.program, bind_region(graph, node, unbound(node)));
      if (plan.pass == ElementwisePath::table) {
        // The table is made in place, by the program itself, from every bit pattern.
        plan.packed.resize(kTableElems * sizeof(uint16_t));
        for (size_t i = 0; i < kTableElems; ++i)
          plan.packed[2 * i] = std::byte(i % 256), plan.packed[2 * i + 1] = std::byte(i / 256);
      }
      break;
  }
  return plan;
}

std::vector<TensorView> operands_of(const Graph& graph, const Node& node, const NodeBuffers& buffers) {
  std::vector<TensorView> operands;
  for (size_t i = 0; i < node.operand_shapes.size(); ++i) {
    const size_t input = i + static_cast<size_t>(node.first_operand());
    operands.push_back(
        dense_view(buffers.inputs[input], graph.type(node.inputs[input]).dtype, node.operand_shapes[i]));
  }
  return operands;
}

ConvTensors conv_tensors(const Graph& graph, const Node& node, const NodeBuffers& buffers) {
  ConvTensors tensors{.x = static_cast<const float*>(buffers.inputs[0]),
                      .w = static_cast<const float*>(buffers.inputs[1]),
                      .packed = buffers.packed,
                      .y = static_cast<float*>(buffers.outputs[0]),
                      .scratch = buffers.workspace};
  for (const TensorView& operand : operands_of(graph, node, buffers))
    tensors.operands.push_back(operand.data);
  return tensors;
}

ElementwiseArgs bind_region(const Graph& graph, const Node& node, const NodeBuffers& buffers) {
  std::vector<TensorView> outputs, operands = operands_of(graph, node, buffers);
  for (size_t i = 0; i < node.outputs.size(); ++i)
    outputs.push_back(dense_view(buffers.outputs[i], node.outputs[i].dtype, node.outputs[i].shape));
  if (node.kind == NodeKind::conv2d) operands.insert(operands.begin(), outputs[0]);
  return bind_elementwise(node.outputs[0].shape, operands, outputs);
}

GemmShape gemm_of(const Graph& graph, const Node& node) {
  const Shape& a = graph.type(node.inputs[0]).shape;
  const Shape& b = graph.type(node.inputs[1]).shape;
  const Shape& c = node.outputs[0].shape;
  const int64_t k = a.back(), n = c.back();
  int64_t m = 1, count = 1;
  if (b.size() == 2) {  // one B for all: the leading extents of A are rows
    for (size_t i = 0; i + 1 < a.size(); ++i) m *= a[i];
  } else {
    m = a[a.size() - 2];
    for (size_t i = 0; i + 2 < a.size(); ++i) count *= a[i];
  }
  GemmShape gemm = packed_gemm(m, n, k, node.transpose_b);
  gemm.count = count;
  return gemm;
}

}  // namespace solder
