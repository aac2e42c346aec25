#include "graph/lower.h"
#include "graph/nodes/batch_change.h"
#include "graph/nodes/node_def.h"
#include "runtime/check.h"

namespace solder {
namespace {

// For a vector that has the length of an image's channels and not of its rows.
const char* channel_hint(const Shape& a, const Shape& b) {
  const auto fits = [](const Shape& image, const Shape& vector) {
    return vector.size() == 1 && image.size() >= 3 && image[image.size() - 3] == vector[0];
  };
  return fits(a, b) || fits(b, a) ? "; per_channel() reads [C] as one value a channel, [C, 1, 1]" : "";
}

// The dtype is the one that was declared: a region computes in float32 and stores what it is told to.
std::vector<TensorType> infer(const Node& node, std::span<const TensorType>) {
  Shape shape;
  for (const Shape& operand : node.epilogue.operand_shapes)
    SOLDER_REQUIRE(broadcast(shape, operand, &shape), shape_mismatch, node.name, ": shapes ",
                   to_string(node.epilogue.operand_shapes[0]), " and ", to_string(operand),
                   " do not broadcast: aligned at the last axis, extents must be equal or 1",
                   channel_hint(node.epilogue.operand_shapes[0], operand));
  std::vector<TensorType> results = node.outputs;
  for (TensorType& result : results) {
    result.shape = shape;
    require_size(result, node.name);
  }
  return results;
}

// Beside an operand that follows the batch others do too, or are of extent 1 there: a constant for every image of the
// old batch is none for the new one's.
void rebatch(Node* node, BatchChange* change) {
  std::vector<Shape>& shapes = node->epilogue.operand_shapes;
  const std::vector<Shape> before = shapes;
  const size_t rank = node->outputs[0].shape.size();
  std::vector<bool> follows(rank);  // by axis of the result
  for (size_t i = 0; i < shapes.size(); ++i) {
    shapes[i] = follow_batch(*node, i, std::move(shapes[i]), change);
    for (size_t axis = 0; axis < shapes[i].size(); ++axis)
      if (shapes[i][axis] != before[i][axis]) follows[rank - shapes[i].size() + axis] = true;
  }
  for (size_t i = 0; i < shapes.size(); ++i)
    for (size_t axis = 0; axis < shapes[i].size(); ++axis)
      if (follows[rank - shapes[i].size() + axis] && shapes[i][axis] == before[i][axis] &&
          shapes[i][axis] != 1)
        fail_fixed(*node,
                   str("reads ", to_string(shapes[i]), " beside what follows the batch along axis ", axis));
}

class ElementwiseRun final : public NodeRun {
 public:
  explicit ElementwiseRun(const PlanRequest& request)
      : program_(lower(request.node.epilogue.region, false, request.node.outputs)),
        pass_(program_, request.inputs, request.outputs, request.device) {
    plan.path = "one pass: " + pass_.words();
    constants = {pass_.constants_key(), [this] { return pass_.constants(); }};
  }

  void prepare(const Context& context, ElementwiseKernels& kernels, void* constants) override {
    pass_.prepare(context, kernels, constants);
    plan.path = "one pass: " + pass_.words();
  }

  Launch bind(const BoundNode& node, const Context* context) const override {
    return pass_.bind(context, node.inputs, node.outputs, node.constants, node.pool);
  }

  bool may_overwrite(size_t input, size_t output) const override {
    return solder::may_overwrite(program_, static_cast<int>(input), static_cast<int>(output));
  }

 private:
  Program program_;
  ElementwisePass pass_;
};

}  // namespace

extern const NodeDef kElementwiseNode;
constexpr NodeDef kElementwiseNode{.kind = NodeKind::elementwise,
                                   .name = "elementwise",
                                   .takes_epilogue = true,
                                   .takes = Strides::any,
                                   .stores = Strides::any,
                                   .infer = infer,
                                   .rebatch = rebatch,
                                   .plan = planned<ElementwiseRun>};

Value Graph::elementwise(Op op, std::vector<Value> inputs, std::vector<Shape> operand_shapes, DType dtype,
                         Arg a, Arg b, float p, float q) {
  SOLDER_REQUIRE(b.kind == Arg::Kind::none ? is_unary(op) : is_binary(op), invalid_argument, to_string(op),
                 is_unary(op)    ? " takes one argument"
                 : is_binary(op) ? " takes two arguments"
                                 : " is no function");
  Node node{.kind = NodeKind::elementwise, .name = next_name(to_string(op)), .inputs = std::move(inputs)};
  node.outputs = {{{}, dtype}};
  node.epilogue.region = {static_cast<int>(node.inputs.size()), {{op, a, b, p, q}}, {Arg::expr(0)}};
  node.epilogue.operand_shapes = std::move(operand_shapes);
  return add_node(std::move(node));
}

Value Graph::unary(Op op, Value x) {
  for (const OpParam& param : op_info(op).params)
    SOLDER_REQUIRE(!param.is_required(), invalid_argument, next_name(to_string(op)), ": needs `", param.name,
                   "`, which has no default");
  return unary(op, x, op_info(op).params[0].fallback, op_info(op).params[1].fallback);
}

Value Graph::unary(Op op, Value x, float p, float q) {
  SOLDER_REQUIRE(op != Op::clip || p <= q, invalid_argument, next_name(to_string(op)), ": low ", p,
                 " must not be above high ", q);
  const TensorType& type = checked_type(x, to_string(op));
  return elementwise(op, {x}, {type.shape}, type.dtype, Arg::operand(0), {}, p, q);
}

Value Graph::binary(Op op, Value a, Value b) {
  const TensorType &at = checked_type(a, to_string(op)), &bt = checked_type(b, to_string(op));
  SOLDER_REQUIRE(at.dtype == bt.dtype, invalid_argument, next_name(to_string(op)), ": ", to_string(at),
                 " and ", to_string(bt), " differ in dtype: cast one of them");
  if (a == b) return elementwise(op, {a}, {at.shape}, at.dtype, Arg::operand(0), Arg::operand(0));
  return elementwise(op, {a, b}, {at.shape, bt.shape}, at.dtype, Arg::operand(0), Arg::operand(1));
}

Value Graph::binary(Op op, Value a, float b) {
  const TensorType& type = checked_type(a, to_string(op));
  return elementwise(op, {a}, {type.shape}, type.dtype, Arg::operand(0), Arg::immediate(b));
}

Value Graph::binary(Op op, float a, Value b) {
  const TensorType& type = checked_type(b, to_string(op));
  return elementwise(op, {b}, {type.shape}, type.dtype, Arg::immediate(a), Arg::operand(0));
}

Value Graph::where(Value condition, Value a, Value b) {
  const TensorType &ct = checked_type(condition, "where"), &at = checked_type(a, "where"),
                   &bt = checked_type(b, "where");
  Shape shape;
  SOLDER_REQUIRE(ct.dtype == at.dtype && at.dtype == bt.dtype, invalid_argument, next_name("where"), ": ",
                 to_string(ct), ", ", to_string(at), " and ", to_string(bt),
                 " differ in dtype: cast some of them");
  SOLDER_REQUIRE(broadcast(ct.shape, at.shape, &shape) && broadcast(shape, bt.shape, &shape), shape_mismatch,
                 next_name("where"), ": shapes ", to_string(ct.shape), ", ", to_string(at.shape), " and ",
                 to_string(bt.shape),
                 " do not broadcast: aligned at the last axis, extents must be equal or 1");
  const Value kept = binary(Op::keep_if, a, condition), other = binary(Op::keep_unless, b, condition);
  return binary(Op::either, kept, other);
}

Value Graph::cast(Value x, DType dtype) {
  const TensorType& type = checked_type(x, "cast");
  if (type.dtype == dtype) return x;
  Node node = copy_of(x, type.shape, dtype, next_name("cast"));
  // Rounding is spelled out, so that it still happens when the value stays inside a fused region.
  if (dtype != DType::float32) {
    const Op round = rounding_to(dtype);
    node.epilogue.region.exprs = {{round, Arg::operand(0), {}, 0, 0}};
    node.epilogue.region.outputs = {Arg::expr(0)};
  }
  return add_node(std::move(node));
}

}  // namespace solder
