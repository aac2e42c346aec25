#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "graph/node.h"
#include "runtime/visibility.h"

namespace SOLDER_PUBLIC solder {

/// A computation, written call by call. Each call checks its arguments and infers the result's shape; a wrong
/// one throws Error naming op, node and shapes and leaves the graph as it was. Copyable plain data.
class Graph {
 public:
  /// A tensor given at run time. Names of inputs and parameters are unique in a graph. With Layout::channels_last its
  /// bytes lie [N,H,W,C] and its shape is [N,C,H,W] still; Error(invalid_argument) unless it has four extents.
  Value input(const std::string& name, Shape shape, DType dtype = DType::float32, Layout = Layout::nchw);

  /// A tensor given at compile().
  Value parameter(const std::string& name, Shape shape, DType dtype = DType::float32);

  /// Makes `value` a result of the graph under `name`. A value may have several names; a name is used once. Its bytes
  /// lie as `layout` says, as those of inputs.
  void output(const std::string& name, Value value, Layout layout = Layout::nchw);

  /// Names the node that made `value`, for dumps, errors and profiles; returns `value`.
  Value name(Value value, const std::string& node_name);

  /// 2-D cross-correlation, as in PyTorch: x [N,C,H,W], w [K,C/groups,R,S] -> [N,K,P,Q],
  ///   y[n,k,p,q] = sum over c,r,s of x[n, c, p * stride.h + r * dilation.h - top, q * stride.w + ...] * w[k,c,r,s]
  /// with x = 0 outside the image (0 times an infinite weight is NaN there too). x [N,C,W] with w [K,C/groups,S] is
  /// the 1-D one; of stride, padding and dilation it takes w. Tensors of one dtype; sums are float32, rounded once.
  Value conv2d(Value x, Value w, const Conv2dOptions& options = {});
  /// The same plus bias [K].
  template <std::same_as<Value> Bias>  // not deduced from {}, which means no options
  Value conv2d(Value x, Value w, Bias bias, const Conv2dOptions& options = {}) {
    return biased_conv2d(x, w, bias, options);
  }

  /// torch.nn.ConvTranspose2d: the gradient of conv2d by its x. x [N,C,H,W], w [C,K/groups,R,S] -> [N,K,P,Q], P =
  /// (H - 1) * stride.h - top - bottom + dilation.h * (R - 1) + output_padding.h + 1. Runs as a convolution of x with
  /// zeros between its pixels: stride.h * stride.w times the multiply-adds that count.
  Value conv_transpose2d(Value x, Value w, const ConvTranspose2dOptions& options = {});
  template <std::same_as<Value> Bias>
  Value conv_transpose2d(Value x, Value w, Bias bias, const ConvTranspose2dOptions& options = {}) {
    return biased_conv_transpose2d(x, w, bias, options);
  }

  /// numpy.matmul for a [..., m, k] with b [k, n] or with b [..., k, n] of the same leading extents. Tensors of one
  /// dtype; sums are float32, rounded once.
  Value matmul(Value a, Value b);
  /// x [..., in] times w [out, in] transposed, plus bias [out]: torch.nn.Linear.
  Value linear(Value x, Value w);
  Value linear(Value x, Value w, Value bias);

  /// Views, which move no data where strides can say it; otherwise one copy is made. Any dtype. Axes may be negative.
  ///
  /// The same elements in row-major order under another shape; one extent may be -1 and is worked out, 0 copies the
  /// extent of x at that axis.
  Value reshape(Value x, Shape shape);
  /// Axes from `from_axis` on as one.
  Value flatten(Value x, int from_axis = 1);
  /// Without these axes of extent 1; none named: without any.
  Value squeeze(Value x, std::vector<int> axes = {});
  /// With axes of extent 1 at these places of the result.
  Value unsqueeze(Value x, const std::vector<int>& axes);
  /// Axis i of the result is axis axes[i] of x.
  Value permute(Value x, std::vector<int> axes);
  /// Broadcast to `shape` as numpy would; -1 keeps the extent of x.
  Value expand(Value x, Shape shape);
  /// x repeated[i] times along axis i, as torch.tile: missing leading axes of either count as 1.
  Value tile(Value x, std::vector<int64_t> repeats);
  /// [C] read as [C,1,1]: one value a channel of an image.
  Value per_channel(Value v);
  /// Indices start, start + step, ... before stop of `axis`. As in Python: negative starts and stops count from the
  /// end, what lies beyond it is cut, and with a negative step the axis is walked backwards (a stop before the first
  /// index is then INT64_MIN).
  Value slice(Value x, int axis, int64_t start, int64_t stop, int64_t step = 1);
  /// Consecutive parts of these sizes, which add up to the axis.
  std::vector<Value> split(Value x, int axis, const std::vector<int64_t>& sizes);
  /// Tensors of one dtype that differ in `axis` alone, one behind the other. What computes one of them writes straight
  /// into its part of the result where it can.
  Value concat(const std::vector<Value>& values, int axis);

  /// Pools of x [N,C,H,W] -> [N,C,P,Q], P = (H + top + bottom - dilation.h * (kernel.h - 1) - 1) / stride.h + 1, rounded
  /// up with ceil_mode, of which the last window must start before the padding behind. NaN in a window is its maximum.
  /// A window without any element is -infinity, its average NaN. Errors name the axis on which no window fits.
  Value max_pool2d(Value x, const Pool2dOptions& options);
  /// Sums are float32, row by row; T elements: within (T + 1) 2^-24 of the mean of |x|, before it is rounded.
  Value avg_pool2d(Value x, const Pool2dOptions& options);
  /// x [N,C,...] -> [N,C,1,...].
  Value global_avg_pool(Value x);
  Value global_max_pool(Value x);

  /// Over these axes; none named: over all. Sums are float32. Of no elements the mean is NaN, the sum 0, the maximum
  /// -infinity, the minimum infinity; NaN is the maximum and minimum of what holds it.
  Value mean(Value x, const std::vector<int>& axes, bool keep_dims = false);
  Value sum(Value x, const std::vector<int>& axes, bool keep_dims = false);
  Value reduce_max(Value x, const std::vector<int>& axes, bool keep_dims = false);
  Value reduce_min(Value x, const std::vector<int>& axes, bool keep_dims = false);

  /// exp(x - max) / sum of exp(x - max) along the axis, and its logarithm x - max - log(sum).
  Value softmax(Value x, int axis = -1);
  Value log_softmax(Value x, int axis = -1);

  /// Index i of `axis` of the result is index indices[i] of x; negative ones count from the end.
  Value gather(Value x, int axis, std::vector<int64_t> indices);
  /// x [N,C,H,W] at another size; ONNX's Resize with its names, what lies outside the image being its edge. Nearest
  /// copies bits. Bilinear is within 2^-21 of the largest |x| of its four neighbours, before it is rounded; one of
  /// weight 0 does not count, infinite or not. Coordinates are exact where the scale is that of the extents.
  Value resize(Value x, const ResizeOptions& options);
  /// x with so many values before and after along each axis: `value`, the mirror image of x without the border (fewer
  /// than its extent), or the border. Negative counts crop what the others have made. Bits are copied.
  Value pad(Value x, std::vector<int64_t> before, std::vector<int64_t> after,
            PadMode mode = PadMode::constant, float value = 0);
  /// [N,C,H,W] -> [N, C / block^2, H * block, W * block], ONNX's DCR or CRD; PyTorch's pixel_shuffle is crd.
  Value depth_to_space(Value x, int64_t block, bool crd = false);
  /// [N,C,H,W] -> [N, C * block^2, H / block, W / block]; undone by depth_to_space.
  Value space_to_depth(Value x, int64_t block);

  /// (x - mean) / sqrt(variance + eps) * weight + bias with one of each a channel: x [N,C,...], the rest [C]. Folded
  /// into the float32 convolution or matmul before it where that is the only use, unless .fuse is false; otherwise one
  /// multiplication and addition. Folding changes the last bits: weights are rounded once more, which moves y by up to
  /// 2^-24 |scale| sum|x w|, scale = weight / sqrt(variance + eps).
  Value batch_norm(Value x, Value weight, Value bias, Value mean, Value variance, float eps = 1e-5f);
  /// The same with mean and variance of x itself over its last `num_axes` axes, whose extents weight and bias have.
  Value layer_norm(Value x, Value weight, Value bias, int num_axes, float eps = 1e-5f);
  /// And over each of `groups` groups of channels: x [N,C,...], weight and bias [C].
  Value group_norm(Value x, Value weight, Value bias, int64_t groups, float eps = 1e-5f);
  /// x / (bias + alpha / size * sum of x^2 over the `size` nearest channels)^beta, torch.nn.LocalResponseNorm.
  Value lrn(Value x, int64_t size, float alpha = 1e-4f, float beta = 0.75f, float bias = 1.0f);

  /// Elementwise functions; formulas, bounds and special values in ops/elementwise/formulas.h. Any dtype; 16-bit types
  /// compute in float32 and round on store.
  Value abs(Value x) { return unary(Op::abs, x); }
  Value neg(Value x) { return unary(Op::neg, x); }
  Value exp(Value x) { return unary(Op::exp, x); }
  Value log(Value x) { return unary(Op::log, x); }
  Value sqrt(Value x) { return unary(Op::sqrt, x); }
  Value rsqrt(Value x) { return unary(Op::rsqrt, x); }
  Value reciprocal(Value x) { return unary(Op::reciprocal, x); }
  Value square(Value x) { return unary(Op::square, x); }
  Value erf(Value x) { return unary(Op::erf, x); }
  Value tanh(Value x) { return unary(Op::tanh, x); }
  Value sigmoid(Value x) { return unary(Op::sigmoid, x); }
  Value softplus(Value x) { return unary(Op::softplus, x); }
  Value relu(Value x) { return unary(Op::relu, x); }
  Value leaky_relu(Value x, float slope = 0.01f) { return unary(Op::leaky_relu, x, slope); }
  Value elu(Value x, float alpha = 1.0f) { return unary(Op::elu, x, alpha); }
  Value selu(Value x) { return unary(Op::selu, x); }
  Value gelu(Value x) { return unary(Op::gelu, x); }
  Value gelu_tanh(Value x) { return unary(Op::gelu_tanh, x); }
  Value silu(Value x) { return unary(Op::silu, x); }
  Value hard_sigmoid(Value x) { return unary(Op::hard_sigmoid, x); }
  Value hard_swish(Value x) { return unary(Op::hard_swish, x); }
  Value mish(Value x) { return unary(Op::mish, x); }
  Value double_mish(Value x) { return unary(Op::double_mish, x); }
  /// Error(invalid_argument) unless low <= high.
  Value clip(Value x, float low, float high) { return unary(Op::clip, x, low, high); }

  Value floor(Value x) { return unary(Op::floor, x); }
  Value ceil(Value x) { return unary(Op::ceil, x); }
  Value round(Value x) { return unary(Op::round, x); }
  Value sign(Value x) { return unary(Op::sign, x); }
  Value sin(Value x) { return unary(Op::sin, x); }
  Value cos(Value x) { return unary(Op::cos, x); }

  /// Elementwise arithmetic of two tensors of one dtype with numpy broadcasting, or of a tensor and a number.
  Value add(Value a, Value b) { return binary(Op::add, a, b); }
  Value sub(Value a, Value b) { return binary(Op::sub, a, b); }
  Value mul(Value a, Value b) { return binary(Op::mul, a, b); }
  Value div(Value a, Value b) { return binary(Op::div, a, b); }
  Value pow(Value a, Value b) { return binary(Op::pow, a, b); }
  Value min(Value a, Value b) { return binary(Op::min, a, b); }
  Value max(Value a, Value b) { return binary(Op::max, a, b); }
  Value add(Value a, float b) { return binary(Op::add, a, b); }
  Value add(float a, Value b) { return binary(Op::add, a, b); }
  Value sub(Value a, float b) { return binary(Op::sub, a, b); }
  Value sub(float a, Value b) { return binary(Op::sub, a, b); }
  Value mul(Value a, float b) { return binary(Op::mul, a, b); }
  Value mul(float a, Value b) { return binary(Op::mul, a, b); }
  Value div(Value a, float b) { return binary(Op::div, a, b); }
  Value div(float a, Value b) { return binary(Op::div, a, b); }
  Value pow(Value a, float b) { return binary(Op::pow, a, b); }
  Value pow(float a, Value b) { return binary(Op::pow, a, b); }
  Value min(Value a, float b) { return binary(Op::min, a, b); }
  Value min(float a, Value b) { return binary(Op::min, a, b); }
  Value max(Value a, float b) { return binary(Op::max, a, b); }
  Value max(float a, Value b) { return binary(Op::max, a, b); }

  /// Comparisons likewise: 1 where it holds and 0 elsewhere, in the operands' dtype; with NaN only not_equal holds.
  Value less(Value a, Value b) { return binary(Op::less, a, b); }
  Value less_equal(Value a, Value b) { return binary(Op::less_equal, a, b); }
  Value greater(Value a, Value b) { return binary(Op::less, b, a); }
  Value greater_equal(Value a, Value b) { return binary(Op::less_equal, b, a); }
  Value equal(Value a, Value b) { return binary(Op::equal, a, b); }
  Value not_equal(Value a, Value b) { return binary(Op::not_equal, a, b); }
  Value less(Value a, float b) { return binary(Op::less, a, b); }
  Value less(float a, Value b) { return binary(Op::less, a, b); }
  Value less_equal(Value a, float b) { return binary(Op::less_equal, a, b); }
  Value less_equal(float a, Value b) { return binary(Op::less_equal, a, b); }
  Value greater(Value a, float b) { return binary(Op::less, b, a); }
  Value greater(float a, Value b) { return binary(Op::less, b, a); }
  Value greater_equal(Value a, float b) { return binary(Op::less_equal, b, a); }
  Value greater_equal(float a, Value b) { return binary(Op::less_equal, b, a); }
  Value equal(Value a, float b) { return binary(Op::equal, a, b); }
  Value equal(float a, Value b) { return binary(Op::equal, a, b); }
  Value not_equal(Value a, float b) { return binary(Op::not_equal, a, b); }
  Value not_equal(float a, Value b) { return binary(Op::not_equal, a, b); }
  /// a where condition is not 0 (NaN is not), b elsewhere, bit for bit (but 16-bit NaNs become quiet ones); all of one
  /// dtype, broadcast.
  Value where(Value condition, Value a, Value b);

  /// The same by op, for programs that make graphs. Error(invalid_argument) when `op` has another arity or needs
  /// parameters that are not given; p and q are those of its row in op_info.h.
  Value unary(Op op, Value x);
  Value unary(Op op, Value x, float p, float q = 0);
  Value binary(Op op, Value a, Value b);
  Value binary(Op op, Value a, float b);
  Value binary(Op op, float a, Value b);

  /// `x` as `dtype`, rounded to nearest even.
  Value cast(Value x, DType dtype);

  const TensorType& type(Value value) const;
  const std::vector<Node>& nodes() const { return nodes_; }
  const std::vector<std::pair<std::string, Value>>& outputs() const { return outputs_; }

  /// For passes: the node that made `value`, which is of this graph.
  const Node& maker(Value value) const { return nodes_[static_cast<size_t>(value.node)]; }

  /// For passes: appends a finished node (its arguments are not checked; verify() does that).
  Value append(Node node);
  /// For passes: output() of a value that lies as it should.
  void append_output(const std::string& name, Value value);

  /// For builders: appends `node` after inferring its outputs from its inputs and attributes, which throws the
  /// kind's errors. Of an elementwise node the output's dtype is given.
  Value add_node(Node node);
  bool operator==(const Graph& other) const { return nodes_ == other.nodes_ && outputs_ == other.outputs_; }

 private:
  class AllOrNothing;
  const TensorType& checked_type(Value value, const char* op) const;
  std::string next_name(const char* op) const;
  Value reshape_to(Value x, Shape shape, const char* op);
  Value pool2d(Value x, const Pool2dOptions& options, Reduction reduction, const char* op);
  Value reduce(Value x, const std::vector<int>& axes, bool keep_dims, Reduction reduction, const char* op);
  Value softmax_node(Value x, int axis, bool log, const char* op);
  Value global_pool(Value x, Reduction reduction, const char* op);
  Value normalized(Value x, const std::vector<int>& axes, float eps);
  void require_affine(Value weight, Value bias, const TensorType& expected, const char* op) const;
  Value matmul_node(Value a, Value b, bool transpose_b, const char* op);
  Value biased_conv2d(Value x, Value w, Value bias, const Conv2dOptions& options);
  Value biased_conv_transpose2d(Value x, Value w, Value bias, const ConvTranspose2dOptions& options);
  Value elementwise(Op op, std::vector<Value> inputs, std::vector<Shape> operand_shapes, DType dtype, Arg a,
                    Arg b, float p = 0, float q = 0);

  std::vector<Node> nodes_;
  std::vector<uint64_t> stamps_;  // of nodes_
  std::vector<std::pair<std::string, Value>> outputs_;
  std::unordered_set<std::string> names_;         // of inputs and parameters
  std::unordered_set<std::string> output_names_;  // of outputs_
};

/// The graph as text, one node a line with shapes; fused regions are spelled out.
std::string dump(const Graph& graph);

}  // namespace solder
