#include <algorithm>
#include <array>

#include "graph/all_or_nothing.h"
#include "graph/lower.h"
#include "graph/nodes/node_def.h"
#include "ops/conv/kernels.h"
#include "runtime/check.h"

namespace solder {
namespace {

// Error unless the tensors can be a convolution's; its geometry.
ConvShape conv_shape(const Node& node, std::span<const TensorType> inputs) {
  const TensorType &x = inputs[0], &w = inputs[1];
  SOLDER_REQUIRE(x.dtype == w.dtype, invalid_argument, node.name, ": ", to_string(x), " and ", to_string(w),
                 " differ in dtype: cast one of them");
  SOLDER_REQUIRE(x.shape.size() == 4, shape_mismatch, node.name, ": x must be [N, C, H, W], not ",
                 to_string(x.shape));
  SOLDER_REQUIRE(w.shape.size() == 4, shape_mismatch, node.name, ": w must be [K, C / groups, R, S], not ",
                 to_string(w.shape));
  const auto& options = std::get<Conv2dAttributes>(node.attributes);
  const ConvShape conv{.N = x.shape[0],
                       .C = x.shape[1],
                       .H = x.shape[2],
                       .W = x.shape[3],
                       .K = w.shape[0],
                       .R = w.shape[2],
                       .S = w.shape[3],
                       .groups = options.groups,
                       .stride_h = options.stride.h,
                       .stride_w = options.stride.w,
                       .dil_h = options.dilation.h,
                       .dil_w = options.dilation.w,
                       .pad_top = options.padding.top,
                       .pad_left = options.padding.left,
                       .pad_bottom = options.padding.bottom,
                       .pad_right = options.padding.right};
  validate(conv, node.name);
  SOLDER_REQUIRE(w.shape[1] * conv.groups == conv.C, shape_mismatch, node.name, ": x ", to_string(x.shape),
                 " has ", conv.C, " channels and w ", to_string(w.shape), " with groups ", conv.groups,
                 " takes ", w.shape[1] * conv.groups, ": w must be [K, ", conv.C / conv.groups, ", R, S]");
  return conv;
}

std::vector<TensorType> infer(const Node& node, std::span<const TensorType> inputs) {
  const ConvShape conv = conv_shape(node, inputs);
  return {{{conv.N, conv.K, conv.P(), conv.Q()}, inputs[0].dtype}};
}

std::string attributes(const Node& node) {
  const auto& [stride, padding, dilation, groups, is_narrow] = std::get<Conv2dAttributes>(node.attributes);
  std::string text;
  if (stride != Pair(1)) text += str(" stride=", stride.h, ",", stride.w);
  if (padding != Padding(0))
    text += str(" padding=", padding.top, ",", padding.left, ",", padding.bottom, ",", padding.right);
  if (dilation != Pair(1)) text += str(" dilation=", dilation.h, ",", dilation.w);
  if (groups != 1) text += str(" groups=", groups);
  return text;
}

// Of a 1-D convolution, which is one of images of one row.
Conv2dOptions of_one_row(Conv2dOptions options) {
  options.stride.h = options.dilation.h = 1;
  options.padding.top = options.padding.bottom = 0;
  return options;
}

class Conv2dRun final : public NodeRun {
 public:
  explicit Conv2dRun(const PlanRequest& request) {
    const Node& node = request.node;
    const TensorType x{request.inputs[0].shape, request.inputs[0].dtype},
        w{request.inputs[1].shape, request.inputs[1].dtype};
    const bool is_narrow = std::get<Conv2dAttributes>(node.attributes).is_narrow;
    ConvProblem problem{.node = node.name,
                        .shape = conv_shape(node, std::array{x, w}),
                        .math = is_narrow ? Math::tf32 : request.math,
                        .epilogue = lower(node.epilogue.region, true, node.outputs),
                        .operands = {request.inputs.begin() + 2, request.inputs.end()},
                        .weights = request.weight(1),
                        .workspace_bytes = request.workspace_bytes,
                        .x_image_elems = request.inputs[0].strides[0],
                        .y_image_elems = request.outputs[0].strides[0]};
    problem.has_aligned_pairs = std::all_of(request.offsets.begin() + 2, request.offsets.end(),
                                            [](int64_t offset) { return offset % 2 == 0; });
    conv_ = plan_conv(problem, request.device, request.conv);
    if (!conv_->runs_epilogue) pass_ = EpiloguePass(request);
    plan = {conv_->words + pass_.words(), conv_->scratch_bytes};
    uses_cublas = conv_->uses_cublas;
    constants = {conv_->packing, [conv = conv_, problem] { return conv->pack(problem); }};
  }

  void prepare(const Context& context, ElementwiseKernels& kernels, void*) override {
    pass_.prepare(context, kernels);
    plan.path = conv_->words + pass_.words();
  }

  Launch bind(const BoundNode& node, const Context* context) const override {
    ConvTensors tensors{.x = static_cast<const float*>(node.inputs[0].data),
                        .w = static_cast<const float*>(node.inputs[1].data),
                        .packed = node.constants,
                        .y = static_cast<float*>(node.outputs[0].data),
                        .scratch = node.scratch,
                        .pool = node.pool};
    for (const TensorView& operand : node.inputs.subspan(2)) tensors.operands.push_back(operand.data);
    if (!pass_) return [conv = conv_, tensors, context] { conv->enqueue(context, tensors); };
    return [conv = conv_, tensors, context, pass = pass_.bind(node, context)] {
      conv->enqueue(context, tensors);
      pass();
    };
  }

 private:
  std::shared_ptr<ConvPlan> conv_;
  EpiloguePass pass_;
};

}  // namespace

extern const NodeDef kConv2dNode;
constexpr NodeDef kConv2dNode{
    .kind = NodeKind::conv2d,
    .name = "conv2d",
    .num_inputs = 2,
    .attributes_index = index_of<Conv2dAttributes>(),
    .takes_epilogue = true,
    .takes = Strides::images,
    .stores = Strides::images,
    .infer = infer,
    .attributes = attributes,
    .is_narrow = [](Attributes& a) -> bool& { return std::get<Conv2dAttributes>(a).is_narrow; },
    .channel_axis = [](const Node&, size_t) -> size_t { return 0; },
    .plan = [](const PlanRequest& request) -> std::unique_ptr<NodeRun> {
      return std::make_unique<Conv2dRun>(request);
    },
    .flops = [](const Node& node,
                std::span<const TensorType> inputs) { return 2 * conv_shape(node, inputs).num_macs(); }};

Value Graph::conv2d(Value x, Value w, const Conv2dOptions& options) {
  const AllOrNothing guard(this);
  const size_t x_rank = checked_type(x, "conv2d").shape.size(),
               w_rank = checked_type(w, "conv2d").shape.size();
  if (x_rank == 3 && w_rank == 3)
    return squeeze(conv2d(unsqueeze(x, {2}), unsqueeze(w, {2}), of_one_row(options)), {2});
  Node node{
      .kind = NodeKind::conv2d,
      .name = options.name.empty() ? next_name("conv2d") : options.name,
      .inputs = {x, w},
      .attributes = Conv2dAttributes{options.stride, options.padding, options.dilation, options.groups}};
  node.epilogue.region = {.num_operands = 0, .exprs = {}, .outputs = {Arg::result()}};
  return add_node(std::move(node));
}

Value Graph::biased_conv2d(Value x, Value w, Value bias, const Conv2dOptions& options) {
  const AllOrNothing guard(this);
  const TensorType w_type = checked_type(w, "conv2d"), bias_type = checked_type(bias, "conv2d");
  require_bias(w_type, bias_type, options.name.empty() ? next_name("conv2d") : options.name);
  // The bias comes before the view, so that both are one sum.
  if (checked_type(x, "conv2d").shape.size() == 3 && w_type.shape.size() == 3)
    return squeeze(biased_conv2d(unsqueeze(x, {2}), unsqueeze(w, {2}), bias, of_one_row(options)), {2});
  const Value y = conv2d(x, w, options);
  const Shape result = type(y).shape;
  return elementwise(Op::add, {y, bias}, {result, channel_shape(result)}, Arg::operand(0), Arg::operand(1), 0,
                     0, w_type.dtype);
}

}  // namespace solder
