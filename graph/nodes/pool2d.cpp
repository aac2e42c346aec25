#include "graph/nodes/node_def.h"
#include "ops/pool/pool.h"
#include "runtime/check.h"
#include "runtime/context.h"

namespace solder {
namespace {

const Pool2dAttributes& attributes_of(const Node& node) {
  return std::get<Pool2dAttributes>(node.attributes);
}

Pool2d pool_of(const Node& node) {
  const auto& [reduction, o] = attributes_of(node);
  return {.is_max = reduction == Reduction::max,
          .count_padding = o.count_include_pad,
          .h = {o.kernel.h, o.stride.h, o.dilation.h, o.padding.top, o.padding.bottom},
          .w = {o.kernel.w, o.stride.w, o.dilation.w, o.padding.left, o.padding.right}};
}

std::vector<TensorType> infer(const Node& node, std::span<const TensorType> inputs) {
  TensorType result = inputs[0];
  const Shape x = result.shape;
  SOLDER_REQUIRE(x.size() == 4, shape_mismatch, node.name, ": x must be [N, C, H, W], not ", to_string(x));
  const bool ceil_mode = attributes_of(node).options.ceil_mode;
  const Pool2d pool = pool_of(node);
  size_t dim = 2;
  for (const PoolAxis& axis : {pool.h, pool.w}) {
    const char* of = dim == 2 ? "rows" : "columns";
    SOLDER_REQUIRE(x[dim] < (int64_t{1} << 62), unsupported, node.name, ": ", to_string(x), " has 2^62 ", of,
                   " or more");
    constexpr int64_t kMost = (int64_t{1} << 31) - 1;
    for (const auto& [what, value] :
         {std::pair{"kernel", axis.size}, {"stride", axis.stride}, {"dilation", axis.dilation}})
      SOLDER_REQUIRE(value >= 1 && value <= kMost, invalid_argument, node.name, ": ", what, " of ", of,
                     " is ", value, "; it must be from 1 to ", kMost);
    for (const int64_t padding : {axis.before, axis.after})
      SOLDER_REQUIRE(padding >= 0 && padding <= kMost, invalid_argument, node.name, ": padding of ", of,
                     " is ", padding, "; it must be from 0 to ", kMost, " (slice crops)");
    result.shape[dim] = axis.num_windows(x[dim], ceil_mode);
    SOLDER_REQUIRE(result.shape[dim] > 0, shape_mismatch, node.name, ": a window of ", of, " reaches over ",
                   axis.dilation * (axis.size - 1) + 1, ", more than the ", x[dim], " of x ", to_string(x),
                   " with padding ", axis.before, " and ", axis.after);
    ++dim;
  }
  return {result};
}

std::string attributes(const Node& node) {
  const auto& [reduction, o] = attributes_of(node);
  std::string text = str(reduction == Reduction::max ? " max" : " mean", " kernel=", o.kernel.h, ",",
                         o.kernel.w, " stride=", o.stride.h, ",", o.stride.w);
  if (o.padding != Padding(0))
    text += str(" padding=", o.padding.top, ",", o.padding.left, ",", o.padding.bottom, ",", o.padding.right);
  if (o.dilation != Pair(1)) text += str(" dilation=", o.dilation.h, ",", o.dilation.w);
  if (o.ceil_mode) text += " ceil_mode=1";
  if (reduction == Reduction::mean && !o.count_include_pad) text += " count_include_pad=0";
  return text;
}

std::unique_ptr<NodeRun> plan(const PlanRequest& request) {
  const auto bind = [pool = pool_of(request.node)](const BoundNode& node, const Context* context) -> Launch {
    return [pool, context, x = node.inputs[0], y = node.outputs[0], threads = node.pool] {
      if constexpr (kWithCuda)
        if (context != nullptr) return pool2d_cuda(*context, pool, x, y);
      pool2d_cpu(pool, x, y, threads);
    };
  };
  return bound_by(request.device != nullptr ? "one kernel" : "loops, CPU", bind);
}

}  // namespace

extern const NodeDef kPool2dNode;
constexpr NodeDef kPool2dNode{
    .kind = NodeKind::pool2d,
    .name = "pool2d",
    .num_inputs = 1,
    .attributes_index = index_of<Pool2dAttributes>(),
    .takes = Strides::any,
    .stores = Strides::any,
    .infer = infer,
    .attributes = attributes,
    .selects = [](const Node& node) { return is_extreme(attributes_of(node).reduction); },
    .passes_scaled = [](const Node&, std::span<const TensorType>,
                        std::span<const std::vector<ScaledChannels>> parts) { return parts[0]; },
    .plan = plan};

Value Graph::pool2d(Value x, const Pool2dOptions& options, Reduction reduction, const char* op) {
  checked_type(x, op);
  Pool2dAttributes attributes{reduction, options};
  if (options.stride == Pair(0)) attributes.options.stride = options.kernel;
  return add_node({.kind = NodeKind::pool2d, .name = next_name(op), .inputs = {x}, .attributes = attributes});
}

Value Graph::max_pool2d(Value x, const Pool2dOptions& options) {
  return pool2d(x, options, Reduction::max, "max_pool2d");
}

Value Graph::avg_pool2d(Value x, const Pool2dOptions& options) {
  return pool2d(x, options, Reduction::mean, "avg_pool2d");
}

}  // namespace solder
