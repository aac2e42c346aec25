#include <algorithm>
#include <array>
#include <optional>

#include "graph/all_or_nothing.h"
#include "graph/lower.h"
#include "graph/nodes/float_op.h"
#include "ops/conv/kernels.h"
#include "runtime/check.h"

namespace solder {
namespace {

// Error unless the tensors can be a convolution's; its geometry.
ConvShape conv_shape(const Node& node, std::span<const TensorType> inputs) {
  const TensorType &x = inputs[0], &w = inputs[1];
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
  require_same_dtype(node, inputs, std::get<Conv2dAttributes>(node.attributes).is_narrow);
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

// What the convolution of a node is planned for, whose tensors lie as the views say.
ConvProblem problem_of(const PlanRequest& request, std::span<const TensorView> inputs,
                       std::span<const TensorView> outputs) {
  const Node& node = request.node;
  const TensorType x{inputs[0].shape, inputs[0].dtype}, w{inputs[1].shape, inputs[1].dtype};
  const bool is_narrow = std::get<Conv2dAttributes>(node.attributes).is_narrow;
  ConvProblem problem{.node = node.name,
                      .shape = conv_shape(node, std::array{x, w}),
                      .math = is_narrow ? Math::tf32 : request.math,
                      .x = {inputs[0], request.offsets[0], request.scaled_inputs[0]},
                      .y = {outputs[0], request.offsets[request.inputs.size()], node.scaled},
                      .epilogue = lower(node.epilogue.region, true, node.outputs),
                      .weights = request.weight(1),
                      .workspace_bytes = request.workspace_bytes};
  for (size_t i = 1; i < outputs.size(); ++i)
    problem.more_outputs.push_back({outputs[i], request.offsets[request.inputs.size() + i]});
  for (size_t i = 2; i < request.inputs.size(); ++i)
    problem.operands.push_back({request.inputs[i], request.offsets[i], request.scaled_inputs[i]});
  problem.largest_operand = [weight = request.weight](size_t operand) {
    const ConvWeights values = weight(2 + operand);
    return values ? std::ranges::max(values.largest()) : kNonFiniteBits;
  };
  return problem;
}

bool takes_scaled(const PlanRequest& request) {
  std::string why_not;
  ConvProblem problem = problem_of(request, request.inputs, request.outputs);
  const auto plan = plan_conv(problem, request.device, request.conv, &why_not);
  if (plan == nullptr || !problem.x.scaled.empty()) return plan != nullptr;
  // What has to be packed first may be slower so than as it is.
  const auto make_plain = [](ConvView& view) { view = {dense_view(nullptr, DType::float32, view.shape)}; };
  make_plain(problem.x), make_plain(problem.y);
  for (ConvView& operand : problem.operands) make_plain(operand);
  return plan->predicted_us <= plan_conv(problem, request.device, request.conv)->predicted_us;
}

bool stores_more(const PlanRequest& request) {
  return plan_conv(problem_of(request, request.inputs, request.outputs), request.device, request.conv) !=
         nullptr;
}

// A node's tensors of `count` of its `of` images, from image `first` on. What all images share stays as it is.
struct ImagePart {
  int64_t of, first, count;

  std::vector<TensorView> operator()(std::span<const TensorView> views, size_t weights) const {
    std::vector<TensorView> parts(views.begin(), views.end());
    for (size_t i = 0; i < parts.size(); ++i) {
      TensorView& part = parts[i];
      if (i == weights || part.shape.size() != 4 || part.shape[0] != of) continue;
      part.shape[0] = count;
      if (part.data != nullptr)
        part.data = static_cast<char*>(part.data) + first * part.strides[0] * size_of(part.dtype);
    }
    return parts;
  }
  std::vector<TensorView> inputs(std::span<const TensorView> views) const { return (*this)(views, 1); }
  std::vector<TensorView> outputs(std::span<const TensorView> views) const {
    return (*this)(views, views.size());
  }
};

// By a family that takes the tensors as they lie and runs the epilogue; or in float32, so many images at a time.
class Conv2dRun final : public NodeRun {
 public:
  explicit Conv2dRun(const PlanRequest& request) : num_images_(request.outputs[0].shape[0]) {
    ConvProblem problem = problem_of(request, request.inputs, request.outputs);
    const bool is_plain = problem.has_plain_tensors();
    std::string why_not;
    if (!is_plain) conv_ = plan_conv(problem, request.device, request.conv, &why_not);
    SOLDER_REQUIRE(conv_ != nullptr || !problem.is_scaled(), unsupported, request.node.name,
                   ": no convolution takes scaled values: ", why_not);
    if (conv_ == nullptr) {
      PlanRequest part = request;
      images_at_a_time_ = is_plain ? num_images_ : images_at_a_time(problem);
      const ImagePart images{num_images_, 0, images_at_a_time_};
      part.inputs = images.inputs(request.inputs);
      part.outputs = images.outputs(request.outputs);
      // What is in the way may be the epilogue alone, unless w is a value that lies in 16 bits: no family takes it so.
      if (!is_plain && part.inputs[1].dtype == DType::float32) {
        op_ = FloatOp::of_pixels(part);
        problem = op_problem(part);
        conv_ = plan_conv(problem, request.device, request.conv);
      }
      if (conv_ == nullptr) {
        op_ = FloatOp(part, Strides::images);
        problem = op_problem(part);
        conv_ = plan_conv(problem, request.device, request.conv);
      }
      if (!op_->stores_output() || !conv_->runs_epilogue) op_->add_epilogue(part);
      if (!why_not.empty()) conv_->words += str(" (", why_not, ")");
    }
    plan.workspace_bytes = conv_->scratch_bytes + (op_ ? op_->scratch_bytes() : 0);
    set_words();
    uses_cublas = conv_->uses_cublas;
    constants = {conv_->packing, [conv = conv_, values = problem.weights.values] {
                   const Tensor weights = values();
                   return conv->pack(weights.floats());
                 }};
  }

  void prepare(const Context& context, ElementwiseKernels& kernels, void*) override {
    if (op_) op_->prepare(context, kernels);
    set_words();
  }

  Launch bind(const BoundNode& node, const Context* context) const override {
    const auto bind_conv = [&](const BoundNode& of) -> Launch {
      ConvTensors tensors{.x = of.inputs[0].data,
                          .w = static_cast<const float*>(of.inputs[1].data),
                          .packed = of.constants,
                          .y = of.outputs[0].data,
                          .sum = of.outputs.size() > 1 ? of.outputs[1].data : nullptr,
                          .scratch = of.scratch,
                          .ranges = of.ranges,
                          .pool = of.pool};
      for (const TensorView& operand : of.inputs.subspan(2)) tensors.operands.push_back(operand.data);
      return [conv = conv_, tensors, context] { conv->enqueue(context, tensors); };
    };
    if (!op_) return bind_conv(node);
    std::vector<Launch> launches;
    for (int64_t first = 0; first < num_images_; first += images_at_a_time_) {
      const ImagePart images{num_images_, first, images_at_a_time_};
      const std::vector<TensorView> inputs = images.inputs(node.inputs),
                                    outputs = images.outputs(node.outputs);
      BoundNode part = node;
      part.inputs = inputs, part.outputs = outputs;
      launches.push_back(op_->bind(part, context, bind_conv));
    }
    return in_order(std::move(launches));
  }

 private:
  // Copies that fit in a cache save memory traffic, and memory: as many images, but no remainder.
  static int64_t images_at_a_time(const ConvProblem& problem) {
    constexpr int64_t kTargetBytes = int64_t{32} << 20;
    const ConvShape& s = problem.shape;
    const int64_t image_bytes = 4 * (s.C * s.H * s.W + s.K * s.gemm_n());
    int64_t count = std::min(s.N, std::max<int64_t>(kTargetBytes / std::max<int64_t>(image_bytes, 1), 1));
    while (count > 0 && s.N % count != 0) --count;
    return count;
  }

  // What is left for the convolution: where the result is not the node's it stores that alone.
  ConvProblem op_problem(const PlanRequest& part) const {
    PlanRequest mine = part;
    if (!op_->reads_input(0)) mine.offsets[0] = 0;
    ConvProblem problem = problem_of(mine, op_->inputs(), std::span(&op_->result(), 1));
    if (op_->stores_output()) return problem;
    problem.y.offset_elems = 0;
    problem.epilogue = lower({0, {}, {Arg::result()}}, true, {});
    problem.operands.clear();
    return problem;
  }

  void set_words() { plan.path = op_ ? op_->words(conv_->words) : conv_->words; }

  int64_t num_images_, images_at_a_time_ = 1;
  std::shared_ptr<ConvPlan> conv_;
  std::optional<FloatOp> op_;
};

}  // namespace

extern const NodeDef kConv2dNode;
constexpr NodeDef kConv2dNode{
    .kind = NodeKind::conv2d,
    .name = "conv2d",
    .num_inputs = 2,
    .attributes_index = index_of<Conv2dAttributes>(),
    .takes_epilogue = true,
    .takes = Strides::pixels,
    .stores = Strides::pixels,
    .infer = infer,
    .attributes = attributes,
    .is_narrow = [](Attributes& a) -> bool& { return std::get<Conv2dAttributes>(a).is_narrow; },
    .channel_axis = [](const Node&, size_t) -> size_t { return 0; },
    .takes_scaled = takes_scaled,
    .stores_more = stores_more,
    .plan = planned<Conv2dRun>,
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
  return elementwise(Op::add, {y, bias}, {result, channel_shape(result)}, w_type.dtype, Arg::operand(0),
                     Arg::operand(1));
}

}  // namespace solder
