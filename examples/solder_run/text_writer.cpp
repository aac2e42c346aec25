#include <algorithm>
#include <charconv>
#include <set>

#include "text_graph.h"

namespace solder_run {
namespace {

using solder::Node;
using solder::NodeKind;
using solder::str;

std::string text_of(float number) {
  char digits[32];
  return {digits, std::to_chars(digits, digits + sizeof digits, number).ptr};
}

std::string text_of(double number) {
  char digits[32];
  return {digits, std::to_chars(digits, digits + sizeof digits, number).ptr};
}

template <class Numbers>
std::string list_of(const Numbers& numbers) {
  std::string text;
  for (const auto number : numbers) text += str(text.empty() ? "" : ",", number);
  return text.empty() ? "none" : text;
}

std::string text_of(solder::Pair pair) { return str(pair.h, ",", pair.w); }
std::string text_of(const solder::Padding& p) { return str(p.top, ",", p.left, ",", p.bottom, ",", p.right); }

const char* word(solder::ResizeCoordinates coordinates) {
  switch (coordinates) {
    case solder::ResizeCoordinates::half_pixel: return "half_pixel";
    case solder::ResizeCoordinates::half_pixel_symmetric: return "half_pixel_symmetric";
    case solder::ResizeCoordinates::pytorch_half_pixel: return "pytorch_half_pixel";
    case solder::ResizeCoordinates::align_corners: return "align_corners";
    case solder::ResizeCoordinates::asymmetric: break;
  }
  return "asymmetric";
}

const char* word(solder::ResizeRounding rounding) {
  switch (rounding) {
    case solder::ResizeRounding::ceil: return "ceil";
    case solder::ResizeRounding::round_prefer_floor: return "round_prefer_floor";
    case solder::ResizeRounding::round_prefer_ceil: return "round_prefer_ceil";
    case solder::ResizeRounding::floor: break;
  }
  return "floor";
}

// What stands before and behind a node's tensors.
struct Words {
  std::string op, keys;
};

struct WordsOf {
  const Node& node;
  const solder::Shape& shape() const { return node.outputs[0].shape; }

  Words operator()(std::monostate) const {
    return {to_string(node.kind), str(" shape=", list_of(shape()))};  // reshape, expand
  }
  Words operator()(const solder::Conv2dAttributes& a) const {
    return {"conv2d", str(" stride=", text_of(a.stride), " padding=", text_of(a.padding),
                          " dilation=", text_of(a.dilation), " groups=", a.groups)};
  }
  Words operator()(const solder::MatmulAttributes& a) const {
    return {a.transpose_b ? "linear" : "matmul", ""};
  }
  Words operator()(const solder::SliceAttributes& a) const {
    const int64_t stop = a.start + a.step * shape()[static_cast<size_t>(a.axis)];
    // Before the first index; as a number it would count from the end.
    const std::string end = stop < 0 ? "" : str(" stop=", stop);
    return {"slice", str(" axis=", a.axis, " start=", a.start, end, " step=", a.step)};
  }
  Words operator()(const solder::PermuteAttributes& a) const {
    return {"permute", " axes=" + list_of(a.axes)};
  }
  Words operator()(const solder::ConcatAttributes& a) const { return {"concat", str(" axis=", a.axis)}; }
  Words operator()(const solder::Pool2dAttributes& a) const {
    const auto& [kernel, stride, padding, dilation, ceil_mode, count_include_pad] = a.options;
    const bool is_max = a.reduction == solder::Reduction::max;
    return {is_max ? "max_pool2d" : "avg_pool2d",
            str(" kernel=", text_of(kernel), " stride=", text_of(stride), " padding=", text_of(padding),
                " dilation=", text_of(dilation), " ceil_mode=", int{ceil_mode},
                is_max ? "" : str(" count_include_pad=", int{count_include_pad}))};
  }
  Words operator()(const solder::ReduceAttributes& a) const {
    const char* const op = a.reduction == solder::Reduction::mean  ? "mean"
                           : a.reduction == solder::Reduction::sum ? "sum"
                           : a.reduction == solder::Reduction::max ? "reduce_max"
                                                                   : "reduce_min";
    return {op, str(" axes=", list_of(a.axes), " keep_dims=", int{a.keep_dims})};
  }
  Words operator()(const solder::SoftmaxAttributes& a) const {
    return {a.log ? "log_softmax" : "softmax", str(" axis=", a.axis)};
  }
  Words operator()(const solder::ResizeAttributes& a) const {
    const bool is_nearest = a.mode == solder::ResizeMode::nearest;
    return {"resize", str(" size=", shape()[2], ",", shape()[3], " scale=", text_of(a.scale.h), ",",
                          text_of(a.scale.w), " mode=", is_nearest ? "nearest" : "bilinear",
                          " coordinates=", word(a.coordinates), " rounding=", word(a.rounding))};
  }
  Words operator()(const solder::PadAttributes& a) const {
    std::string keys = str(" before=", list_of(a.before), " after=", list_of(a.after));
    if (!a.interior.empty()) keys += " interior=" + list_of(a.interior);
    if (a.mode == solder::PadMode::constant) return {"pad", keys + " value=" + text_of(a.value)};
    return {"pad", keys + (a.mode == solder::PadMode::reflect ? " mode=reflect" : " mode=edge")};
  }
  Words operator()(const solder::GatherAttributes& a) const {
    return {"gather", str(" axis=", a.axis, " indices=", list_of(a.indices))};
  }
  Words operator()(const solder::BatchNormAttributes& a) const {
    return {"batch_norm", " eps=" + text_of(a.eps)};
  }
};

class Writer {
 public:
  explicit Writer(const solder::Graph& graph) : graph_(graph), names_(graph.nodes().size()) {
    // What is known by its name keeps it where that can be.
    for (const bool is_given : {true, false})
      for (size_t i = 0; i < names_.size(); ++i)
        if (graph.nodes()[i].is_given() == is_given)
          names_[i] = adds_bias(i) ? names_[i - 1] : turns(i) ? "" : unused(graph.nodes()[i].name);
    for (size_t i = 0; i < names_.size(); ++i)
      if (turns(i)) names_[i] = of(graph.nodes()[i].inputs[0]);
  }

  GraphText write() {
    GraphText result;
    for (size_t i = 0; i < names_.size(); ++i) {
      const Node& node = graph_.nodes()[i];
      if (!adds_bias(i) && !turns(i)) result.text += line(i) + "\n";
      if (node.kind == NodeKind::parameter) result.parameters[node.name] = names_[i];
    }
    taken_.clear();  // results have names of their own
    for (const auto& [wanted, value] : graph_.outputs()) {
      const std::string name = unused(wanted);
      result.text +=
          str("output ", name, name == of(value) ? "" : " " + of(value), layout_of(value.node), "\n");
    }
    return result;
  }

 private:
  const std::string& of(solder::Value value) const { return names_[static_cast<size_t>(value.node)]; }

  // A convolution's bias, an operand of the node behind it, is read under a shape that no line says: it is an argument
  // of the convolution's, and the two nodes are one line of one name.
  bool adds_bias(size_t i) const {
    if (i == 0 || i >= names_.size() || graph_.nodes()[i].kind != NodeKind::elementwise) return false;
    const Node& node = graph_.nodes()[i];
    return node.inputs.size() == 2 && node.epilogue.operand_shapes[1] != graph_.type(node.inputs[1]).shape;
  }

  // What an output's line says: a copy in another layout.
  bool turns(size_t i) const {
    const Node& node = graph_.nodes()[i];
    return node.kind == NodeKind::elementwise && node.epilogue.region.exprs.empty() &&
           node.outputs[0] == graph_.type(node.inputs[0]) &&
           node.layout != graph_.nodes()[static_cast<size_t>(node.inputs[0].node)].layout;
  }

  std::string layout_of(int node) const {
    const solder::Layout layout = graph_.nodes()[static_cast<size_t>(node)].layout;
    return layout == solder::Layout::nchw ? "" : str(" layout=", to_string(layout));
  }

  // A name like this one that the text can have and has not.
  std::string unused(const std::string& wanted) {
    constexpr size_t kMostBytes = 180;  // and a number
    std::string clean = wanted.substr(0, kMostBytes);
    for (char& c : clean)
      if (!is_name({&c, 1}) && static_cast<signed char>(c) >= 0) c = '_';
    if (!is_name(clean)) clean = "tensor";
    std::string name = clean;
    for (int next = 2; !taken_.insert(name).second; ++next) name = str(clean, ".", next);
    return name;
  }

  // A number as no tensor is called.
  std::string immediate(float number) const {
    std::string text = text_of(number);
    while (taken_.contains(text)) text.insert(text.starts_with('-') ? 1 : 0, "0");
    return text;
  }

  std::string line(size_t i) const {
    const Node& node = graph_.nodes()[i];
    const std::string& name = names_[i];
    const solder::TensorType& type = node.outputs[0];
    if (node.is_given())
      return str(to_string(node.kind), " ", name, " ", type.shape.empty() ? "scalar" : list_of(type.shape),
                 " ", to_string(type.dtype), layout_of(static_cast<int>(i)));
    if (node.kind == NodeKind::elementwise) return name + " = " + elementwise(node);
    const auto [op, keys] = std::visit(WordsOf{node}, node.attributes);
    std::string arguments;
    for (const solder::Value input : node.inputs) arguments += " " + of(input);
    if (adds_bias(i + 1)) arguments += " " + of(graph_.nodes()[i + 1].inputs[1]);
    return str(name, " = ", op, arguments, keys);
  }

  std::string elementwise(const Node& node) const {
    const std::vector<solder::Expr>& exprs = node.epilogue.region.exprs;
    if (exprs.empty() || !op_info(exprs[0].op).is_callable)
      return str("cast ", of(node.inputs[0]), " dtype=", to_string(node.outputs[0].dtype));
    const solder::Expr& expr = exprs[0];
    const solder::OpInfo& info = op_info(expr.op);
    std::string text = info.name;
    for (const solder::Arg& arg : {expr.a, expr.b}) {
      if (arg.kind == solder::Arg::Kind::operand)
        text += " " + of(node.inputs[static_cast<size_t>(arg.index)]);
      if (arg.kind == solder::Arg::Kind::immediate) text += " " + immediate(arg.value);
    }
    for (int i = 0; i < info.num_params(); ++i)
      text += str(" ", info.params[i].name, "=", text_of(i == 0 ? expr.p : expr.q));
    return text;
  }

  const solder::Graph& graph_;
  std::vector<std::string> names_;  // of nodes
  std::set<std::string> taken_;
};

}  // namespace

GraphText text_of_graph(const solder::Graph& graph) { return Writer(graph).write(); }

}  // namespace solder_run
