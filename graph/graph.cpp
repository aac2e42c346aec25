#include "graph/graph.h"

#include <atomic>

#include "graph/all_or_nothing.h"
#include "graph/nodes/node_def.h"
#include "runtime/check.h"

namespace solder {
namespace {

// A number for every node that is ever made: two graphs' values are told apart by it. Beside capture_mutex() the
// one global of the library; nothing but equality is asked of it.
uint64_t next_stamp() {
  static std::atomic<uint64_t> last = 0;
  return ++last;
}

}  // namespace

std::string to_string(const TensorType& type) {
  return str(to_string(type.dtype), " ", to_string(type.shape));
}

const TensorType& Graph::type(Value value) const { return checked_type(value, "type"); }

const TensorType& Graph::checked_type(Value value, const char* op) const {
  const auto index = static_cast<size_t>(value.node);
  SOLDER_REQUIRE(
      value.node >= 0 && index < nodes_.size() && (value.stamp == 0 || value.stamp == stamps_[index]),
      invalid_argument, op, ": the value is not of this graph");
  const Node& node = nodes_[index];
  SOLDER_REQUIRE(value.output >= 0 && static_cast<size_t>(value.output) < node.outputs.size(),
                 invalid_argument, op, ": node ", node.name, " has no output ", value.output);
  return node.outputs[static_cast<size_t>(value.output)];
}

std::string Graph::next_name(const char* op) const { return str(op, "_", nodes_.size()); }

Value Graph::append(Node node) {
  if (node.is_given()) names_.insert(node.name);
  for (Value& input : node.inputs) input.stamp = 0;  // a copy of the node may go into another graph
  stamps_.push_back(next_stamp());
  nodes_.push_back(std::move(node));
  return {static_cast<int>(nodes_.size()) - 1, 0, stamps_.back()};
}

Value Graph::add_node(Node node) {
  if (node.is_given()) {
    SOLDER_REQUIRE(!node.name.empty(), invalid_argument, to_string(node.kind), " needs a name");
    SOLDER_REQUIRE(names_.count(node.name) == 0, invalid_argument, to_string(node.kind), " \"", node.name,
                   "\": the graph already has an input or parameter of that name");
  }
  require_form(node);
  const std::vector<TensorType> inputs = input_types(*this, node);
  if (const auto infer = node_def(node.kind).infer) node.outputs = infer(node, inputs);
  for (const TensorType& type : node.outputs)
    require_size(type, node.is_given() ? str(to_string(node.kind), " \"", node.name, "\"") : node.name);
  return append(std::move(node));
}

void Graph::output(const std::string& name, Value value, Layout layout) {
  const TensorType type = checked_type(value, "output");
  require_layout(type.shape, layout, str("output \"", name, "\""));
  if (maker(value).layout == layout) return append_output(name, value);
  const AllOrNothing guard(this);
  Node copy = copy_of(value, type.shape, type.dtype, maker(value).name + "_copy");
  copy.layout = layout;
  append_output(name, append(std::move(copy)));
}

void Graph::append_output(const std::string& name, Value value) {
  checked_type(value, "output");
  SOLDER_REQUIRE(!name.empty(), invalid_argument, "output needs a name");
  SOLDER_REQUIRE(output_names_.insert(name).second, invalid_argument, "output \"", name,
                 "\": the graph already has one of that name");
  outputs_.emplace_back(name, value);
}

Value Graph::name(Value value, const std::string& node_name) {
  checked_type(value, "name");
  Node& node = nodes_[static_cast<size_t>(value.node)];
  SOLDER_REQUIRE(!node.is_given(), invalid_argument, "name: ", to_string(node.kind), " \"", node.name,
                 "\" is known by its name and keeps it");
  node.name = node_name;
  return value;
}

std::string dump(const Graph& graph) {
  std::string text;
  const auto show = [&](Value value) {
    const Node& node = graph.maker(value);
    return value.output == 0 ? node.name : str(node.name, ":", value.output);
  };
  for (const Node& node : graph.nodes()) {
    text += str("  ", node.name, " = ", to_string(node.kind), "(");
    for (size_t i = 0; i < node.inputs.size(); ++i) text += (i ? ", " : "") + show(node.inputs[i]);
    if (const auto attributes = node_def(node.kind).attributes) text += attributes(node);
    text += ")";
    if (!node.epilogue.region.exprs.empty()) text += str(" {", to_string(node.epilogue.region), "}");
    for (const TensorType& type : node.outputs) text += " : " + to_string(type);
    if (node.layout != Layout::nchw) text += str(" ", to_string(node.layout));
    text += "\n";
  }
  for (const auto& [name, value] : graph.outputs()) text += str("  output ", name, " = ", show(value), "\n");
  return text;
}

}  // namespace solder
