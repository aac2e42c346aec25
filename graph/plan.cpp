#include "graph/plan.h"

#include <algorithm>
#include <sstream>

#include "runtime/check.h"
#include "runtime/divide.h"

namespace solder {
namespace {

// No machine has as much, and a sum of a few such numbers is an int64_t still.
constexpr int64_t kMaxBytes = int64_t{1} << 60;

void require_possible(int64_t bytes, const Node& node) {
  SOLDER_REQUIRE(bytes <= kMaxBytes, out_of_memory, "at node ", node.name,
                 " the values of the graph take more than 2^60 bytes");
}

// A block of memory and the values that take it over from one another in place.
struct Block {
  std::vector<Value> values;
  int64_t size_bytes = 0;
  int first_node = 0;
  int last_node = 0;
  bool pinned = false;  // holds an input or output of the graph
};

Placement& at(MemoryPlan& plan, Value value) {
  return plan.values[static_cast<size_t>(value.node)][static_cast<size_t>(value.output)];
}

// The input whose memory `output` of `node` may take: same dtype, read at full shape, dying here.
bool may_take_over(const Graph& graph, const Node& node, const NodePlan& plan, int node_index, size_t operand,
                   size_t output, const MemoryPlan& memory) {
  if (node.kind != NodeKind::elementwise) return false;
  const Value input = node.inputs[operand];
  if (graph.nodes()[static_cast<size_t>(input.node)].kind == NodeKind::parameter) return false;
  const Placement& placement =
      memory.values[static_cast<size_t>(input.node)][static_cast<size_t>(input.output)];
  // One tensor may be several operands (different views); each of them must be read before the store.
  for (size_t other = 0; other < node.inputs.size(); ++other) {
    if (node.inputs[other] != input) continue;
    if (node.operand_shapes[other] != node.outputs[output].shape) return false;
    if (!may_overwrite(plan.program, static_cast<int>(other), static_cast<int>(output))) return false;
  }
  return placement.last_node == node_index && graph.type(input).dtype == node.outputs[output].dtype;
}

}  // namespace

MemoryPlan plan_memory(const Graph& graph, const std::vector<NodePlan>& nodes) {
  const int num_nodes = static_cast<int>(graph.nodes().size());
  MemoryPlan plan;
  std::vector<std::vector<bool>> pinned(static_cast<size_t>(num_nodes));
  for (int i = 0; i < num_nodes; ++i) {
    const Node& node = graph.nodes()[static_cast<size_t>(i)];
    plan.values.emplace_back();
    for (const TensorType& type : node.outputs) {
      plan.values.back().push_back({-1, num_bytes(type.shape, type.dtype), i, i});
      require_possible(plan.values.back().back().size_bytes, node);
    }
    require_possible(nodes[static_cast<size_t>(i)].workspace_bytes, node);
    pinned[static_cast<size_t>(i)].assign(node.outputs.size(), node.kind == NodeKind::input);
    for (const Value& input : node.inputs) at(plan, input).last_node = i;
    plan.workspace_bytes = std::max(plan.workspace_bytes,
                                    round_up(nodes[static_cast<size_t>(i)].workspace_bytes, kArenaAlignment));
  }
  for (const auto& [name, value] : graph.outputs())
    pinned[static_cast<size_t>(value.node)][static_cast<size_t>(value.output)] = true;

  // Values into blocks. A pinned value never shares: it must survive until the next run.
  std::vector<Block> blocks;
  std::vector<std::vector<int>> block_of(static_cast<size_t>(num_nodes));
  for (int i = 0; i < num_nodes; ++i) {
    const Node& node = graph.nodes()[static_cast<size_t>(i)];
    std::vector<int>& own = block_of[static_cast<size_t>(i)];
    own.assign(node.outputs.size(), -1);
    if (node.kind == NodeKind::parameter) continue;
    std::vector<int> taken;
    for (size_t output = 0; output < node.outputs.size(); ++output) {
      const Placement& placement = plan.values[static_cast<size_t>(i)][output];
      if (placement.size_bytes == 0) continue;
      const bool is_pinned = pinned[static_cast<size_t>(i)][output];
      int block = -1;
      for (size_t operand = 0; operand < node.operand_shapes.size() && block < 0 && !is_pinned; ++operand) {
        if (!may_take_over(graph, node, nodes[static_cast<size_t>(i)], i, operand, output, plan)) continue;
        const Value input = node.inputs[operand];
        const int candidate = block_of[static_cast<size_t>(input.node)][static_cast<size_t>(input.output)];
        if (blocks[static_cast<size_t>(candidate)].pinned) continue;
        if (std::find(taken.begin(), taken.end(), candidate) == taken.end()) block = candidate;
      }
      if (block < 0) {
        block = static_cast<int>(blocks.size());
        blocks.push_back({{}, placement.size_bytes, is_pinned ? 0 : i, is_pinned ? num_nodes : i, is_pinned});
      }
      taken.push_back(block);
      Block& target = blocks[static_cast<size_t>(block)];
      target.values.push_back({i, static_cast<int>(output)});
      target.last_node = std::max(target.last_node, placement.last_node);
      own[output] = block;
    }
  }

  // Blocks to offsets.
  std::vector<size_t> order(blocks.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return blocks[a].size_bytes > blocks[b].size_bytes; });
  struct Placed {
    int64_t begin, end;
    const Block* block;
  };
  std::vector<Placed> placed;  // by begin
  for (const size_t index : order) {
    const Block& block = blocks[index];
    const int64_t size = round_up(block.size_bytes, kArenaAlignment);
    int64_t offset = 0;
    for (const Placed& other : placed) {
      const bool overlaps =
          other.block->first_node <= block.last_node && block.first_node <= other.block->last_node;
      if (!overlaps) continue;
      if (offset + size <= other.begin) break;
      offset = std::max(offset, other.end);
    }
    const Placed mine{offset, offset + size, &block};
    require_possible(mine.end, graph.nodes()[static_cast<size_t>(block.values[0].node)]);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), mine,
                                   [](const Placed& a, const Placed& b) { return a.begin < b.begin; }),
                  mine);
    plan.values_bytes = std::max(plan.values_bytes, mine.end);
    for (const Value& value : block.values) at(plan, value).offset_bytes = offset;
  }

  int64_t peak = -1;
  for (int i = 0; i < num_nodes; ++i) {
    int64_t live = 0;
    for (const Block& block : blocks)
      if (block.first_node <= i && i <= block.last_node) live += block.size_bytes;
    live += nodes[static_cast<size_t>(i)].workspace_bytes;
    if (live >= peak) {  // of equals the last: the nodes before it are often inputs, which are always live
      peak = live;
      plan.peak_node = graph.nodes()[static_cast<size_t>(i)].name;
    }
  }
  return plan;
}

std::string dump(const Graph& graph, const MemoryPlan& plan) {
  std::ostringstream out;
  for (size_t i = 0; i < plan.values.size(); ++i) {
    for (size_t output = 0; output < plan.values[i].size(); ++output) {
      const Placement& p = plan.values[i][output];
      if (p.offset_bytes < 0) continue;
      out << "  " << graph.nodes()[i].name;
      if (output > 0) out << ":" << output;
      out << " at " << p.offset_bytes << ", " << p.size_bytes << " B, nodes " << p.first_node << " to "
          << p.last_node << "\n";
    }
  }
  out << "  values " << plan.values_bytes << " B + workspace " << plan.workspace_bytes << " B, peak at "
      << plan.peak_node << "\n";
  return out.str();
}

}  // namespace solder
