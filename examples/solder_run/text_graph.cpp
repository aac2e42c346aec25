#include "text_graph.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <vector>

namespace solder_run {

using solder::ErrorKind;
using solder::Graph;
using solder::Op;
using solder::Value;

namespace {

constexpr const char* kGrammar = R"(A graph as text: one node a line, `#` starts a comment.

  input NAME SHAPE [DTYPE]          a tensor given with --input
  parameter NAME SHAPE [DTYPE]      a tensor of the --weights file, found there by NAME
  NAME = OP ARGUMENT... [KEY=VALUE...]
  output NAME                       makes NAME a result

NAME: letters, digits, `_` and `.`, not starting with a digit; each is given once, before it is used.
SHAPE: extents with commas, as in 1,3,224,224; `scalar` has none.  DTYPE: float32 (default), float16, bfloat16.

OP, with its arguments:
  conv2d X W [BIAS]    X [N,C,H,W], W [K,C/groups,R,S], BIAS [K]; stride=1 dilation=1 (one number or h,w),
                       padding=0 (one number, h,w or top,left,bottom,right), groups=1
  matmul A B           linear X W [BIAS]: X times W transposed
  cast X dtype=float16
)";

constexpr size_t kMaxTextBytes = size_t{1} << 20;
constexpr size_t kMaxNodeLines = 10000;
constexpr size_t kMaxNameBytes = 200;
constexpr size_t kMaxRank = 64;

// For messages: printable, and not a page long.
std::string quoted(std::string_view text) {
  std::string result = "\"";
  for (const char c : text.substr(0, 60)) result += c >= ' ' && c <= '~' ? c : '?';
  return result + (text.size() > 60 ? "...\"" : "\"");
}

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_name(std::string_view text) {
  if (text.empty() || text.size() > kMaxNameBytes || !is_letter(text[0])) return false;
  for (const char c : text)
    if (!is_letter(c) && !is_digit(c) && c != '.') return false;
  return true;
}

std::vector<std::string_view> split(std::string_view text, std::string_view separators) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t start = text.find_first_not_of(separators);
    if (start == std::string_view::npos) return parts;
    const size_t end = std::min(text.find_first_of(separators, start), text.size());
    parts.push_back(text.substr(start, end - start));
    text.remove_prefix(end);
  }
}

// what() without the kind that it starts with, which the next error says again.
std::string message_of(const solder::Error& error) {
  const std::string_view text = error.what(), kind = to_string(error.kind());
  return std::string(text.starts_with(kind) ? text.substr(kind.size() + 2) : text);
}

[[noreturn]] void syntax_error(const std::string& message) { solder::fail(ErrorKind::io, message); }

std::optional<solder::DType> dtype_named(std::string_view text) {
  for (const solder::DType dtype : {solder::DType::float32, solder::DType::float16, solder::DType::bfloat16})
    if (text == to_string(dtype)) return dtype;
  return {};
}

solder::DType parse_dtype(std::string_view text) {
  const auto dtype = dtype_named(text);
  if (!dtype) syntax_error(quoted(text) + " is not a dtype: float32, float16 or bfloat16");
  return *dtype;
}

const solder::OpInfo* function_named(std::string_view text) {
  for (const solder::OpInfo& info : solder::kOps)
    if (info.is_callable && text == info.name) return &info;
  return nullptr;
}

// `NAME = OP ARGUMENT... [KEY=VALUE...]`, taken apart; every key must be asked for before finish().
class Call {
 public:
  explicit Call(const std::vector<std::string_view>& words) : op_(words[2]) {
    for (size_t i = 3; i < words.size(); ++i) {
      const size_t equals = words[i].find('=');
      if (equals == std::string_view::npos) {
        if (!keys_.empty()) syntax_error("argument " + quoted(words[i]) + " after KEY=VALUE: put it before");
        arguments_.push_back(words[i]);
        continue;
      }
      const std::string_view key = words[i].substr(0, equals);
      if (keys_.count(key)) syntax_error(quoted(key) + " is given twice");
      keys_[key] = words[i].substr(equals + 1);
    }
  }

  std::string_view op() const { return op_; }
  const std::vector<std::string_view>& arguments() const { return arguments_; }

  void require_arguments(size_t least, size_t most) const {
    if (arguments_.size() >= least && arguments_.size() <= most) return;
    syntax_error(solder::str(op_, " takes ", least, most > least ? solder::str(" or ", most) : "",
                             " argument", most > 1 ? "s" : "", ", not ", arguments_.size()));
  }

  std::optional<std::string_view> take(std::string_view key) {
    const auto found = keys_.find(key);
    if (found == keys_.end()) return {};
    const std::string_view value = found->second;
    keys_.erase(found);
    return value;
  }

  float take_float(const solder::OpParam& param) {
    const auto text = take(param.name);
    if (!text && param.is_required()) syntax_error(solder::str(op_, " needs ", param.name, "=NUMBER"));
    float value = param.fallback;
    if (text && !parse_number(*text, &value))
      syntax_error(solder::str(param.name, "=", quoted(*text), " is not a number"));
    return value;
  }

  std::vector<int64_t> take_integers(std::string_view key, int64_t fallback, std::vector<size_t> counts) {
    const auto text = take(key);
    if (!text) return {fallback};
    std::vector<int64_t> values;
    for (const std::string_view part : split(*text, ",")) {
      int64_t value = 0;
      if (!parse_number(part, &value))
        syntax_error(solder::str(key, "=", quoted(*text), " takes whole numbers"));
      values.push_back(value);
    }
    for (const size_t count : counts)
      if (values.size() == count) return values;
    syntax_error(solder::str(key, "=", quoted(*text), " has ", values.size(), " numbers"));
  }

  void finish() const {
    if (!keys_.empty()) syntax_error(solder::str(op_, " has no ", quoted(keys_.begin()->first)));
  }

 private:
  std::string_view op_;
  std::vector<std::string_view> arguments_;
  std::map<std::string_view, std::string_view> keys_;
};

class Parser {
 public:
  explicit Parser(const ShapeOverrides& shapes) : shapes_(shapes) {}

  void line(std::string_view text) {
    const std::vector<std::string_view> words = split(text.substr(0, text.find('#')), " \t\r");
    if (words.empty()) return;
    if (words[0] == "input" || words[0] == "parameter") {
      if (words.size() == 1 || words[1] != "=") return declare(words);
    } else if (words[0] == "output" && words.size() == 2) {
      graph_.output(std::string(words[1]), find(words[1]));
      return;
    }
    if (words.size() < 3 || words[1] != "=")
      syntax_error("expected `input NAME SHAPE`, `parameter NAME SHAPE`, `NAME = OP ...` or `output NAME`");
    Call call(words);
    const size_t before = graph_.nodes().size();
    const Value value = named(call, words[0]);
    call.finish();
    // A call that makes no node (a cast to the dtype there is) has nothing to name.
    const bool is_new = static_cast<size_t>(value.node) >= before;
    if (is_new && call.op() != "conv2d") graph_.name(value, std::string(words[0]));
    define(words[0], value);
  }

  Graph finish() {
    for (const auto& [name, shape] : shapes_)
      if (!used_shapes_.count(name)) syntax_error("there is no input " + quoted(name) + " to give a shape");
    if (graph_.outputs().empty()) syntax_error("the graph has no output: add a line `output NAME`");
    return std::move(graph_);
  }

 private:
  void declare(const std::vector<std::string_view>& words) {
    if (words.size() < 3 || words.size() > 4)
      syntax_error(solder::str("expected `", words[0], " NAME SHAPE [DTYPE]`"));
    const std::string name(words[1]);
    const bool is_input = words[0] == "input";
    solder::Shape shape;
    if (!parse_shape(words[2], &shape))
      syntax_error(quoted(words[2]) + " is not a shape: extents with commas, as in 1,3,224,224");
    const auto given = shapes_.find(name);
    if (is_input && given != shapes_.end()) {
      shape = given->second;
      used_shapes_[name] = true;
    }
    const solder::DType dtype = words.size() == 4 ? parse_dtype(words[3]) : solder::DType::float32;
    require_new(words[1]);
    define(words[1], is_input ? graph_.input(name, shape, dtype) : graph_.parameter(name, shape, dtype));
  }

  void require_new(std::string_view name) const {
    if (!is_name(name))
      syntax_error(quoted(name) + " is not a name: letters, digits, `_` and `.`, no digit first, at most " +
                   std::to_string(kMaxNameBytes) + " of them");
    if (values_.count(name)) syntax_error(quoted(name) + " is defined already");
    if (values_.size() == kMaxNodeLines)
      syntax_error("more than " + std::to_string(kMaxNodeLines) + " nodes");
  }

  void define(std::string_view name, Value value) {
    require_new(name);
    values_.emplace(name, value);
  }

  Value find(std::string_view name) const {
    const auto found = values_.find(name);
    if (found == values_.end()) syntax_error(quoted(name) + " is not defined above this line");
    return found->second;
  }

  // apply(); an error of the builder names the node as the text does, not as the builder would have.
  Value named(Call& call, std::string_view name) {
    const std::string made_up = solder::str(call.op(), "_", graph_.nodes().size(), ": ");
    try {
      return apply(call, std::string(name));
    } catch (const solder::Error& error) {
      std::string message = message_of(error);
      if (message.starts_with(made_up)) message.replace(0, made_up.size(), solder::str(name, ": "));
      solder::fail(error.kind(), message);
    }
  }

  Value apply(Call& call, const std::string& name) {
    require_new(name);
    const std::string_view op = call.op();
    const auto argument = [&](size_t i) { return find(call.arguments()[i]); };
    const bool has_bias = call.arguments().size() == 3;
    if (op == "conv2d") {
      call.require_arguments(2, 3);
      solder::Conv2dOptions options{.name = name};
      const auto pair = [](const std::vector<int64_t>& v) { return solder::Pair(v.front(), v.back()); };
      options.stride = pair(call.take_integers("stride", 1, {1, 2}));
      options.dilation = pair(call.take_integers("dilation", 1, {1, 2}));
      options.groups = call.take_integers("groups", 1, {1})[0];
      const std::vector<int64_t> p = call.take_integers("padding", 0, {1, 2, 4});
      options.padding =
          p.size() == 4 ? solder::Padding(p[0], p[1], p[2], p[3]) : solder::Padding(p.front(), p.back());
      return has_bias ? graph_.conv2d(argument(0), argument(1), argument(2), options)
                      : graph_.conv2d(argument(0), argument(1), options);
    }
    if (op == "linear") {
      call.require_arguments(2, 3);
      return has_bias ? graph_.linear(argument(0), argument(1), argument(2))
                      : graph_.linear(argument(0), argument(1));
    }
    if (op == "matmul") {
      call.require_arguments(2, 2);
      return graph_.matmul(argument(0), argument(1));
    }
    if (op == "cast") {
      call.require_arguments(1, 1);
      const auto dtype = call.take("dtype");
      if (!dtype) syntax_error("cast needs dtype=float32, float16 or bfloat16");
      return graph_.cast(argument(0), parse_dtype(*dtype));
    }
    const solder::OpInfo* function = function_named(op);
    if (!function) syntax_error(quoted(op) + " is not an operation; --help-graph lists them");
    return is_unary(function->op) ? unary(*function, call) : binary(function->op, call);
  }

  Value unary(const solder::OpInfo& function, Call& call) {
    call.require_arguments(1, 1);
    const Value x = find(call.arguments()[0]);
    float numbers[2] = {};
    for (int i = 0; i < function.num_params(); ++i) numbers[i] = call.take_float(function.params[i]);
    return graph_.unary(function.op, x, numbers[0], numbers[1]);
  }

  Value binary(Op op, Call& call) {
    call.require_arguments(2, 2);
    const std::string_view left = call.arguments()[0], right = call.arguments()[1];
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

template <class Number>
bool parse_all(std::string_view text, Number* value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

std::string grammar() {
  std::string text = kGrammar;
  const auto list = [&](auto belongs, const char* arguments) {
    std::string line;
    for (const solder::OpInfo& info : solder::kOps) {
      if (!info.is_callable || !belongs(info)) continue;
      std::string call = info.name;
      if (info.num_params() > 0) call += " X";
      for (int i = 0; i < info.num_params(); ++i) {
        const solder::OpParam& param = info.params[i];
        call +=
            solder::str(" ", param.name, "=", param.is_required() ? "NUMBER" : solder::str(param.fallback));
      }
      if (line.size() + call.size() > 95) text += "  " + line + "\n", line.clear();
      line += (line.empty() ? "" : info.num_params() > 0 ? "   " : " ") + call;
    }
    text += "  " + line + arguments + "\n";
  };
  list([](const auto& info) { return is_binary(info.op); },
       "   A B, with numpy's broadcasting; one of them may be a number");
  list([](const auto& info) { return is_unary(info.op) && info.num_params() == 0; }, "   X");
  list([](const auto& info) { return info.num_params() > 0; }, "");
  return text;
}

bool parse_number(std::string_view text, int64_t* value) { return parse_all(text, value); }
bool parse_number(std::string_view text, float* value) { return parse_all(text, value); }

bool parse_shape(std::string_view text, solder::Shape* shape) {
  shape->clear();
  if (text == "scalar") return true;
  const std::vector<std::string_view> parts = split(text, ",");
  for (const std::string_view part : parts) {
    int64_t extent = 0;
    if (!parse_number(part, &extent) || extent < 0) return false;
    shape->push_back(extent);
  }
  // As many commas as there should be: ",4" and "4,,4" are typing errors.
  const auto num_commas = static_cast<size_t>(std::count(text.begin(), text.end(), ','));
  return !parts.empty() && parts.size() <= kMaxRank && num_commas == parts.size() - 1;
}

Graph parse_graph(std::string_view text, const std::string& file, const ShapeOverrides& shapes) {
  SOLDER_REQUIRE(text.size() <= kMaxTextBytes, io, file, ": a graph of ", text.size(),
                 " bytes; at most 1 MiB");
  Parser parser(shapes);
  size_t number = 0;
  const auto located = [&](auto action) {
    try {
      return action();
    } catch (const solder::Error& error) {
      solder::fail(error.kind(), solder::str(file, ":", number, ": ", message_of(error)));
    }
  };
  while (!text.empty()) {
    ++number;
    const size_t end = std::min(text.find('\n'), text.size());
    located([&] { parser.line(text.substr(0, end)); });
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return located([&] { return parser.finish(); });
}

}  // namespace solder_run
