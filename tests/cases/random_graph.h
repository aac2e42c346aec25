#pragma once
// Random graphs of all operators and views, each made from a seed alone.

#include <algorithm>
#include <numeric>

#include "tests/support/support.h"

namespace solder::test {

/// A graph with what it takes to run it.
struct RandomGraph {
  Graph graph;
  TensorMap weights, inputs;
  bool is_float32 = true;  // every value
};

/// Up to 40 calls over one base shape (empty and ragged ones too) and the shapes that broadcast to it:
/// fan-out, x op x, one tensor given as two inputs, scalars on both sides, comparisons and selections, casts, several
/// outputs, among them inputs, parameters and one value under two names, matrix products, reductions, softmax, gather,
/// pads and every view; in rank 4 pools, resizes, and convolutions that keep the shape. What changes a shape is
/// followed by what changes it back, with work between the two. With a `batch`, which must be larger than 6, or any
/// that the same graph is wanted for, x0 has that many images, inputs and parameters have no other batch, and nothing
/// works along its axis: the program that a network is.
class GraphGenerator {
 public:
  explicit GraphGenerator(uint64_t seed, int64_t batch = 0) : engine_(seed), batch_(batch) {
    mixed_ = pick(2) == 0;
    with_convs_ = pick(20) == 0;
    base_.resize(with_convs_ ? 4 : pick(6));
    for (int64_t& extent : base_) extent = pick(25) == 0 ? 0 : static_cast<int64_t>(1 + pick(6));
    // Past one block of the CPU and one tile of the GPU, ragged.
    if (!base_.empty() && pick(8) == 0)
      base_.back() = static_cast<int64_t>(60 + pick(pick(4) == 0 ? 4000 : 300));
    if (with_convs_ && pick(2) == 0) base_[3] = base_[1];  // then a bias may also be read as a row
    if (batch_ > 0) base_.resize(std::max<size_t>(base_.size(), 2), 5), base_[0] = batch_;
    for (size_t i = 0, count = 1 + pick(4); i < count; ++i) add_source(i);
    for (size_t i = 0, count = 1 + pick(40); i < count; ++i) add_call();
    add_outputs();
  }

  RandomGraph take() { return std::move(result_); }

 private:
  size_t pick(uint64_t n) { return static_cast<size_t>(engine_() % n); }
  DType any_dtype() { return mixed_ ? static_cast<DType>(pick(3)) : DType::float32; }
  // Recent values more often: long chains, yet fan-out too.
  Value any_value() {
    return values_[pick(2) == 0 ? pick(values_.size())
                                : values_.size() - 1 - pick(std::min<size_t>(values_.size(), 3))];
  }
  // An axis of a shape that is not the batch's, or -1.
  int any_axis(const Shape& shape) {
    const size_t first = batch_ > 0 && shape.size() == base_.size() ? 1 : 0;
    return shape.size() > first ? static_cast<int>(first + pick(shape.size() - first)) : -1;
  }
  void push(Value value) {
    values_.push_back(value);
    result_.is_float32 = result_.is_float32 && graph_.type(value).dtype == DType::float32;
  }

  void add_source(size_t i) {
    Shape shape = base_;
    if (i > 0) {
      for (int64_t& extent : shape)
        if (pick(3) == 0) extent = 1;
      if (pick(4) == 0)
        shape.erase(shape.begin(), shape.begin() + static_cast<int64_t>(pick(shape.size() + 1)));
    }
    const std::string name = "x" + std::to_string(i);
    if (i > 0 && pick(8) == 0) {
      const Tensor& twin = result_.inputs.at("x0");
      push(graph_.input(name, twin.shape(), twin.dtype()));
      result_.inputs[name] = twin;
      return;
    }
    const bool is_parameter = i > 0 && pick(3) == 0;
    if (batch_ > 0 && i > 0 && shape.size() == base_.size() && (is_parameter || shape[0] != batch_))
      shape[0] = 1;
    const DType dtype = any_dtype();
    push(is_parameter ? graph_.parameter(name, shape, dtype) : graph_.input(name, shape, dtype));
    (is_parameter ? result_.weights : result_.inputs)[name] = uniform(shape, engine_(), -2, 2).to(dtype);
  }

  void add_call() {
    const Value a = any_value();
    const float number = static_cast<float>(pick(9)) * 0.5f - 2;
    const Op binary = static_cast<Op>(kNumUnaryOps + static_cast<int>(pick(kNumBinaryOps)));
    switch (pick(14)) {
      case 0:
      case 1: {
        const OpInfo& info = kOps[pick(kNumUnaryOps)];
        if (!info.is_callable) return push(graph_.cast(a, any_dtype()));
        // Not the default, so that it shows whether the parameter arrives.
        const float p = info.params[0].is_required() ? number : info.num_params() > 0 ? 0.2f : 0;
        return push(graph_.unary(info.op, a, p, info.num_params() > 1 ? p + 1.5f : 0));
      }
      case 2: return push(graph_.binary(binary, a, number));
      case 3: return push(graph_.binary(binary, number, a));
      case 4:
        if (mixed_) return push(graph_.cast(a, any_dtype()));
        break;
      case 5:
        if (add_conv(a)) return;
        break;
      case 6:
        if (pick(3) == 0 && add_linear(a)) return;
        break;
      case 7:
        if (pick(2) == 0 && add_slice(a)) return;
        break;
      case 8:
      case 9:
        if (add_view(a)) return;
        break;
      case 10:
        if (add_rows(a)) return;
        break;
      case 11:
        if (pick(2) == 0) return add_where(a);
        if (add_image(a)) return;
        break;
      default: break;
    }
    push(graph_.binary(binary, a, graph_.cast(any_value(), graph_.type(a).dtype)));
  }

  bool add_conv(Value x) {
    const TensorType type = graph_.type(x);
    if (!with_convs_ || type.shape != base_ || num_elements(base_) == 0) return false;
    const std::string name = "w" + std::to_string(values_.size());
    const int64_t extent = pick(2) == 0 ? 1 : 3;
    const Shape shape{base_[1], base_[1], extent, extent};
    result_.weights[name] = uniform(shape, engine_()).to(type.dtype);
    const Value w = graph_.parameter(name, shape, type.dtype);
    if (pick(2) == 0) {
      push(graph_.conv2d(x, w, {.padding = extent / 2}));
      return true;
    }
    const Value bias = graph_.parameter(name + ".bias", {base_[1]}, type.dtype);
    result_.weights[name + ".bias"] = uniform({base_[1]}, engine_()).to(type.dtype);
    push(graph_.conv2d(x, w, bias, {.padding = extent / 2}));
    if (base_[3] == base_[1]) push(bias);
    return true;
  }

  bool add_linear(Value x) {
    const TensorType type = graph_.type(x);
    if (type.shape != base_ || base_.empty() || base_.back() > 300) return false;
    const std::string name = "w" + std::to_string(values_.size());
    const Shape shape{base_.back(), base_.back()};
    result_.weights[name] = uniform(shape, engine_()).to(type.dtype);
    push(graph_.linear(x, graph_.parameter(name, shape, type.dtype)));
    return true;
  }

  // An axis backwards, or one index of it: both broadcast to the base shape.
  bool add_slice(Value x) {
    const Shape shape = graph_.type(x).shape;
    if (shape.empty()) return false;
    const int axis = any_axis(shape);
    if (axis < 0) return false;
    const int64_t extent = shape[static_cast<size_t>(axis)];
    const auto first = static_cast<int64_t>(pick(static_cast<uint64_t>(extent) + 1));
    push(extent > 0 && pick(4) == 0 ? graph_.slice(x, axis, first, first + 1)
                                    : graph_.slice(x, axis, -1, INT64_MIN, -1));
    if (graph_.type(values_.back()).shape[static_cast<size_t>(axis)] == 0 && extent > 0) values_.pop_back();
    return true;
  }

  // The value, or something made of it.
  Value touched(Value x) {
    switch (pick(6)) {
      case 0: return graph_.mish(x);
      case 1: return graph_.mul(x, 0.75f);
      case 2: return graph_.sub(1.0f, x);
      default: return x;
    }
  }
  // Another value of this one's type, or itself.
  Value twin_of(Value x) {
    const Value other = any_value();
    return graph_.type(other).shape == graph_.type(x).shape ? graph_.cast(other, graph_.type(x).dtype) : x;
  }

  void add_where(Value a) {
    const DType dtype = graph_.type(a).dtype;
    const Value b = graph_.cast(any_value(), dtype);
    const Value condition = pick(2) == 0 ? graph_.greater(graph_.cast(any_value(), dtype), 0.25f)
                                         : graph_.cast(any_value(), dtype);
    push(graph_.where(condition, a, b));
  }

  // Away from the shape by a view, and back.
  bool add_view(Value x) {
    const Shape shape = graph_.type(x).shape;
    const size_t kind = pick(7);
    if (kind == 0) return push(graph_.expand(x, base_)), true;
    if (shape.empty()) return false;
    const int axis = any_axis(shape);
    if (axis < 0) return false;
    const int64_t extent = shape[static_cast<size_t>(axis)];
    if (kind == 1) {
      if (num_elements(shape) == 0) return false;  // a 0 in a shape copies an extent
      return push(graph_.reshape(touched(graph_.reshape(x, {-1})), shape)), true;
    }
    if (kind == 2) {
      std::vector<int> axes(shape.size()), back(shape.size());
      std::iota(axes.begin(), axes.end(), 0);
      std::shuffle(axes.begin(), axes.end(), engine_);
      for (size_t i = 0; i < axes.size(); ++i) back[static_cast<size_t>(axes[i])] = static_cast<int>(i);
      return push(graph_.permute(touched(graph_.permute(x, axes)), back)), true;
    }
    if (kind == 3) {
      const Value both = graph_.concat({touched(x), touched(twin_of(x))}, axis);
      const auto first = static_cast<int64_t>(pick(2));
      if (pick(3) == 0) return push(graph_.slice(both, axis, -1 - first, INT64_MIN, -2)), true;
      return push(graph_.slice(both, axis, first, INT64_MAX, 2)), true;
    }
    if (kind == 4) {
      if (shape.size() < 3) return false;
      std::vector<int> others;
      for (int other = 0; other < static_cast<int>(shape.size()); ++other)
        if (other != static_cast<int>(shape.size()) - 3) others.push_back(other);
      return push(graph_.per_channel(graph_.reduce_max(x, others))), true;
    }
    if (extent < 2) return false;
    const auto cut = static_cast<int64_t>(1 + pick(static_cast<uint64_t>(extent) - 1));
    std::vector<Value> parts = graph_.split(x, axis, {cut, extent - cut});
    if (kind == 5) parts[1] = graph_.split(twin_of(x), axis, {cut, extent - cut})[1];
    for (Value& part : parts) part = touched(part);
    if (pick(2) == 0) std::swap(parts[0], parts[1]);
    return push(graph_.concat(parts, axis)), true;
  }

  // What works along axes.
  bool add_rows(Value x) {
    const Shape shape = graph_.type(x).shape;
    const size_t kind = pick(4);
    if (kind == 0) {
      std::vector<int> axes;
      for (int axis = batch_ > 0; axis < static_cast<int>(shape.size()); ++axis)
        if (pick(2) == 0) axes.push_back(axis);
      if (batch_ > 0 && axes.empty()) return false;
      const bool keeps = axes.empty() || pick(2) == 0;
      const size_t which = pick(4);
      const Value y = which == 0   ? graph_.mean(x, axes, keeps)
                      : which == 1 ? graph_.sum(x, axes, keeps)
                      : which == 2 ? graph_.reduce_max(x, axes, keeps)
                                   : graph_.reduce_min(x, axes, keeps);
      return push(keeps ? y : graph_.unsqueeze(touched(y), axes)), true;
    }
    if (shape.empty()) return false;
    const int axis = any_axis(shape);
    if (axis < 0) return false;
    const int64_t extent = shape[static_cast<size_t>(axis)];
    if (kind == 1) return push(pick(2) == 0 ? graph_.softmax(x, axis) : graph_.log_softmax(x, axis)), true;
    if (extent == 0) return false;
    if (kind == 2) {
      std::vector<int64_t> indices(static_cast<size_t>(pick(4) == 0 ? 1 : extent));
      for (int64_t& index : indices)
        index = static_cast<int64_t>(pick(2 * static_cast<uint64_t>(extent))) - extent;
      return push(graph_.gather(x, axis, indices)), true;
    }
    const PadMode mode = static_cast<PadMode>(pick(3));
    const auto most = static_cast<uint64_t>(mode == PadMode::reflect ? std::min<int64_t>(extent - 1, 3) : 3);
    std::vector<int64_t> before(shape.size()), after(shape.size()), crop_before = before, crop_after = before;
    const auto a = static_cast<size_t>(axis);
    before[a] = static_cast<int64_t>(pick(most + 1)), after[a] = static_cast<int64_t>(pick(most + 1));
    const int64_t added = before[a] + after[a];
    crop_before[a] = -static_cast<int64_t>(pick(static_cast<uint64_t>(added) + 1));
    crop_after[a] = -added - crop_before[a];
    const Value padded = graph_.pad(x, before, after, mode, mode == PadMode::constant ? 0.5f : 0.0f);
    return push(graph_.pad(touched(padded), crop_before, crop_after)), true;
  }

  // Pools that keep the size of an image, and a resize to another one and back.
  bool add_image(Value x) {
    const Shape shape = graph_.type(x).shape;
    if (shape.size() != 4 || num_elements(shape) == 0) return false;
    const bool is_max = pick(2) == 0;
    if (pick(2) == 0) {
      const Pool2dOptions options{.kernel = 3, .stride = 1, .padding = 1, .count_include_pad = pick(2) == 0};
      return push(is_max ? graph_.max_pool2d(x, options) : graph_.avg_pool2d(x, options)), true;
    }
    const ResizeMode mode = static_cast<ResizeMode>(pick(2));
    const auto other = [&](int64_t extent) {
      return static_cast<int64_t>(1 + pick(2 * static_cast<uint64_t>(extent)));
    };
    const Value resized = graph_.resize(x, {.size = {other(shape[2]), other(shape[3])}, .mode = mode});
    return push(graph_.resize(touched(resized), {.size = {shape[2], shape[3]}, .mode = mode})), true;
  }

  void add_outputs() {
    graph_.output("last", values_.back());
    if (pick(4) == 0) graph_.output("last_again", values_.back());
    for (size_t i = 0, count = pick(4); i < count; ++i)
      graph_.output("out" + std::to_string(i), values_[pick(values_.size())]);
  }

  std::mt19937_64 engine_;
  const int64_t batch_;
  bool mixed_ = false, with_convs_ = false;
  Shape base_;
  std::vector<Value> values_;
  RandomGraph result_;
  Graph& graph_ = result_.graph;
};

}  // namespace solder::test
