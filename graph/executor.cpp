#include "graph/executor.h"

#include "runtime/check.h"

namespace solder {

NodePlan plan_node(const Graph& graph, const Node& node, Device device, int64_t workspace_bytes) {
  (void)graph;
  // Near half of an H100's L2 cache: columns written there are still there when the GEMM reads them.
  constexpr int64_t kColumnTargetBytes = int64_t{40} << 20;
  NodePlan plan;
  switch (node.kind) {
    case NodeKind::input:
    case NodeKind::parameter: break;
    case NodeKind::conv2d:
      plan.program = lower(node.region, true);
      plan.has_epilogue = !node.region.exprs.empty();
      if (device.is_cuda()) {
        plan.im2col = choose_im2col_plan(node.conv, workspace_bytes, kColumnTargetBytes, node.name);
        plan.workspace_bytes = plan.im2col.workspace_bytes;
        plan.path = to_string(plan.im2col);
      } else {
        plan.path = "direct, CPU";
      }
      if (plan.has_epilogue) plan.path += "; epilogue in one pass";
      break;
    case NodeKind::matmul: plan.path = device.is_cuda() ? "cuBLAS" : "loops, CPU"; break;
    case NodeKind::elementwise:
      plan.program = lower(node.region, false);
      plan.path = "one pass";
      break;
  }
  return plan;
}

ElementwiseArgs bind_region(const Graph& graph, const Node& node, const NodeBuffers& buffers) {
  std::vector<ElementwiseTensor> operands, outputs;
  for (size_t i = 0; i < node.operand_shapes.size(); ++i) {
    if (node.kind == NodeKind::conv2d && i == 0) {  // its own result, in place
      operands.push_back({buffers.outputs[0], DType::float32, node.operand_shapes[0]});
      continue;
    }
    const size_t input = i + static_cast<size_t>(node.first_operand());
    operands.push_back({buffers.inputs[input], graph.type(node.inputs[input]).dtype, node.operand_shapes[i]});
  }
  for (size_t i = 0; i < node.outputs.size(); ++i)
    outputs.push_back({buffers.outputs[i], node.outputs[i].dtype, node.outputs[i].shape});
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
