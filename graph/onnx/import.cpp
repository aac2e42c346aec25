#include "graph/onnx/import.h"

#include <algorithm>
#include <cmath>

#include "runtime/check.h"
#include "runtime/text_reader.h"

namespace solder {
namespace {

constexpr size_t kMostNames = 3, kMostDepth = 16;

std::string to_string(const std::vector<OnnxExtent>& shape) {
  std::string text = "[";
  for (const OnnxExtent& extent : shape)
    text += str(text.size() > 1 ? ", " : "", extent.value > 0      ? str(extent.value)
                                             : extent.name.empty() ? "?"
                                                                   : extent.name);
  return text + "]";
}

// As `to` has it, for an integer input: whole, and what lies beyond 64 bits at their ends.
int64_t whole(double element, const std::string& name) {
  SOLDER_REQUIRE(std::trunc(element) == element, invalid_argument, "values: ", quote_name(name),
                 " is integer; ", element, " is not");
  if (element >= 0x1p63) return INT64_MAX;
  return element < -0x1p63 ? INT64_MIN : static_cast<int64_t>(element);
}

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

// Adds the extents that `shapes` or another input says; those still open are listed.
Shape OnnxImport::bound_shape(const OnnxDeclared& input, std::vector<std::string>* open) {
  const auto given = options_.shapes.find(input.name);
  if (given != options_.shapes.end()) {
    SOLDER_REQUIRE(!input.has_shape || given->second.size() == input.shape.size(), shape_mismatch,
                   "shapes: ", quote_name(input.name), " is ", to_string(input.shape),
                   " in the file and cannot be ", to_string(given->second));
    for (size_t axis = 0; axis < input.shape.size(); ++axis)
      SOLDER_REQUIRE(options_.override_fixed || input.shape[axis].value <= 0 ||
                         input.shape[axis].value == given->second[axis],
                     shape_mismatch, "shapes: ", quote_name(input.name), " is ", to_string(input.shape),
                     " in the file, which fixes axis ", axis, "; ", to_string(given->second),
                     " needs override_fixed, and the file may rely on what it says");
    num_elements(given->second);
    return given->second;
  }
  Shape shape;
  bool is_open = !input.has_shape;
  for (const OnnxExtent& extent : input.shape) {
    const auto named = extents_.find(extent.name);
    const bool is_named = !extent.name.empty() && named != extents_.end();
    shape.push_back(extent.value > 0 ? extent.value : is_named ? named->second : 0);
    is_open |= extent.value < 0 && !is_named;
    // An exporter's 0 is an extent it did not know.
    is_open |= extent.value == 0 && !is_named;
  }
  if (is_open)
    open->push_back(
        str(quote_name(input.name), " ", input.has_shape ? to_string(input.shape) : "of any rank"));
  return shape;
}

bool OnnxImport::bind_value(const OnnxDeclared& input) {
  OnnxConstant constant{.type = input.type};
  if (const auto known = options_.integers.find(input.name); known != options_.integers.end()) {
    constant.shape = known->second.shape;
    SOLDER_REQUIRE(num_elements(constant.shape) == std::ssize(known->second.elements), shape_mismatch,
                   "integers: ", quote_name(input.name), " has ", known->second.elements.size(),
                   " elements, not those of ", to_string(constant.shape));
    if (!is_integer(input.type)) constant.type = OnnxType::int64;
    constant.ints = known->second.elements;
  } else if (const auto found = options_.values.find(input.name); found != options_.values.end()) {
    const Tensor tensor = found->second.to(Device::cpu());
    constant.shape = tensor.shape();
    if (!is_integer(input.type)) constant.type = onnx_type(tensor.dtype());
    for (int64_t i = 0; i < tensor.num_elems(); ++i) {
      const double element = load_as_float(tensor.data(), tensor.dtype(), i);
      if (constant.is_real())
        constant.reals.push_back(element);
      else
        constant.ints.push_back(whole(element, input.name));
    }
  } else {
    return false;
  }
  OnnxItem item{.type = constant.type, .shape = constant.shape, .name = input.name};
  item.constant = std::make_shared<const OnnxConstant>(std::move(constant));
  scopes_.back().insert_or_assign(input.name, std::move(item));
  return true;
}

void OnnxImport::declare_inputs() {
  const auto is_input = [&](const std::string& name) {
    return std::ranges::any_of(file_.graph().inputs,
                               [&](const OnnxDeclared& each) { return each.name == name; });
  };
  for (const auto& [name, shape] : options_.shapes)
    SOLDER_REQUIRE(is_input(name), invalid_argument, "shapes: ", file_.name(), " has no input ",
                   quote_name(name));
  for (const auto& [name, tensor] : options_.values)
    SOLDER_REQUIRE(is_input(name), invalid_argument, "values: ", file_.name(), " has no input ",
                   quote_name(name));
  for (const auto& [name, tensor] : options_.integers)
    SOLDER_REQUIRE(is_input(name), invalid_argument, "integers: ", file_.name(), " has no input ",
                   quote_name(name));
  // A name that stands for an extent stands for the same one in all inputs.
  for (const OnnxDeclared& input : file_.graph().inputs)
    if (const auto given = options_.shapes.find(input.name);
        given != options_.shapes.end() && given->second.size() == input.shape.size())
      for (size_t axis = 0; axis < input.shape.size(); ++axis)
        if (!input.shape[axis].name.empty()) extents_.emplace(input.shape[axis].name, given->second[axis]);
  std::vector<std::string> open;
  for (const OnnxDeclared& input : file_.graph().inputs) {
    if (bind_value(input) || scopes_.back().contains(input.name)) continue;
    SOLDER_REQUIRE(given_names_.insert(input.name).second, io, file_.name(), ": input ",
                   quote_name(input.name), " is there twice");
    if (const auto dtype = dtype_of(input.type); input.is_tensor && dtype) {
      const size_t num_open = open.size();
      const Shape shape = bound_shape(input, &open);
      if (open.size() > num_open) continue;
      OnnxItem item{.type = input.type, .shape = shape, .name = input.name};
      item.value = net_.graph.input(input.name, shape, *dtype);
      net_.inputs.push_back({input.name, {shape, *dtype}});
      scopes_.back().emplace(input.name, std::move(item));
    } else {
      broken_.insert(input.name);
      const std::string what = input.is_tensor ? to_string(input.type) : "no tensor";
      add_problem(
          "(input)",
          str(what, is_integer(input.type) ? "; it can be a constant, given in values or integers" : ""),
          ErrorKind::unsupported, input.name);
    }
  }
  std::string list;
  for (const std::string& each : open) list += (list.empty() ? "" : ", ") + each;
  SOLDER_REQUIRE(open.empty(), invalid_argument, file_.name(), ": the shapes of its inputs are open: ", list,
                 "; give them in shapes, such as {{",
                 open.empty() ? "" : open[0].substr(0, open[0].find(' ')), ", {1, 3, 224, 224}}}");
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
  const bool is_default = node.domain.empty() || node.domain == "ai.onnx";
  std::string reason;
  ErrorKind kind = ErrorKind::unsupported;
  if (!is_default)
    reason = str("of domain ", quote_name(node.domain));
  else if (node.op != "If" && find_row(node.op) == nullptr && find_fold(node.op) == nullptr)
    reason = "solder has no such operator";
  if (reason.empty() && !is_broken_input) try {
      return call_row(node);
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::out_of_memory) throw;
      kind = error.kind();
      const std::string text = error.what(), prefix = str(to_string(kind), ": ");
      reason = text.starts_with(prefix) ? text.substr(prefix.size()) : text;
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
    fold->import(call);
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
