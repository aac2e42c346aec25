#include "ops/reduce/reduce.h"

#include <algorithm>

#include "graph/nodes/batch_change.h"
#include "graph/nodes/node_def.h"
#include "runtime/check.h"
#include "runtime/context.h"

namespace solder {
namespace {

const ReduceAttributes& attributes_of(const Node& node) {
  return std::get<ReduceAttributes>(node.attributes);
}

std::vector<TensorType> infer(const Node& node, std::span<const TensorType> inputs) {
  const ReduceAttributes& reduce = attributes_of(node);
  const Shape& x = inputs[0].shape;
  TensorType result{{}, reduce.keeps_float32 ? DType::float32 : inputs[0].dtype};
  size_t next = 0;
  for (size_t axis = 0; axis < x.size(); ++axis) {
    const bool is_reduced = next < reduce.axes.size() && reduce.axes[next] == static_cast<int>(axis);
    next += is_reduced;
    if (!is_reduced || reduce.keep_dims) result.shape.push_back(is_reduced ? 1 : x[axis]);
  }
  SOLDER_REQUIRE(next == reduce.axes.size(), invalid_argument, node.name, ": axes ",
                 to_string(Shape(reduce.axes)), " are not ascending axes of ", to_string(x));
  return {result};
}

const char* name_of(Reduction reduction) {
  constexpr const char* kNames[] = {"mean", "sum", "max", "min"};
  return kNames[static_cast<int>(reduction)];
}

std::string attributes(const Node& node) {
  const ReduceAttributes& reduce = attributes_of(node);
  std::string text = str(" ", name_of(reduce.reduction), " axes=");
  for (size_t i = 0; i < reduce.axes.size(); ++i) text += str(i > 0 ? "," : "", reduce.axes[i]);
  return text + (reduce.keep_dims ? " keep_dims=1" : "");
}

Reduce reduce_of(const ReduceAttributes& attributes, const TensorView& x, const TensorView& y) {
  return {.reduction = attributes.reduction,
          .rows = rows_of(x, repeated_over(y, x.shape, attributes.axes), attributes.axes),
          .x_dtype = x.dtype,
          .y_dtype = y.dtype};
}

// Each row is of one image, and all have one exponent.
bool takes_scaled(const PlanRequest& request) {
  const std::vector<int>& axes = attributes_of(request.node).axes;
  return request.node.scaled.empty() && request.scaled_inputs[0].size() == 1 && !axes.empty() && axes[0] > 0;
}

class ReduceRun final : public NodeRun {
 public:
  explicit ReduceRun(const PlanRequest& request)
      : reduce_(reduce_of(attributes_of(request.node), request.inputs[0], request.outputs[0])) {
    plan.workspace_bytes = reduce_.scratch_bytes();
    plan.path = str(request.device == nullptr    ? "loops, CPU"
                    : reduce_.rows.are_columns() ? "columns"
                                                 : "rows",
                    plan.workspace_bytes > 0 ? ", in chunks" : "");
    if (request.scaled_inputs[0].empty()) return;
    ranges_ = request.scaled_inputs[0][0].first, num_images_ = request.inputs[0].shape[0];
    plan.path += ", scaled";
  }

  Launch bind(const BoundNode& node, const Context* context) const override {
    return
        [reduce = reduce_, context, x = node.inputs[0].data, y = node.outputs[0].data, scratch = node.scratch,
         ranges = ranges_ < 0 ? nullptr : node.ranges + ranges_, num_images = num_images_, pool = node.pool] {
          if constexpr (kWithCuda)
            if (context != nullptr) return reduce_cuda(*context, reduce, x, y, scratch, {ranges, num_images});
          reduce_cpu(reduce, x, y, scratch, pool);
        };
  }

 private:
  Reduce reduce_;
  int64_t ranges_ = -1, num_images_ = 0;  // of scaled x
};

}  // namespace

extern const NodeDef kReduceNode;
constexpr NodeDef kReduceNode{
    .kind = NodeKind::reduce,
    .name = "reduce",
    .num_inputs = 1,
    .attributes_index = index_of<ReduceAttributes>(),
    .takes = Strides::any,
    .stores = Strides::any,
    .infer = infer,
    .attributes = attributes,
    .keeps_float32 = [](Attributes& a) -> bool& { return std::get<ReduceAttributes>(a).keeps_float32; },
    .selects = [](const Node& node) { return is_extreme(attributes_of(node).reduction); },
    .takes_scaled = takes_scaled,
    .rebatch =
        [](Node* node, BatchChange* change) {
          for (const int axis : attributes_of(*node).axes) require_own_axis(*node, axis, *change);
        },
    .plan = planned<ReduceRun>};

Value Graph::reduce(Value x, const std::vector<int>& axes, bool keep_dims, Reduction reduction,
                    const char* op) {
  const std::string name = next_name(op);
  const int rank = static_cast<int>(checked_type(x, op).shape.size());
  return add_node({.kind = NodeKind::reduce,
                   .name = name,
                   .inputs = {x},
                   .attributes = ReduceAttributes{reduction, checked_axes(axes, rank, name), keep_dims}});
}

Value Graph::mean(Value x, const std::vector<int>& axes, bool keep_dims) {
  return reduce(x, axes, keep_dims, Reduction::mean, "mean");
}

Value Graph::sum(Value x, const std::vector<int>& axes, bool keep_dims) {
  return reduce(x, axes, keep_dims, Reduction::sum, "sum");
}

Value Graph::reduce_max(Value x, const std::vector<int>& axes, bool keep_dims) {
  return reduce(x, axes, keep_dims, Reduction::max, "reduce_max");
}

Value Graph::reduce_min(Value x, const std::vector<int>& axes, bool keep_dims) {
  return reduce(x, axes, keep_dims, Reduction::min, "reduce_min");
}

}  // namespace solder
