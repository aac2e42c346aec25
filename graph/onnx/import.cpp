#include "graph/onnx/import.h"

#include <algorithm>

#include "runtime/check.h"
#include "runtime/text_reader.h"

namespace solder {
namespace {

constexpr size_t kMostNames = 3, kMostDepth = 16;

}  // namespace

OnnxNet OnnxImport::run() {
  scopes_.emplace_back();
  if (file_.graph().has_sparse)
    add_problem("(sparse initializers)", "solder has none", ErrorKind::unsupported, file_.name());
  add_initializers(file_.graph());
  declare_inputs();
  add_nodes(file_.graph().nodes);
  for (const OnnxDeclared& output : file_.graph().outputs) note_reading(output.name);
  if (problems_.empty()) add_outputs();
  report();
  return std::move(net_);
}

void OnnxImport::add_initializers(const OnnxGraph& graph) {
  for (const auto& [name, message] : graph.initializers) {
    SOLDER_REQUIRE(!scopes_.back().contains(name), io, file_.name(), ": initializer ", quote_name(name),
                   " is there twice");
    try {
      OnnxItem item{.name = name};
      item.stored = std::make_shared<const OnnxTensor>(file_.read_tensor(message, name));
      item.type = item.stored->type;
      item.shape = item.stored->shape;
      scopes_.back().emplace(name, std::move(item));
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::unsupported) throw;
      add_problem("(initializer)", error.what(), error.kind(), name);
      broken_.insert(name);
    }
  }
}

void OnnxImport::add_nodes(const std::vector<ByteRange>& nodes) {
  for (const ByteRange message : nodes) add_node(file_.read_node(message));
}

void OnnxImport::add_node(const OnnxNode& node) {
  const std::string label = !node.name.empty() ? node.name : node.outputs.empty() ? node.op : node.outputs[0];
  bool is_broken_input = false;
  for (const std::string& name : node.inputs) {
    if (name.empty()) continue;
    note_reading(name);
    is_broken_input |= is_broken(name);
    SOLDER_REQUIRE(is_broken(name) || find(name) != nullptr, io, file_.name(), ": node ", quote_name(label),
                   " (", node.op, ") reads ", quote_name(name), ", which nothing before it makes");
  }
  std::string reason;
  ErrorKind kind = ErrorKind::unsupported;
  if (!is_default_domain(node))
    reason = str("of domain ", quote_name(node.domain));
  else if (!is_known_operator(node))
    reason = "solder has no such operator";
  if (reason.empty() && !is_broken_input) try {
      return call_row(node);
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::out_of_memory) throw;
      kind = error.kind();
      reason = error.message();
    }
  if (!reason.empty())
    add_problem(find_row(node.op) != nullptr ? node.op : quote_name(node.op), reason, kind, label);
  for (const std::string& name : node.outputs)
    if (!name.empty()) broken_.insert(name);
}

void OnnxImport::call_row(const OnnxNode& node) {
  OnnxCall call(*this, node);
  const OnnxRow* const fold = find_fold(node.op);
  const OnnxRow* const row = find_row(node.op);
  bool is_small = call.all_known();
  for (size_t i = 0; i < call.num_inputs(); ++i)
    is_small = is_small && (!call.has(i) || num_elements(call.shape(i)) <= kMostFoldedElems);
  const bool asks_shape = node.op == "Shape" || node.op == "Size";
  if (node.op == "If") {
    inline_if(call);
  } else if (fold != nullptr && (is_small || asks_shape)) {
    try {
      fold->import(call);
    } catch (const OnnxTooLarge&) {
      if (row == nullptr) throw;
      row->import(call);
    }
  } else {
    ONNX_REQUIRE(row != nullptr, "of a tensor that is computed at run time");
    row->import(call);
  }
  call.finish();
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    const std::string& name = node.outputs[i];
    if (name.empty() || scopes_.back().contains(name)) continue;
    absent_[name] = {node.op, call.label(), i};
    broken_.insert(name);
  }
}

void OnnxImport::inline_if(OnnxCall& call) {
  const OnnxConstant& condition = call.constant(0, "the condition");
  SOLDER_REQUIRE(condition.ints.size() == 1, io, "the condition is ", to_string(condition.shape));
  SOLDER_REQUIRE(scopes_.size() < kMostDepth, io, "branches are nested more than ", kMostDepth, " deep");
  call.ignore("then_branch"), call.ignore("else_branch");
  const OnnxGraph branch =
      file_.read_graph(call.message(condition.ints[0] != 0 ? "then_branch" : "else_branch"));
  SOLDER_REQUIRE(branch.outputs.size() == call.num_outputs(), io, "its branch has ", branch.outputs.size(),
                 " outputs, the node ", call.num_outputs());
  ONNX_REQUIRE(!branch.has_sparse, "its branch has sparse initializers");
  scopes_.emplace_back();
  std::vector<OnnxItem> results;
  try {
    add_initializers(branch);
    add_nodes(branch.nodes);
    for (const OnnxDeclared& output : branch.outputs) {
      ONNX_REQUIRE(!is_broken(output.name), "its branch cannot be imported");
      OnnxItem* const item = find(output.name);
      SOLDER_REQUIRE(item != nullptr, io, "nothing in its branch makes ", quote_name(output.name));
      results.push_back(*item);
    }
  } catch (const Error&) {
    scopes_.pop_back();
    throw;
  }
  scopes_.pop_back();
  for (size_t i = 0; i < results.size(); ++i) call.give(std::move(results[i]), i);
}

void OnnxImport::add_outputs() {
  for (const OnnxDeclared& output : file_.graph().outputs) {
    OnnxItem* const item = find(output.name);
    SOLDER_REQUIRE(item != nullptr, io, file_.name(), ": nothing makes output ", quote_name(output.name),
                   ": it is truncated");
    if (item->is_known() && is_integer(item->type) && !item->value) {
      const OnnxConstant& known = constant_of(*item);
      net_.integers[output.name] = {known.shape, known.ints};
      continue;
    }
    const Value value = value_of(*item);
    net_.graph.output(output.name, value);
    net_.outputs.push_back({output.name, net_.graph.type(value)});
  }
}

void OnnxImport::add_problem(const std::string& op, const std::string& reason, ErrorKind kind,
                             const std::string& name) {
  const auto [found, is_new] = problem_of_.emplace(std::pair(op, reason), problems_.size());
  if (is_new) problems_.push_back({op, reason, kind, {}, 0});
  Problem& problem = problems_[found->second];
  ++problem.count;
  if (problem.names.size() < kMostNames) problem.names.push_back(quote_name(name));
}

void OnnxImport::note_reading(const std::string& name) {
  const auto absent = absent_.find(name);
  if (absent == absent_.end()) return;
  const auto& [op, label, output] = absent->second;
  add_problem(op, str("its output ", output, " is read"), ErrorKind::unsupported, label);
  absent_.erase(absent);
}

void OnnxImport::report() {
  if (problems_.empty()) return;
  ErrorKind kind = problems_[0].kind;
  std::ranges::stable_sort(problems_, {}, &Problem::op);
  std::string text = str(file_.name(), " cannot be imported:");
  for (const Problem& problem : problems_) {
    if (problem.kind == ErrorKind::unsupported) kind = problem.kind;
    text += str("\n  ", problem.op, ", ", problem.count, problem.count == 1 ? " time" : " times", " (");
    for (size_t i = 0; i < problem.names.size(); ++i) text += (i > 0 ? ", " : "") + problem.names[i];
    text += str(problem.count > std::ssize(problem.names) ? ", ..." : "", "): ", problem.reason);
  }
  fail(kind, text);
}

}  // namespace solder
