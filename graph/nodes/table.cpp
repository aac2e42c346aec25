#include <array>

#include "graph/nodes/node_def.h"
#include "runtime/check.h"

namespace solder {

extern const NodeDef kInputNode, kParameterNode, kConv2dNode, kMatmulNode, kElementwiseNode, kSliceNode,
    kReshapeNode, kPermuteNode, kExpandNode, kConcatNode, kPool2dNode, kReduceNode, kSoftmaxNode, kResizeNode,
    kPadNode, kGatherNode, kBatchNormNode;

namespace {

constexpr std::array kTable = {&kInputNode,  &kParameterNode, &kConv2dNode,  &kMatmulNode, &kElementwiseNode,
                               &kSliceNode,  &kReshapeNode,   &kPermuteNode, &kExpandNode, &kConcatNode,
                               &kPool2dNode, &kReduceNode,    &kSoftmaxNode, &kResizeNode, &kPadNode,
                               &kGatherNode, &kBatchNormNode};
static_assert(kTable.size() == static_cast<size_t>(NodeKind::batch_norm) + 1, "one row a kind, in its order");

class BoundRun final : public NodeRun {
 public:
  using Bind = std::function<Launch(const BoundNode&, const Context*)>;
  BoundRun(std::string words, Bind bind) : bind_(std::move(bind)) { plan.path = std::move(words); }
  Launch bind(const BoundNode& node, const Context* context) const override { return bind_(node, context); }

 private:
  Bind bind_;
};

}  // namespace

const NodeDef& node_def(NodeKind kind) {
  const auto row = static_cast<size_t>(kind);
  SOLDER_REQUIRE(row < kTable.size(), invalid_argument, "there is no kind of node ", row);
  return *kTable[row];
}

std::span<const NodeDef* const> node_defs() { return kTable; }

const char* to_string(NodeKind kind) { return node_def(kind).name; }

const char* to_string(Layout layout) {
  constexpr const char* kNames[] = {"nchw", "channels_last", "padded_channels_last"};
  return kNames[static_cast<int>(layout)];
}

std::vector<TensorType> input_types(const Graph& graph, const Node& node) {
  std::vector<TensorType> types;
  for (const Value& input : node.inputs) types.push_back(graph.type(input));
  return types;
}

std::string describe(const Graph& graph, const Node& node) {
  std::string text;
  for (size_t i = 0; i < node.num_own_inputs(); ++i)
    text += (i ? ", " : " ") + to_string(graph.type(node.inputs[i]));
  const auto attributes = node_def(node.kind).attributes;
  return attributes != nullptr ? text + attributes(node) : text;
}

NodeConstants constants_of(std::span<const std::byte> bytes) {
  if (bytes.empty()) return {};
  std::vector<std::byte> mine(bytes.begin(), bytes.end());
  std::string key = "bytes " + std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return {std::move(key), [mine] { return mine; }};
}

bool allows(Strides strides, const TensorView& view) {
  if (strides == Strides::any || view.shape.empty()) return true;
  if (strides == Strides::dense) return is_dense(view);
  const bool are_apart = view.shape[0] == 1 || view.strides[0] > 0;
  return are_apart && (has_dense_parts(view) || (strides == Strides::pixels && has_channels_innermost(view)));
}

bool takes(const Node& node, size_t input, const TensorView& view) {
  const size_t num_own = node.num_own_inputs();
  TensorView unused;
  if (input >= num_own) return view_as(view, node.epilogue.operand_shapes[input - num_own], &unused);
  const NodeDef& def = node_def(node.kind);
  return allows(input == 0 ? def.takes : def.takes_others, view);
}

std::unique_ptr<NodeRun> bound_by(std::string words, BoundRun::Bind bind) {
  return std::make_unique<BoundRun>(std::move(words), std::move(bind));
}

}  // namespace solder
