#include "graph/onnx/import.h"

#include <algorithm>

#include "runtime/check.h"
#include "runtime/text_reader.h"

namespace solder {
namespace {

constexpr size_t kMostNames = 3, kMostProblems = 100, kMostDepth = 16;

}  // namespace

OnnxNet OnnxImport::run() {
  scopes_.emplace_back();
  add_initializers(file_.graph());
  declare_inputs();
  add_nodes(file_.graph().nodes);
  for (const OnnxDeclared& output : file_.graph().outputs) note_reading(output.name);
  if (problems_.empty()) add_outputs();
  report();
  net_.metadata = file_.metadata();
  return std::move(net_);
}

void OnnxImport::add_initializers(const OnnxGraph& graph) {
  for (const std::string& name : graph.sparse) {
    add_problem("(sparse initializer)", "solder has dense ones", ErrorKind::unsupported, name);
    broken_.insert(name);
  }
  for (const auto& [name, message] : graph.initializers) {
    SOLDER_REQUIRE(!scopes_.back().contains(name), io, file_.name(), ": initializer ", quote_name(name),
                   " is there twice");
    try {
      OnnxItem item{.name = name};
      item.stored = std::make_shared<const OnnxTensor>(file_.read_tensor(message, name));
      item.type = item.stored->type;
      item.shape = item.stored->shape;
      define(name, std::move(item));
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

// Runs `call`; what it throws is a problem of the node's.
bool OnnxImport::try_node(const OnnxNode& node, const std::function<void()>& call) try {
  call();
  return true;
} catch (const Error& error) {
  if (error.kind() == ErrorKind::out_of_memory) throw;
  add_problem(quote_name(node.op), error.message(), error.kind(), node.label());
  return false;
}

void OnnxImport::add_node(const OnnxNode& node) {
  bool is_broken_input = false;
  for (const std::string& name : node.inputs) {
    if (name.empty()) continue;
    note_reading(name);
    is_broken_input |= is_broken(name);
    SOLDER_REQUIRE(is_broken(name) || find(name) != nullptr, io, file_.name(), ": node ",
                   quote_name(node.label()), " (", node.op, ") reads ", quote_name(name),
                   ", which nothing before it makes");
  }
  const bool is_done = try_node(node, [&] {
    const OnnxRow& row = checked_row(node);
    if (!is_broken_input) call_row(node, row);
  });
  if (is_done && !is_broken_input) return;
  for (const std::string& name : node.outputs)
    if (!name.empty()) broken_.insert(name);
}

const OnnxRow& OnnxImport::checked_row(const OnnxNode& node) {
  ONNX_REQUIRE(node.domain.empty() || node.domain == "ai.onnx", "of domain ", quote_name(node.domain));
  const int64_t opset = file_.opset();
  SOLDER_REQUIRE(opset != 0, io, "the file does not say of which opset");
  const OnnxRow* const row = find_row(node.op);
  ONNX_REQUIRE(row != nullptr, "solder has no such operator");
  const std::vector<std::string_view> inputs = words_at(row->inputs, opset);
  const bool takes_more = !inputs.empty() && inputs.back().ends_with("...");
  for (size_t i = 0; i < std::max(inputs.size(), node.inputs.size()); ++i) {
    const bool is_given = i < node.inputs.size() && !node.inputs[i].empty();
    SOLDER_REQUIRE(!is_given || i < inputs.size() || takes_more, io, "input ", i, " is given; it has ",
                   inputs.size());
    SOLDER_REQUIRE(is_given || i >= inputs.size() || inputs[i].ends_with("?"), io, "input ", i, " (",
                   inputs[std::min(i, inputs.size() - 1)], ") is missing");
  }
  std::string unknown;
  const std::vector<std::string_view> attributes = words_at(row->attributes, opset);
  for (const OnnxAttribute& each : node.attributes)
    if (std::ranges::count(attributes, each.name) == 0)
      unknown += (unknown.empty() ? "" : ", ") + quote_name(each.name);
  ONNX_REQUIRE(unknown.empty(), "attribute ", unknown, " (in opset ", opset, ")");
  return *row;
}

void OnnxImport::call_row(const OnnxNode& node, const OnnxRow& row) {
  OnnxCall call(*this, node, row);
  const OnnxFold* const fold = find_fold(node.op);
  bool is_small = fold != nullptr && call.all_known();
  for (size_t i = 0; i < call.num_inputs(); ++i)
    is_small = is_small && (!call.has(i) || num_elements(call.shape(i)) <= kMostFoldedElems);
  if (is_small) try {
      fold->import(call);
    } catch (const OnnxNotFolded&) {
      is_small = false;
    }
  if (!is_small) row.import(call);
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    const std::string& name = node.outputs[i];
    if (name.empty() || scopes_.back().contains(name)) continue;
    absent_[name] = {node.op, call.label(), i};
    broken_.insert(name);
  }
}

void OnnxImport::inline_if(OnnxCall& call) {
  const OnnxConstant& condition = call.constant(0);
  SOLDER_REQUIRE(condition.ints.size() == 1, io, "the condition is ", to_string(condition.shape));
  SOLDER_REQUIRE(scopes_.size() < kMostDepth, io, "branches are nested more than ", kMostDepth, " deep");
  const OnnxGraph branch =
      file_.read_graph(call.message(condition.ints[0] != 0 ? "then_branch" : "else_branch"));
  SOLDER_REQUIRE(branch.outputs.size() == call.num_outputs(), io, "its branch has ", branch.outputs.size(),
                 " outputs, the node ", call.num_outputs());
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
  auto found = std::ranges::find_if(
      problems_, [&](const Problem& each) { return each.op == op && each.reason == reason; });
  if (found == problems_.end()) {
    if (problems_.size() == kMostProblems) {
      ++num_unlisted_;
      return;
    }
    found = problems_.insert(found, {op, reason, kind, {}, 0});
  }
  ++found->count;
  if (found->names.size() < kMostNames) found->names.push_back(quote_name(name));
}

void OnnxImport::note_reading(const std::string& name) {
  const auto absent = absent_.find(name);
  if (absent == absent_.end()) return;
  const auto& [op, label, output] = absent->second;
  add_problem(quote_name(op), str("its output ", output, " is read"), ErrorKind::unsupported, label);
  absent_.erase(absent);
}

std::string OnnxImport::problem_text() {
  std::ranges::stable_sort(problems_, {}, &Problem::op);
  std::string text;
  for (const Problem& problem : problems_) {
    text += str("\n  ", problem.op, ", ", problem.count, problem.count == 1 ? " time" : " times", " (");
    for (size_t i = 0; i < problem.names.size(); ++i) text += (i > 0 ? ", " : "") + problem.names[i];
    text += str(problem.count > std::ssize(problem.names) ? ", ..." : "", "): ", problem.reason);
  }
  if (num_unlisted_ > 0) text += str("\n  and ", num_unlisted_, " more of other kinds");
  return text;
}

void OnnxImport::report() {
  if (problems_.empty()) return;
  const bool lacks_some = std::ranges::count(problems_, ErrorKind::unsupported, &Problem::kind) > 0;
  fail(lacks_some ? ErrorKind::unsupported : problems_[0].kind,
       str(file_.name(), " cannot be imported:", problem_text()));
}

}  // namespace solder
