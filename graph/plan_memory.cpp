#include "graph/plan_memory.h"

#include <algorithm>
#include <functional>

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
  int first_node = 0, last_node = 0;
  bool is_pinned = false;  // holds an input or output of the graph
  int64_t offset_bytes = 0;
  int64_t end_bytes() const { return offset_bytes + round_up(size_bytes, kArenaAlignment); }
};

// Gives blocks their offsets: each the lowest that is free for its lifetime, as far as a bounded look at the blocks
// placed before it tells; behind a crowd of them it goes on top of all.
class Offsets {
 public:
  explicit Offsets(int num_nodes)
      : bucket_nodes_(num_nodes / kMaxBuckets + 1),
        buckets_(static_cast<size_t>(num_nodes / bucket_nodes_) + 1) {}

  void place(Block* block) {
    const size_t first = bucket_of(block->first_node), last = bucket_of(block->last_node);
    near_.clear();
    int64_t top = 0;
    size_t num_seen = 0;
    for (size_t bucket = first; bucket <= last; ++bucket) {
      top = std::max(top, buckets_[bucket].top_bytes);
      num_seen += buckets_[bucket].blocks.size();
      if (num_seen > kMaxSeen) continue;
      for (const Block* other : buckets_[bucket].blocks)
        if (other->first_node <= block->last_node && block->first_node <= other->last_node)
          near_.push_back(other);
    }
    block->offset_bytes =
        num_seen > kMaxSeen ? top : lowest_gap(round_up(block->size_bytes, kArenaAlignment));
    for (size_t bucket = first; bucket <= last; ++bucket) {
      buckets_[bucket].blocks.push_back(block);
      buckets_[bucket].top_bytes = std::max(buckets_[bucket].top_bytes, block->end_bytes());
    }
  }

 private:
  static constexpr int kMaxBuckets = 512;
  static constexpr size_t kMaxSeen = 4096;

  struct Bucket {  // of consecutive nodes
    std::vector<const Block*> blocks;
    int64_t top_bytes = 0;
  };

  size_t bucket_of(int node) const { return static_cast<size_t>(node / bucket_nodes_); }

  int64_t lowest_gap(int64_t size_bytes) {
    std::ranges::sort(near_, {}, &Block::offset_bytes);
    int64_t offset = 0;
    for (const Block* other : near_) {
      if (offset + size_bytes <= other->offset_bytes) break;
      offset = std::max(offset, other->end_bytes());
    }
    return offset;
  }

  const int bucket_nodes_;
  std::vector<Bucket> buckets_;
  std::vector<const Block*> near_;  // alive at the same time as the block that is being placed
};

class Planner {
 public:
  Planner(const Graph& graph, const ValueViews& views, const std::vector<std::unique_ptr<NodeRun>>& runs)
      : graph_(graph), views_(views), runs_(runs), num_nodes_(static_cast<int>(graph.nodes().size())) {}

  MemoryPlan run() {
    find_lifetimes();
    for (int i = 0; i < num_nodes_; ++i) make_blocks(i);
    place_blocks();
    find_peak();
    return std::move(plan_);
  }

 private:
  const Node& node(int i) const { return graph_.nodes()[static_cast<size_t>(i)]; }
  const NodeRun* run_of(int i) const { return runs_[static_cast<size_t>(i)].get(); }
  int64_t scratch_bytes(int i) const { return run_of(i) != nullptr ? run_of(i)->plan.workspace_bytes : 0; }

  Value base_of(Value value) const { return at(views_, value).base; }

  void find_lifetimes() {
    for (int i = 0; i < num_nodes_; ++i) {
      plan_.values.emplace_back();
      for (size_t output = 0; output < node(i).outputs.size(); ++output) {
        const Value value{i, static_cast<int>(output)};
        const bool is_own = base_of(value) == value;
        plan_.values.back().push_back({-1, is_own ? own_bytes(at(views_, value).view) : 0, i, i});
        require_possible(plan_.values.back().back().size_bytes, node(i));
      }
      require_possible(scratch_bytes(i), node(i));
      plan_.workspace_bytes = std::max(plan_.workspace_bytes, round_up(scratch_bytes(i), kArenaAlignment));
      pinned_.emplace_back(node(i).outputs.size(), node(i).kind == NodeKind::input);
      block_of_.emplace_back(node(i).outputs.size(), -1);
    }
    for (int i = 0; i < num_nodes_; ++i) {
      for (const Value& input : node(i).inputs)
        at(plan_.values, input).last_node = at(plan_.values, base_of(input)).last_node = i;
      for (int output = 0; output < static_cast<int>(node(i).outputs.size()); ++output) {
        Placement& base = at(plan_.values, base_of({i, output}));
        base.first_node = std::min(base.first_node, i);  // a concat's result begins with its first part
        base.last_node = std::max(base.last_node, i);
      }
    }
    for (const auto& [name, value] : graph_.outputs()) at(pinned_, base_of(value)) = true;
  }

  // Values of node i into blocks. A pinned value never shares: it must survive until the next run.
  void make_blocks(int i) {
    if (node(i).kind == NodeKind::parameter) return;
    std::vector<int> taken;
    for (size_t output = 0; output < node(i).outputs.size(); ++output) {
      const Value value{i, static_cast<int>(output)};
      const Placement& placement = at(plan_.values, value);
      if (placement.size_bytes == 0) continue;
      const bool is_pinned = at(pinned_, value);
      const bool has_parts = placement.first_node < i;
      int block = is_pinned || has_parts ? -1 : block_to_take_over(i, output, taken);
      if (block < 0) {
        block = static_cast<int>(blocks_.size());
        blocks_.push_back({{},
                           placement.size_bytes,
                           is_pinned ? 0 : placement.first_node,
                           is_pinned ? num_nodes_ - 1 : i,
                           is_pinned});
      }
      taken.push_back(block);
      Block& target = blocks_[static_cast<size_t>(block)];
      target.values.push_back(value);
      target.last_node = std::max(target.last_node, placement.last_node);
      at(block_of_, value) = block;
    }
  }

  int block_to_take_over(int i, size_t output, const std::vector<int>& taken) const {
    const NodeRun* run = run_of(i);
    for (size_t input = 0; run != nullptr && input < node(i).inputs.size(); ++input) {
      const Value value = node(i).inputs[input];
      const int block = at(block_of_, value);
      if (block < 0 || blocks_[static_cast<size_t>(block)].is_pinned) continue;
      if (std::ranges::find(taken, block) != taken.end()) continue;
      if (may_take_over(i, value, output)) return block;
    }
    return -1;
  }

  // Whether `output` of node i may lie where its input `value` does: same type, read as it is, dying here. One
  // tensor may be several inputs, as views of it may be: each of them must allow it.
  bool may_take_over(int i, Value value, size_t output) const {
    const Node& reader = node(i);
    if (at(plan_.values, value).last_node != i ||
        !(at(views_, value).view == at(views_, {i, static_cast<int>(output)}).view))
      return false;
    for (size_t input = 0; input < reader.inputs.size(); ++input) {
      if (!(base_of(reader.inputs[input]) == value)) continue;
      if (!(reader.inputs[input] == value) || input < reader.num_own_inputs()) return false;
      if (reader.epilogue.operand_shapes[input - reader.num_own_inputs()] != reader.outputs[output].shape)
        return false;
      if (!run_of(i)->may_overwrite(input, output)) return false;
    }
    return true;
  }

  void place_blocks() {
    std::vector<Block*> order;
    for (Block& block : blocks_) order.push_back(&block);
    std::ranges::stable_sort(order, std::ranges::greater(), &Block::size_bytes);
    // Pinned blocks meet everything: at the bottom, side by side, they leave no gaps.
    int64_t bottom_bytes = 0;
    Offsets offsets(num_nodes_);
    for (Block* block : order) {
      if (!block->is_pinned) continue;
      block->offset_bytes = bottom_bytes;
      bottom_bytes = block->end_bytes();
      require_possible(bottom_bytes, node(block->values[0].node));
    }
    plan_.values_bytes = bottom_bytes;
    for (Block* block : order) {
      if (block->is_pinned) continue;
      offsets.place(block);
      plan_.values_bytes = std::max(plan_.values_bytes, bottom_bytes + block->end_bytes());
      require_possible(plan_.values_bytes, node(block->values[0].node));
    }
    for (const Block& block : blocks_)
      for (const Value& value : block.values)
        at(plan_.values, value).offset_bytes = block.offset_bytes + (block.is_pinned ? 0 : bottom_bytes);
  }

  void find_peak() {
    std::vector<int64_t> change(static_cast<size_t>(num_nodes_) + 1, 0);  // of live bytes, at each node
    for (const Block& block : blocks_) {
      change[static_cast<size_t>(block.first_node)] += block.size_bytes;
      change[static_cast<size_t>(block.last_node) + 1] -= block.size_bytes;
    }
    int64_t live = 0, peak = -1;
    for (int i = 0; i < num_nodes_; ++i) {
      live += change[static_cast<size_t>(i)];
      if (live + scratch_bytes(i) < peak) continue;  // of equals the last: those before it are often inputs
      peak = live + scratch_bytes(i);
      plan_.peak_node = node(i).name;
    }
  }

  const Graph& graph_;
  const ValueViews& views_;
  const std::vector<std::unique_ptr<NodeRun>>& runs_;
  const int num_nodes_;
  MemoryPlan plan_;
  std::vector<Block> blocks_;
  std::vector<std::vector<char>> pinned_;   // by node and output
  std::vector<std::vector<int>> block_of_;  // by node and output; -1: none
};

}  // namespace

MemoryPlan plan_memory(const Graph& graph, const ValueViews& views,
                       const std::vector<std::unique_ptr<NodeRun>>& runs) {
  return Planner(graph, views, runs).run();
}

std::string dump(const Graph& graph, const MemoryPlan& plan) {
  std::string text;
  for (size_t i = 0; i < plan.values.size(); ++i) {
    for (size_t output = 0; output < plan.values[i].size(); ++output) {
      const Placement& p = plan.values[i][output];
      if (p.offset_bytes < 0) continue;
      text += str("  ", graph.nodes()[i].name, output > 0 ? str(":", output) : "", " at ", p.offset_bytes,
                  ", ", p.size_bytes, " B, nodes ", p.first_node, " to ", p.last_node, "\n");
    }
  }
  return text + str("  values ", plan.values_bytes, " B + workspace ", plan.workspace_bytes, " B",
                    plan.ranges_bytes > 0 ? str(" + ", plan.ranges_bytes, " B of exponents") : "",
                    ", peak at ", plan.peak_node, "\n");
}

}  // namespace solder
