#include <algorithm>

#include "graph/lower.h"
#include "graph/nodes/node_def.h"
#include "graph/passes/passes.h"
#include "graph/value_view.h"
#include "runtime/check.h"

namespace solder {
namespace {

// Nodes as they are being fused, under their numbers in the original graph. A merged producer dies; those of its
// values that are still needed become outputs of the consumer.
class Fuser {
 public:
  Fuser(const Graph& graph, bool will_round, const NodePlanning* planning = nullptr)
      : will_round_(will_round),
        planning_(planning),
        nodes_(graph.nodes()),
        views_(value_views(graph, true)),
        outputs_(graph.outputs()),
        alive_(nodes_.size(), true),
        moved_(nodes_.size()),
        follows_(nodes_.size(), 0) {
    for (size_t i = 0; i < nodes_.size(); ++i) {
      order_.push_back(i);
      place_.push_back(i);
      uses_.emplace_back(nodes_[i].outputs.size(), 0);
      for (const Value& input : nodes_[i].inputs) ++at(uses_, input);
    }
    for (const auto& [name, value] : outputs_) ++at(uses_, value);
  }

  Graph run() {
    for (size_t consumer = 0; planning_ == nullptr && consumer < nodes_.size(); ++consumer) {
      for (Value& input : nodes_[consumer].inputs) input = now(input);
      while (nodes_[consumer].kind == NodeKind::elementwise && absorb_one_producer(consumer)) {
      }
    }
    // What lies between nodes is settled, and stays as it is stored: of 16 bits sums store it beside the rest.
    for (size_t consumer = 0; consumer < nodes_.size(); ++consumer)
      if (alive_[consumer] && nodes_[consumer].kind == NodeKind::elementwise) absorb_a_sum(consumer);
    return finished();
  }

 private:
  // How far a producer that others read too may lie before its consumer, in nodes: what lies between is looked at.
  static constexpr size_t kReach = 512;

  // Where the value is made now.
  Value now(Value value) {
    while (!alive_[static_cast<size_t>(value.node)]) value = at(moved_, value);
    return value;
  }

  bool absorb_one_producer(size_t consumer) {
    // Latest producer first: one that takes an epilogue can only absorb the region when everything else that the
    // region reads exists before it, and elementwise producers must not hide it.
    std::vector<size_t> producers;
    for (const Value& input : nodes_[consumer].inputs) producers.push_back(static_cast<size_t>(input.node));
    std::ranges::sort(producers, [&](size_t a, size_t b) { return place_[a] > place_[b]; });
    producers.erase(std::unique(producers.begin(), producers.end()), producers.end());
    for (const bool elementwise : {true, false}) {
      for (const size_t producer : producers) {
        if ((nodes_[producer].kind == NodeKind::elementwise) != elementwise) continue;
        if (try_merge(producer, consumer)) return true;
      }
    }
    return false;
  }

  // A sum that others read too, where a pass follows it in any case, or planning says that its kernel stores both.
  void absorb_a_sum(size_t consumer) {
    for (Value& input : nodes_[consumer].inputs) input = now(input);
    const std::vector<Value> inputs = nodes_[consumer].inputs;
    for (const Value& input : inputs) {
      const Node& producer = nodes_[static_cast<size_t>(input.node)];
      const bool can_be_asked = node_def(producer.kind).stores_more != nullptr;
      if (producer.kind == NodeKind::elementwise || can_be_asked != (planning_ != nullptr)) continue;
      const bool is_narrow = will_round_ || producer.outputs[0].dtype != DType::float32;
      if (producer.outputs.size() == 1 && is_narrow &&
          try_merge(static_cast<size_t>(input.node), consumer, true))
        return;
    }
  }

  // Legality of merging `producer` into the elementwise node `consumer`, all of:
  //  1. the producer takes an epilogue, and computes the consumer's whole index space (a smaller producer that is
  //     broadcast would be recomputed for every element);
  //  2. the consumer reads it as it is, not through another view or broadcast;
  //  3. no path leads from the producer to the consumer through a third node: it would have to run in between;
  //  4. unless it is elementwise itself or `keeps_sum`, its result is needed by this region only, which has one output,
  //     in float32 if the sum is: other epilogues are passes of their own;
  //  5. all that the merged node stores has one layout;
  //  6. the merged region still fits a program, and its operands the axes that a kernel counts.
  bool try_merge(size_t producer_index, size_t consumer_index, bool keeps_sum = false) {
    for (const size_t index : {producer_index, consumer_index})
      for (Value& input : nodes_[index].inputs) input = now(input);
    const Node &producer = nodes_[producer_index], &consumer = nodes_[consumer_index];
    if (!node_def(producer.kind).takes_epilogue) return false;
    const Shape& space = consumer.outputs[0].shape;
    if (producer.outputs[0].shape != space) return false;
    std::vector<int> unread = uses_[producer_index];
    for (size_t i = 0; i < consumer.inputs.size(); ++i) {
      if (consumer.inputs[i].node != static_cast<int>(producer_index)) continue;
      if (consumer.epilogue.operand_shapes[i] != space) return false;
      --unread[static_cast<size_t>(consumer.inputs[i].output)];
    }
    std::vector<int> kept;  // outputs that something else still reads
    for (size_t output = 0; output < unread.size(); ++output)
      if (unread[output] > 0) kept.push_back(static_cast<int>(output));
    const bool is_elementwise = producer.kind == NodeKind::elementwise;
    const bool is_plain =
        kept.empty() && consumer.outputs.size() == 1 &&
        (consumer.outputs[0].dtype == DType::float32 || producer.outputs[0].dtype != DType::float32);
    if (!is_elementwise && (keeps_sum ? kept.empty() : !is_plain)) return false;
    if (!kept.empty() && producer.layout != consumer.layout) return false;
    Node merged = merged_node(producer, consumer, producer_index, kept);
    if (!fits_program(merged.epilogue.region, !is_elementwise, merged.outputs,
                      will_round_ ? merged.outputs.size() : 0) ||
        (space.size() > kMaxDims && !fits_elementwise(space, operand_views(merged))))
      return false;
    if (planning_ != nullptr && !runs(merged)) return false;
    if (!kept.empty() && !make_way(producer_index, consumer_index)) return false;
    finish_merge(producer_index, consumer_index, kept, std::move(merged));
    return true;
  }

  void finish_merge(size_t producer, size_t consumer, const std::vector<int>& kept, Node merged) {
    std::vector<int> uses_of_merged = uses_[consumer];
    moved_[producer].resize(nodes_[producer].outputs.size());
    for (size_t i = 0; i < kept.size(); ++i) {
      const size_t output = static_cast<size_t>(kept[i]);
      moved_[producer][output] = {static_cast<int>(consumer),
                                  static_cast<int>(nodes_[consumer].outputs.size() + i)};
      uses_of_merged.push_back(uses_[producer][output]);
    }
    for (const Value& input : nodes_[consumer].inputs) {
      --at(uses_, input);
      if (input.node == static_cast<int>(producer) && at(moved_, input).node >= 0)
        --uses_of_merged[static_cast<size_t>(at(moved_, input).output)];
    }
    for (const Value& input : nodes_[producer].inputs) --at(uses_, input);
    for (const Value& input : merged.inputs) ++at(uses_, input);
    uses_[consumer] = std::move(uses_of_merged);
    nodes_[consumer] = std::move(merged);
    alive_[producer] = false;
  }

  Node merged_node(const Node& producer, const Node& consumer, size_t producer_index,
                   const std::vector<int>& kept) const {
    Node merged = producer;
    if (producer.kind == NodeKind::elementwise) merged.name = consumer.name;
    const size_t first = producer.num_own_inputs();
    std::vector<Shape>& shapes = merged.epilogue.operand_shapes;
    std::vector<int> operand_map;
    for (size_t i = 0; i < consumer.inputs.size(); ++i) {
      const Value input = consumer.inputs[i];
      const Shape& shape = consumer.epilogue.operand_shapes[i];
      if (input.node == static_cast<int>(producer_index)) {
        operand_map.push_back(-1 - input.output);
        continue;
      }
      size_t operand = 0;  // the same tensor read in the same way is one operand
      while (operand < shapes.size() &&
             !(merged.inputs[first + operand] == input && shapes[operand] == shape))
        ++operand;
      if (operand == shapes.size()) {
        merged.inputs.push_back(input);
        shapes.push_back(shape);
      }
      operand_map.push_back(static_cast<int>(operand));
    }
    merged.layout = consumer.layout;
    merged.outputs = consumer.outputs;
    for (const int output : kept) merged.outputs.push_back(producer.outputs[static_cast<size_t>(output)]);
    merged.epilogue.region = contract_mish(merge(with_roundings(producer, kept), consumer.epilogue.region,
                                                 operand_map, static_cast<int>(shapes.size()), kept));
    return merged;
  }

  // The region with the rounding of a float32 operand spelled out where it is kept in 16 bits: what else reads it
  // then, reads what is stored.
  Region with_roundings(const Node& producer, const std::vector<int>& kept) const {
    Region region = producer.epilogue.region;
    for (const int output : kept) {
      Arg& stored = region.outputs[static_cast<size_t>(output)];
      const DType dtype = producer.outputs[static_cast<size_t>(output)].dtype;
      if (stored.kind != Arg::Kind::operand || dtype == DType::float32) continue;
      const Value operand = producer.operands()[static_cast<size_t>(stored.index)];
      const Node& maker = nodes_[static_cast<size_t>(operand.node)];
      if (maker.outputs[static_cast<size_t>(operand.output)].dtype == dtype) continue;
      region.exprs.push_back({rounding_to(dtype), stored, {}, 0, 0});
      stored = Arg::expr(static_cast<int>(region.exprs.size()) - 1);
    }
    return region;
  }

  // Whether a kernel stores all results of the node, which has several.
  bool runs(const Node& node) const {
    const auto maker = [&](size_t input) -> const Node& {
      return nodes_[static_cast<size_t>(node.inputs[input].node)];
    };
    const auto request = planning_->request_for(node, maker, [&](size_t input) -> ValueView {
      const Value value = node.inputs[input];
      if (node_def(maker(input).kind).view != nullptr) return at(views_, value);
      return {value, 0,
              own_view(maker(input).outputs[static_cast<size_t>(value.output)], maker(input).layout)};
    });
    return request && node_def(node.kind).stores_more(*request);
  }

  // The operands as the region reads them. add_copies() will see to it that this can be.
  std::vector<TensorView> operand_views(const Node& node) const {
    std::vector<TensorView> views;
    for (size_t i = 0; i < node.operands().size(); ++i) {
      const Value value = node.operands()[i];
      const Shape& shape = node.epilogue.operand_shapes[i];
      TensorView view = dense_view(nullptr, DType::float32, shape);
      // A view stays what it was; the rest is dense.
      if (node_def(nodes_[static_cast<size_t>(value.node)].kind).view)
        view_as(at(views_, value).view, shape, &view);
      views.push_back(std::move(view));
    }
    return views;
  }

  // The merged node will stand where the consumer does: what reads the producer's kept values before that, and
  // what follows from it, must move behind. False where it leads to the consumer, or is too far to tell.
  bool make_way(size_t producer, size_t consumer) {
    const size_t first = place_[producer] + 1, last = place_[consumer];
    if (last - first > kReach) return false;
    std::vector<size_t> before, behind;
    ++search_;
    const auto follows = [&](Value& input) {
      input = now(input);
      return follows_[static_cast<size_t>(input.node)] == search_;
    };
    follows_[producer] = search_;
    for (size_t place = first; place < last; ++place) {
      const size_t node = order_[place];
      if (!alive_[node]) continue;
      std::vector<Value>& inputs = nodes_[node].inputs;
      const bool is_behind = std::ranges::any_of(inputs, follows);
      if (is_behind) follows_[node] = search_;
      (is_behind ? behind : before).push_back(node);
    }
    for (Value& input : nodes_[consumer].inputs)
      if (input.node != static_cast<int>(producer) && follows(input)) return false;
    // Places of dead nodes are left over between; nobody asks for them again.
    size_t place = first;
    const auto put = [&](size_t node) { order_[place] = node, place_[node] = place, ++place; };
    for (const size_t node : before) put(node);
    put(consumer);
    for (const size_t node : behind) put(node);
    for (; place <= last; ++place) order_[place] = producer;  // dead by then
    return true;
  }

  Graph finished() {
    std::vector<int> renumbered(nodes_.size(), -1);
    Graph result;
    for (const size_t index : order_) {
      if (!alive_[index]) continue;
      Node& node = nodes_[index];
      for (Value& input : node.inputs) {
        input = now(input);
        input.node = renumbered[static_cast<size_t>(input.node)];
      }
      renumbered[index] = result.append(std::move(node)).node;
    }
    for (const auto& [name, output] : outputs_) {
      const Value value = now(output);
      result.append_output(name, {renumbered[static_cast<size_t>(value.node)], value.output});
    }
    return result;
  }

  const bool will_round_;               // each output, in a step of its own
  const NodePlanning* const planning_;  // of fuse_sums(), which does nothing else; null: of fuse()
  std::vector<Node> nodes_;
  const ValueViews views_;
  std::vector<std::pair<std::string, Value>> outputs_;
  std::vector<bool> alive_;
  std::vector<std::vector<Value>> moved_;  // by dead node and output: where the value went
  std::vector<std::vector<int>> uses_;     // by node and output: how often it is read, or given out
  std::vector<size_t> order_, place_;      // nodes in the order they run; a node's place in it
  std::vector<int> follows_;               // by node: the last search that found it behind its producer
  int search_ = 0;
};

}  // namespace

Graph fuse(const Graph& graph, Math math) { return Fuser(graph, is_16_bit(math)).run(); }

Graph fuse_sums(const Graph& graph, const NodePlanning& planning) {
  return Fuser(graph, false, &planning).run();
}

}  // namespace solder
