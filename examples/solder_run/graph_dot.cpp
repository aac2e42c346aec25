#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <set>

#include "pictures.h"
#include "repeats.h"
#include "report.h"
#include "text_line.h"

extern char** environ;

namespace solder_run {
namespace {

using solder::Arg;
using solder::Expr;
using solder::Graph;
using solder::Node;
using solder::NodeKind;
using solder::str;
using solder::Value;

// `lines` one below the other, empty ones left out; each is data, not markup, and without escapes and entities.
std::string label(std::initializer_list<std::string> lines) {
  std::string result;
  for (const std::string& line : lines) {
    if (line.empty()) continue;
    if (!result.empty()) result += "\\n";
    for (const char c : printable(line)) {
      if (c == '"' || c == '\\') result += '\\';
      result += c == '&' ? "&amp;" : std::string(1, c);
    }
  }
  return "label=\"" + result + "\"";
}

std::string extents(const solder::TensorType& type) {
  std::string text;
  for (const int64_t extent : type.shape) text += (text.empty() ? "" : "×") + std::to_string(extent);
  if (type.shape.empty()) text = "scalar";
  if (type.dtype != solder::DType::float32) text += str(" ", to_string(type.dtype));
  return text;
}

// " 3×3", of w [K, C / groups, R, S].
std::string filter_size(const solder::Shape& w) { return str(" ", w[2], "×", w[3]); }

// "mul(·, 0.5)", "mish", "clip 0 6".
std::string function(const Expr& expr) {
  const bool number_first = expr.a.kind == Arg::Kind::immediate;
  if (number_first) return str(to_string(expr.op), "(", expr.a.value, ", ·)");
  if (expr.b.kind == Arg::Kind::immediate) return str(to_string(expr.op), "(·, ", expr.b.value, ")");
  switch (expr.op) {
    case solder::Op::leaky_relu:
    case solder::Op::elu: return str(to_string(expr.op), " ", expr.p);
    case solder::Op::clip: return str(to_string(expr.op), " ", expr.p, " ", expr.q);
    default: return to_string(expr.op);
  }
}

// One graph, inside a cluster of its own. Every picture node's name starts with `prefix`.
class Drawing {
 public:
  // `plans` are the nodes' of a compiled graph; empty for one as it was written.
  Drawing(const Graph& graph, const std::vector<solder::NodePlan>& plans, std::string prefix)
      : graph_(graph), plans_(plans), prefix_(std::move(prefix)), shown_(graph.nodes().size()) {
    for (size_t i = 0; i < shown_.size(); ++i) shown_[i] = i;
    for (Repeat& repeat : find_repeats(graph, plans)) {
      for (size_t i = 0; i < repeat.nodes.size(); ++i)
        shown_[repeat.nodes[i]] = repeat.nodes[i % repeat.length];
      first_of_.emplace(repeat.nodes[0], std::move(repeat));
    }
    place_parameters();
  }

  std::string text(const std::string& title) {
    out_ = str("  subgraph cluster_", prefix_, " {\n    ", label({title}),
               "; fontsize=16; color=\"#b8b8b8\"; style=rounded; margin=16;\n");
    for (size_t i = 0; i < graph_.nodes().size(); ++i) {
      if (const auto repeat = first_of_.find(i); repeat != first_of_.end())
        draw_repeat(repeat->second);
      else if ((shown_[i] == i || node(i).kind == NodeKind::parameter) && !in_repeat_.contains(i))
        draw(i);
    }
    for (size_t i = 0; i < graph_.outputs().size(); ++i) {
      const auto& [name, value] = graph_.outputs()[i];
      const std::string id = str(prefix_, "_out", i);
      out_ += str("    ", id, " [", label({name}), ", shape=ellipse, fillcolor=\"#dcdcdc\"];\n");
      edge(value, id);
    }
    return out_ + edges_ + "  }\n";
  }

 private:
  // The first time, in a box that says how often.
  void draw_repeat(const Repeat& repeat) {
    out_ += str("    subgraph cluster_", prefix_, "_x", repeat.nodes[0], " {\n    ",
                label({str(repeat.times, " times", repeat.what.empty() ? "" : ": ", repeat.what)}),
                "; labeljust=r; fontsize=13; style=\"dashed,rounded\"; color=\"#606060\"; margin=12;\n");
    for (size_t i = 0; i < repeat.length; ++i) {
      draw(repeat.nodes[i]);
      in_repeat_.insert(repeat.nodes[i]);
    }
    out_ += "    }\n";
  }

  const Node& node(size_t i) const { return graph_.nodes()[i]; }
  static size_t index(Value value) { return static_cast<size_t>(value.node); }
  std::string id(size_t i) const { return str(prefix_, i); }
  std::string expr_id(size_t i, int expr) const { return str(prefix_, i, "_", expr); }

  void draw(size_t i) {
    const Node& n = node(i);
    for (const size_t parameter : parameters_[i])
      if (shown_[parameter] == parameter) draw_parameter(parameter);
    if (n.kind == NodeKind::parameter) return;
    if (n.kind == NodeKind::input) {
      out_ += str("    ", id(i), " [", label({n.name}), ", shape=ellipse, fillcolor=\"#dcdcdc\"];\n");
      return;
    }
    const bool has_body = n.kind != NodeKind::elementwise || n.epilogue.region.exprs.empty();
    const bool boxed = n.epilogue.region.exprs.size() + has_body > 1;
    if (boxed)
      out_ += str("    subgraph cluster_", id(i), " {\n    ", label({n.name}), "; labelloc=b; labeljust=l",
                  "; fontsize=11; style=\"filled,rounded\"; color=\"#e0a030\"; fillcolor=\"#fff6e0\"; "
                  "margin=10;\n");
    if (has_body) {
      const std::string what = n.kind == NodeKind::elementwise ? "cast" : to_string(n.kind);
      const std::string kernel =
          n.kind == NodeKind::conv2d ? filter_size(graph_.type(n.inputs[1]).shape) : std::string();
      out_ +=
          str("    ", id(i), " [",
              label({boxed ? "" : n.name, what + kernel, plans_.empty() ? "" : short_path(plans_[i].path)}),
              ", fillcolor=\"#bcd4ee\"];\n");
    }
    for (size_t e = 0; e < n.epilogue.region.exprs.size(); ++e) {
      const std::string text = function(n.epilogue.region.exprs[e]);
      out_ += str("    ", expr_id(i, static_cast<int>(e)), " [",
                  boxed ? label({text}) : label({n.name, text}), ", fillcolor=\"#d5e8c8\"];\n");
    }
    if (boxed) out_ += "    }\n";

    for (size_t input = 0; input < n.num_own_inputs(); ++input) edge(n.inputs[input], id(i));
    if (n.kind == NodeKind::elementwise && has_body) edge(n.inputs[0], id(i));
    for (size_t e = 0; e < n.epilogue.region.exprs.size(); ++e) {
      argument(i, n.epilogue.region.exprs[e].a, static_cast<int>(e));
      argument(i, n.epilogue.region.exprs[e].b, static_cast<int>(e));
    }
  }

  void draw_parameter(size_t i) {
    const auto found = group_.find(i);
    const std::string name = found == group_.end() ? node(i).name : common_name(found->second);
    out_ += str("    ", id(i), " [", label({name}), ", shape=plain, style=\"\", fontcolor=\"#707070\"];\n");
  }

  // A parameter goes where a node that is shown reads it first, or, given out alone, stays where it is. What nothing
  // reads, as passes leave it, is not drawn. Three and more of one type that one node alone reads, such as those of a
  // norm, are one.
  void place_parameters() {
    std::map<size_t, size_t> num_reads;
    for (const Node& reader : graph_.nodes())
      for (const Value& input : reader.inputs) ++num_reads[index(input)];
    for (const auto& [name, value] : graph_.outputs()) ++num_reads[index(value)];
    std::set<size_t> placed;
    for (size_t i = 0; i < shown_.size(); ++i) {
      if (shown_[i] != i) continue;
      std::map<std::string, std::vector<size_t>> alike;
      for (size_t input = 0; input < node(i).inputs.size(); ++input) {
        const size_t from = index(node(i).inputs[input]);
        if (node(from).kind != NodeKind::parameter || !placed.insert(from).second) continue;
        parameters_[i].push_back(from);
        if (num_reads[from] == 1 && input < node(i).num_own_inputs())
          alike[to_string(node(from).outputs[0])].push_back(from);
      }
      for (const auto& [type, members] : alike) {
        if (members.size() < 3) continue;
        for (const size_t member : members) {
          group_[members[0]].push_back(node(member).name);
          shown_[member] = members[0];
        }
      }
    }
    for (const auto& [name, value] : graph_.outputs())
      if (node(index(value)).kind == NodeKind::parameter && placed.insert(index(value)).second)
        parameters_[index(value)] = {index(value)};
  }

  void argument(size_t i, const Arg& arg, int expr) {
    const Node& n = node(i);
    if (arg.kind == Arg::Kind::expr)
      edges_ += str("    ", expr_id(i, arg.index), " -> ", expr_id(i, expr), ";\n");
    if (arg.kind == Arg::Kind::result) edges_ += str("    ", id(i), " -> ", expr_id(i, expr), ";\n");
    if (arg.kind == Arg::Kind::operand) edge(n.operands()[static_cast<size_t>(arg.index)], expr_id(i, expr));
  }

  // A tensor in memory: from what stores it to what reads it.
  void edge(Value value, const std::string& to) {
    const size_t i = shown_[index(value)];
    const Node& n = node(i);
    const auto group = group_.find(i);
    if (n.kind == NodeKind::parameter && i != index(value)) return;  // its group has an edge
    std::string from = id(i);
    if (!n.epilogue.region.outputs.empty()) {
      const Arg& stored = n.epilogue.region.outputs[static_cast<size_t>(value.output)];
      if (stored.kind == Arg::Kind::expr) from = expr_id(i, stored.index);
      // A region may store an operand of its own as it is (a cast that was fused away).
      if (stored.kind == Arg::Kind::operand && n.kind == NodeKind::elementwise &&
          !n.epilogue.region.exprs.empty())
        return edge(n.inputs[static_cast<size_t>(stored.index)], to);
    }
    edges_ += str("    ", from, " -> ", to, " [",
                  label({str("  ", group == group_.end() ? "" : str(group->second.size(), " of "),
                             extents(graph_.type(value)))}),
                  "];\n");
  }

  const Graph& graph_;
  const std::vector<solder::NodePlan>& plans_;
  std::string prefix_;
  std::vector<size_t> shown_;                         // by node: what is drawn for it, mostly itself
  std::map<size_t, Repeat> first_of_;                 // by the node it starts with
  std::map<size_t, std::vector<size_t>> parameters_;  // by the node they are drawn with
  std::map<size_t, std::vector<std::string>> group_;  // names, by the first of them
  std::set<size_t> in_repeat_;                        // those drawn
  std::string out_, edges_;
};

}  // namespace

std::string graph_dot(const Graph& written, const solder::Model& model, const std::string& title) {
  const auto is_operation = [](const Node& node) { return !node.is_given(); };
  const auto runs = [](const solder::NodePlan& plan) { return !plan.path.empty(); };  // views do not
  return str(
      "digraph solder {\n  ", label({title}),
      "; labelloc=t; fontsize=18; fontname=\"Helvetica\"; bgcolor=white; rankdir=TB;\n"
      "  node [fontname=\"Helvetica\", fontsize=12, shape=box, style=\"filled,rounded\", "
      "color=\"#606060\"];\n"
      "  edge [fontname=\"Helvetica\", fontsize=10, fontcolor=\"#505050\", color=\"#606060\"];\n",
      Drawing(written, {}, "written")
          .text(str("as written: ", std::ranges::count_if(written.nodes(), is_operation), " operations")),
      Drawing(model.graph(), model.nodes(), "run")
          .text(str("as run: ", std::ranges::count_if(model.nodes(), runs), " nodes")),
      "}\n");
}

void render_svg(const std::string& dot, const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> input(std::tmpfile(), &std::fclose);
  SOLDER_REQUIRE(input && std::fwrite(dot.data(), 1, dot.size(), input.get()) == dot.size() &&
                     std::fflush(input.get()) == 0 && std::fseek(input.get(), 0, SEEK_SET) == 0,
                 io, "a temporary file for dot: ", std::strerror(errno));
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, fileno(input.get()), 0);
  const std::string output = "-o" + path;
  const char* const arguments[] = {"dot", "-Tsvg", output.c_str(), nullptr};
  pid_t child = 0;
  const int error =
      posix_spawnp(&child, "dot", &actions, nullptr, const_cast<char* const*>(arguments), environ);
  posix_spawn_file_actions_destroy(&actions);
  SOLDER_REQUIRE(error == 0, unsupported, "Graphviz's program `dot`, which draws graphs, cannot be started (",
                 std::strerror(error),
                 "): install the package graphviz, or ask for a .dot file and draw it elsewhere");
  int status = 0;
  SOLDER_REQUIRE(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0, io,
                 path, ": dot failed; its message is above");
}

}  // namespace solder_run
