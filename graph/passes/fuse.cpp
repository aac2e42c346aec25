#include "graph/passes/fuse.h"

#include <algorithm>
#include <map>
#include <optional>

#include "runtime/check.h"

namespace solder {
namespace {

// A copy of `graph` with only the nodes for which keep[i] holds; values are renumbered.
Graph filtered(const Graph& graph, const std::vector<bool>& keep) {
  std::vector<int> renumbered(graph.nodes().size(), -1);
  Graph result;
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    if (!keep[i]) continue;
    Node node = graph.nodes()[i];
    for (Value& input : node.inputs) input.node = renumbered[static_cast<size_t>(input.node)];
    renumbered[i] = result.append(std::move(node)).node;
  }
  for (const auto& [name, value] : graph.outputs())
    result.output(name, {renumbered[static_cast<size_t>(value.node)], value.output});
  return result;
}

// Nodes as they are being fused. A merged producer dies; its values that are still needed become outputs of
// the consumer. Indices stay those of the original graph until the end.
class Fuser {
 public:
  explicit Fuser(const Graph& graph)
      : nodes_(graph.nodes()), alive_(nodes_.size(), true), outputs_(graph.outputs()) {}

  Graph run() {
    for (size_t consumer = 0; consumer < nodes_.size(); ++consumer) {
      while (nodes_[consumer].kind == NodeKind::elementwise && absorb_one_producer(consumer)) {
      }
    }
    for (size_t i = 0; i < nodes_.size(); ++i)
      if (alive_[i]) nodes_[i].region = contract_mish(nodes_[i].region);
    return finished();
  }

 private:
  bool absorb_one_producer(size_t consumer) {
    // Latest producer first: a convolution can only be absorbed when everything else the region reads exists
    // before it, and elementwise producers must not hide it.
    std::vector<int> producers;
    for (const Value& input : nodes_[consumer].inputs) producers.push_back(input.node);
    std::sort(producers.rbegin(), producers.rend());
    producers.erase(std::unique(producers.begin(), producers.end()), producers.end());
    for (const bool want_conv : {false, true}) {
      for (const int producer : producers) {
        if ((nodes_[static_cast<size_t>(producer)].kind == NodeKind::conv2d) != want_conv) continue;
        if (try_merge(static_cast<size_t>(producer), consumer)) return true;
      }
    }
    return false;
  }

  // Legality of merging `producer` into the elementwise node `consumer`, all of:
  //  1. the producer is elementwise or a convolution, and computes the consumer's whole index space (a
  //  smaller
  //     producer that is broadcast would be recomputed for every element);
  //  2. the consumer reads it as it is, not through another view or broadcast;
  //  3. no path leads from the producer to the consumer through a third node: it would have to run in
  //  between;
  //  4. a convolution's result is needed by this region only, and in float32: its epilogue has one output;
  //  5. the merged region still fits a program.
  bool try_merge(size_t producer_index, size_t consumer_index) {
    const Node& producer = nodes_[producer_index];
    const Node& consumer = nodes_[consumer_index];
    const bool is_conv = producer.kind == NodeKind::conv2d;
    if (!is_conv && producer.kind != NodeKind::elementwise) return false;
    if (producer.outputs[0].shape != consumer.outputs[0].shape) return false;
    for (size_t i = 0; i < consumer.inputs.size(); ++i) {
      if (consumer.inputs[i].node == static_cast<int>(producer_index) &&
          consumer.operand_shapes[i] != producer.outputs[0].shape)
        return false;
    }
    if (reaches_around(producer_index, consumer_index)) return false;

    // Which of the producer's outputs does something else still read?
    std::vector<int> kept;
    for (int output = 0; output < static_cast<int>(producer.outputs.size()); ++output)
      if (is_read_elsewhere({static_cast<int>(producer_index), output}, consumer_index))
        kept.push_back(output);
    if (is_conv &&
        (!kept.empty() || consumer.outputs.size() != 1 || consumer.outputs[0].dtype != DType::float32))
      return false;

    std::optional<Node> merged = merged_node(producer, consumer, producer_index, kept);
    if (!merged || !fits_program(contract_mish(merged->region), is_conv)) return false;

    for (size_t i = 0; i < kept.size(); ++i) {
      redirect({static_cast<int>(producer_index), kept[i]},
               {static_cast<int>(consumer_index), static_cast<int>(consumer.outputs.size() + i)});
    }
    nodes_[consumer_index] = std::move(*merged);
    alive_[producer_index] = false;
    return true;
  }

  std::optional<Node> merged_node(const Node& producer, const Node& consumer, size_t producer_index,
                                  const std::vector<int>& kept) const {
    Node merged = producer;
    merged.name = producer.kind == NodeKind::conv2d ? producer.name : consumer.name;
    const size_t first = static_cast<size_t>(producer.first_operand());
    std::vector<int> operand_map;
    for (size_t i = 0; i < consumer.inputs.size(); ++i) {
      const Value input = consumer.inputs[i];
      if (input.node == static_cast<int>(producer_index)) {
        operand_map.push_back(-1 - input.output);
        continue;
      }
      // The same tensor read in the same way is one operand.
      size_t operand = 0;
      for (; operand < merged.operand_shapes.size(); ++operand) {
        if (merged.inputs[first + operand] == input &&
            merged.operand_shapes[operand] == consumer.operand_shapes[i])
          break;
      }
      if (operand == merged.operand_shapes.size()) {
        merged.inputs.push_back(input);
        merged.operand_shapes.push_back(consumer.operand_shapes[i]);
      }
      operand_map.push_back(static_cast<int>(operand));
    }
    merged.outputs = consumer.outputs;
    for (const int output : kept) merged.outputs.push_back(producer.outputs[static_cast<size_t>(output)]);
    merged.region = merge(producer.region, consumer.region, operand_map,
                          static_cast<int>(merged.operand_shapes.size()), kept);
    return merged;
  }

  // A path producer -> other node -> consumer? Node order is no help: a kept output moves to a later node.
  bool reaches_around(size_t producer, size_t consumer) const {
    std::vector<bool> seen(nodes_.size(), false);
    std::vector<size_t> pending;
    const auto visit_inputs = [&](size_t index, bool is_consumer) {
      for (const Value& input : nodes_[index].inputs) {
        const size_t from = static_cast<size_t>(input.node);
        if ((is_consumer && from == producer) || seen[from]) continue;
        seen[from] = true;
        pending.push_back(from);
      }
    };
    visit_inputs(consumer, true);
    while (!pending.empty()) {
      const size_t index = pending.back();
      pending.pop_back();
      if (index == producer) return true;
      visit_inputs(index, false);
    }
    return false;
  }

  bool is_read_elsewhere(Value value, size_t consumer) const {
    for (const auto& [name, output] : outputs_)
      if (output == value) return true;
    for (size_t i = 0; i < nodes_.size(); ++i) {
      if (!alive_[i] || i == consumer) continue;
      if (std::find(nodes_[i].inputs.begin(), nodes_[i].inputs.end(), value) != nodes_[i].inputs.end())
        return true;
    }
    return false;
  }

  void redirect(Value from, Value to) {
    for (size_t i = 0; i < nodes_.size(); ++i) {
      if (!alive_[i]) continue;
      std::replace(nodes_[i].inputs.begin(), nodes_[i].inputs.end(), from, to);
    }
    for (auto& [name, output] : outputs_)
      if (output == from) output = to;
  }

  // Readers of a kept output may now come before the node that makes it: sort again, stably.
  Graph finished() const {
    std::vector<int> renumbered(nodes_.size(), -1);
    Graph result;
    size_t remaining = static_cast<size_t>(std::count(alive_.begin(), alive_.end(), true));
    while (remaining > 0) {
      const size_t before = remaining;
      for (size_t i = 0; i < nodes_.size(); ++i) {
        if (!alive_[i] || renumbered[i] >= 0) continue;
        Node node = nodes_[i];
        bool ready = true;
        for (Value& input : node.inputs) {
          const int index = renumbered[static_cast<size_t>(input.node)];
          ready = ready && index >= 0;
          input.node = index;
        }
        if (!ready) continue;
        renumbered[i] = result.append(std::move(node)).node;
        --remaining;
      }
      SOLDER_REQUIRE(remaining < before, invalid_argument, "fuse: made a cycle (a bug of solder)");
    }
    for (const auto& [name, value] : outputs_)
      result.output(name, {renumbered[static_cast<size_t>(value.node)], value.output});
    return result;
  }

  std::vector<Node> nodes_;
  std::vector<bool> alive_;
  std::vector<std::pair<std::string, Value>> outputs_;
};

}  // namespace

Graph remove_dead(const Graph& graph) {
  std::vector<bool> needed(graph.nodes().size(), false);
  for (const auto& [name, value] : graph.outputs()) needed[static_cast<size_t>(value.node)] = true;
  for (size_t i = graph.nodes().size(); i-- > 0;) {
    const Node& node = graph.nodes()[i];
    if (node.kind == NodeKind::input || node.kind == NodeKind::parameter) needed[i] = true;
    if (!needed[i]) continue;
    for (const Value& input : node.inputs) needed[static_cast<size_t>(input.node)] = true;
  }
  return filtered(graph, needed);
}

Graph fuse(const Graph& graph) { return Fuser(graph).run(); }

}  // namespace solder
