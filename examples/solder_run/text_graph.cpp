#include "text_graph.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "text_calls.h"

namespace solder_run {

using solder::ErrorKind;
using solder::Graph;
using solder::Op;
using solder::Value;

namespace {

constexpr size_t kMaxTextBytes = size_t{1} << 20;
constexpr size_t kMaxNodeLines = 10000;

const solder::OpInfo* function_named(std::string_view text) {
  for (const solder::OpInfo& info : solder::kOps)
    if (info.is_callable && text == info.name) return &info;
  return nullptr;
}

std::vector<std::string> op_names() {
  std::vector<std::string> names = builder_call_names();
  names.insert(names.end(), {"greater", "greater_equal"});
  for (const solder::OpInfo& info : solder::kOps)
    if (info.is_callable) names.emplace_back(info.name);
  return names;
}

class Parser {
 public:
  explicit Parser(const ShapeOverrides& shapes) : shapes_(shapes) {}

  void line(std::string_view text) {
    const std::string compacted = compact(text);
    std::vector<std::string_view> words = split(compacted, " ");
    if (words.empty()) return;
    if (words[0] == "parameter") return declare(words, solder::Layout::nchw);
    if (words[0] == "input" || words[0] == "output") {
      const solder::Layout layout = take_layout(&words);
      if (words[0] == "input") return declare(words, layout);
      if (words.size() == 2 || words.size() == 3)
        return graph_.output(std::string(words[1]), find(words.back()), layout);
    }
    const size_t equals = words[0].find('=');
    if (equals == std::string_view::npos || equals + 1 == words[0].size())
      syntax_error("expected `input NAME SHAPE`, `parameter NAME SHAPE`, `NAME = OP ...` or `output NAME`");
    Call call(words);
    const size_t before = graph_.nodes().size();
    const Value value = named(call);
    call.finish();
    // A call that makes no node (a cast to the dtype there is) has nothing to name.
    const bool is_new = static_cast<size_t>(value.node) >= before;
    if (is_new && call.op() != "conv2d") graph_.name(value, std::string(call.name()));
    define(call.name(), value);
  }

  Graph finish() {
    if (values_.empty()) syntax_error("the graph has no nodes; --help-graph says how to write one");
    for (const auto& [name, shape] : shapes_)
      if (!used_shapes_.count(name))
        syntax_error("there is no input " + in_quotes(name) + " to give a shape" +
                     did_you_mean(name, names()));
    if (graph_.outputs().empty()) syntax_error("the graph has no output: add a line `output NAME`");
    return std::move(graph_);
  }

 private:
  // The last word, where it says so.
  static solder::Layout take_layout(std::vector<std::string_view>* words) {
    constexpr std::string_view kKey = "layout=";
    if (!words->back().starts_with(kKey)) return solder::Layout::nchw;
    const std::string_view text = words->back().substr(kKey.size());
    words->pop_back();
    for (const solder::Layout layout : {solder::Layout::nchw, solder::Layout::channels_last})
      if (text == to_string(layout)) return layout;
    syntax_error(in_quotes(text) + " is not a layout: nchw or channels_last");
  }

  void declare(const std::vector<std::string_view>& words, solder::Layout layout) {
    if (words.size() < 3 || words.size() > 4)
      syntax_error(solder::str("expected `", words[0],
                               " NAME SHAPE [DTYPE]`, the shape with commas, as in 1,3,224,224"));
    const std::string name(words[1]);
    const bool is_input = words[0] == "input";
    solder::Shape shape;
    if (!parse_shape(words[2], &shape))
      syntax_error(in_quotes(words[2]) + " is not a shape: extents with commas, as in 1,3,224,224");
    const auto given = shapes_.find(name);
    if (is_input && given != shapes_.end()) {
      shape = given->second;
      used_shapes_[name] = true;
    }
    const solder::DType dtype = words.size() == 4 ? parse_dtype(words[3]) : solder::DType::float32;
    require_new(words[1]);
    define(words[1],
           is_input ? graph_.input(name, shape, dtype, layout) : graph_.parameter(name, shape, dtype));
  }

  void require_new(std::string_view name) const {
    if (!is_name(name))
      syntax_error(in_quotes(name) + " is not a name: at most 200 bytes, visible, without `#`, `=` and `,`");
    if (values_.count(name)) syntax_error(in_quotes(name) + " is defined already");
    if (values_.size() == kMaxNodeLines)
      syntax_error("more than " + std::to_string(kMaxNodeLines) + " nodes");
  }

  void define(std::string_view name, Value value) {
    require_new(name);
    values_.emplace(name, value);
  }

  // What was declared as `word`; no number, which binary() has looked for before.
  Value find(std::string_view word) const {
    const auto found = values_.find(word);
    if (found != values_.end()) return found->second;
    float number = 0;
    switch (read_number(word, &number)) {
      case Number::beyond: syntax_error(in_quotes(word) + kBeyondFloat);
      case Number::fits:
        syntax_error(in_quotes(word) +
                     " is a number, and an operation needs a tensor here: an input, a parameter "
                     "or the result of a line above");
      case Number::none: break;
    }
    syntax_error(in_quotes(word) + " is not defined above this line" + did_you_mean(word, names()));
  }

  std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const auto& [name, value] : values_) result.push_back(name);
    return result;
  }

  // apply(); an error of the builder names the node as the text does, not as the builder would have.
  Value named(Call& call) {
    const std::string_view op = call.op();
    const std::string_view made_of = op == "greater" ? "less" : op == "greater_equal" ? "less_equal" : op;
    const std::string made_up = solder::str(made_of, "_", graph_.nodes().size(), ": ");
    try {
      return apply(call);
    } catch (const solder::Error& error) {
      std::string message = error.message();
      if (message.starts_with(made_up)) message.replace(0, made_up.size(), solder::str(call.name(), ": "));
      solder::fail(error.kind(), message);
    }
  }

  Value apply(Call& call) {
    require_new(call.name());
    const std::string_view op = call.op();
    if (const BuilderCall* builder = builder_call(op)) {
      call.require_arguments(builder->least, builder->most);
      CallSite site{graph_, call, {}};
      for (const std::string_view argument : call.arguments()) site.x.push_back(find(argument));
      return builder->build(site);
    }
    if (op == "greater") return binary(Op::less, call, true);
    if (op == "greater_equal") return binary(Op::less_equal, call, true);
    const solder::OpInfo* function = function_named(op);
    if (!function && values_.count(op))
      syntax_error(in_quotes(op) + " is a tensor, and the operation goes first, as in `y = add x 1`");
    if (!function)
      syntax_error(in_quotes(op) + " is not an operation" +
                   did_you_mean(op.substr(0, op.find('(')), op_names()) + "; --help-graph lists them");
    return is_unary(function->op) ? unary(*function, call) : binary(function->op, call);
  }

  Value unary(const solder::OpInfo& function, Call& call) {
    call.require_arguments(1, 1);
    const Value x = find(call.arguments()[0]);
    float numbers[2] = {};
    for (int i = 0; i < function.num_params(); ++i) {
      const solder::OpParam& param = function.params[i];
      const std::optional<float> fallback = param.fallback;
      numbers[i] = call.take_float(param.name, param.is_required() ? std::nullopt : fallback);
    }
    return graph_.unary(function.op, x, numbers[0], numbers[1]);
  }

  Value binary(Op op, Call& call, bool is_swapped = false) {
    call.require_arguments(2, 2);
    const std::string_view left = call.arguments()[is_swapped], right = call.arguments()[!is_swapped];
    float number = 0;
    if (!values_.count(right) && parse_number(right, &number)) return graph_.binary(op, find(left), number);
    if (!values_.count(left) && parse_number(left, &number)) return graph_.binary(op, number, find(right));
    return graph_.binary(op, find(left), find(right));
  }

  const ShapeOverrides& shapes_;
  std::map<std::string, bool> used_shapes_;
  Graph graph_;
  std::map<std::string, Value, std::less<>> values_;
};

// `text` without its byte order mark. Error where it is no text.
std::string_view checked_text(std::string_view text, const std::string& file) {
  SOLDER_REQUIRE(!text.starts_with("\xff\xfe") && !text.starts_with("\xfe\xff"), invalid_argument, file,
                 ": is text in UTF-16; save it as UTF-8");
  const size_t zero = text.find('\0');
  SOLDER_REQUIRE(zero == std::string_view::npos, invalid_argument, file, ": is not text (byte ", zero,
                 " is zero); a graph is a text of one node a line, see --help-graph");
  SOLDER_REQUIRE(text.size() <= kMaxTextBytes, invalid_argument, file,
                 ": over 1 MiB; a graph takes at most that");
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  return text;
}

}  // namespace

Graph parse_graph(std::string_view text, const std::string& file, const ShapeOverrides& shapes) {
  Parser parser(shapes);
  std::string place = file;
  const auto located = [&](auto action) {
    try {
      return action();
    } catch (const solder::Error& error) {
      solder::fail(error.kind(), solder::str(place, ": ", error.message()));
    }
  };
  text = checked_text(text, file);
  for (size_t number = 1; !text.empty(); ++number) {
    place = solder::str(file, ":", number);
    const size_t end = std::min(text.find_first_of("\r\n"), text.size());
    located([&] { parser.line(text.substr(0, end)); });
    text.remove_prefix(end);
    text.remove_prefix(std::min<size_t>(text.starts_with("\r\n") ? 2 : 1, text.size()));
  }
  place = file;
  return located([&] { return parser.finish(); });
}

}  // namespace solder_run
