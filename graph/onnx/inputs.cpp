// Inputs of a file: shapes that are bound, and constants given for them.

#include <algorithm>
#include <cmath>

#include "graph/onnx/import.h"
#include "runtime/check.h"
#include "runtime/text_reader.h"

namespace solder {
namespace {

// As `to` has it, for an integer input: whole, and what lies beyond 64 bits at their ends.
int64_t whole(double element, const std::string& name) {
  SOLDER_REQUIRE(std::trunc(element) == element, invalid_argument, "values: ", quote_name(name),
                 " is integer; ", element, " is not");
  if (element >= 0x1p63) return INT64_MAX;
  return element < -0x1p63 ? INT64_MIN : static_cast<int64_t>(element);
}

}  // namespace

// Adds the extents that `shapes` or another input says; those still open are listed.
Shape OnnxImport::bound_shape(const OnnxDeclared& input, std::vector<const OnnxDeclared*>* open) {
  const auto given = options_.shapes.find(input.name);
  if (given != options_.shapes.end()) {
    SOLDER_REQUIRE(!input.has_shape || given->second.size() == input.shape.size(), shape_mismatch,
                   "shapes: ", quote_name(input.name), " is ", to_string(input),
                   " in the file and cannot be ", to_string(given->second));
    for (size_t axis = 0; axis < input.shape.size(); ++axis)
      SOLDER_REQUIRE(options_.override_fixed || input.shape[axis].value <= 0 ||
                         input.shape[axis].value == given->second[axis],
                     shape_mismatch, "shapes: ", quote_name(input.name), " is ", to_string(input),
                     " in the file, which fixes axis ", axis, "; ", to_string(given->second),
                     " needs override_fixed, and the file may rely on what it says");
    for (const int64_t extent : given->second)
      SOLDER_REQUIRE(extent >= 0, invalid_argument, "shapes: ", quote_name(input.name), " cannot be ",
                     to_string(given->second));
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
  if (is_open) open->push_back(&input);
  return shape;
}

bool OnnxImport::bind_value(const OnnxDeclared& input) {
  OnnxConstant constant{.type = input.type};
  const char* option = "values: ";
  if (const auto known = options_.integers.find(input.name); known != options_.integers.end()) {
    option = "integers: ";
    constant.shape = known->second.shape;
    SOLDER_REQUIRE(num_elements(constant.shape) == std::ssize(known->second.elements), shape_mismatch, option,
                   quote_name(input.name), " has ", known->second.elements.size(), " elements, not those of ",
                   to_string(constant.shape));
    if (constant.is_real())
      constant.reals.assign(known->second.elements.begin(), known->second.elements.end());
    else
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
  // One number is a scalar where the file wants one.
  if (input.has_shape && input.shape.empty() && constant.size() == 1) constant.shape.clear();
  SOLDER_REQUIRE(!input.has_shape || input.shape.size() == constant.shape.size(), shape_mismatch, option,
                 quote_name(input.name), " is ", to_string(input), " in the file and cannot be ",
                 to_string(constant.shape));
  OnnxItem item{.type = constant.type, .shape = constant.shape, .name = input.name};
  item.constant = std::make_shared<const OnnxConstant>(std::move(constant));
  scopes_.back().insert_or_assign(input.name, std::move(item));
  return true;
}

void OnnxImport::declare_inputs() {
  std::set<std::string> names;
  std::string list;
  for (const OnnxDeclared& input : file_.graph().inputs) {
    SOLDER_REQUIRE(names.insert(input.name).second, io, file_.name(), ": input ", quote_name(input.name),
                   " is there twice");
    list += (list.empty() ? "" : ", ") + quote_name(input.name);
  }
  const auto check_names = [&](const char* option, const auto& given) {
    for (const auto& [name, unused] : given)
      SOLDER_REQUIRE(names.contains(name), invalid_argument, option, ": ", file_.name(), " has no input ",
                     quote_name(name), "; it has ", list);
  };
  check_names("shapes", options_.shapes);
  check_names("values", options_.values);
  check_names("integers", options_.integers);
  // A name that stands for an extent stands for the same one in all inputs.
  for (const OnnxDeclared& input : file_.graph().inputs)
    if (const auto given = options_.shapes.find(input.name);
        given != options_.shapes.end() && given->second.size() == input.shape.size())
      for (size_t axis = 0; axis < input.shape.size(); ++axis)
        if (!input.shape[axis].name.empty()) extents_.emplace(input.shape[axis].name, given->second[axis]);
  std::vector<const OnnxDeclared*> open;
  for (const OnnxDeclared& input : file_.graph().inputs) {
    if (bind_value(input) || scopes_.back().contains(input.name)) {
      SOLDER_REQUIRE(!options_.shapes.contains(input.name), invalid_argument,
                     "shapes: ", quote_name(input.name),
                     " has a value, given or in the file, and so a shape");
      continue;
    }
    given_names_.insert(input.name);
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
      add_problem("(input)",
                  str(what, is_integer(input.type)
                                ? "; it can be a constant, given in values or integers (solder-run: --value)"
                                : ""),
                  ErrorKind::unsupported, input.name);
    }
  }
  if (!open.empty()) fail_open(open);
}

// Says beside the shapes which operators would be next.
void OnnxImport::fail_open(const std::vector<const OnnxDeclared*>& open) {
  std::string list, example;
  for (const OnnxDeclared* input : open)
    list += str(list.empty() ? "" : ", ", quote_name(input->name), " ", to_string(*input));
  for (const OnnxExtent& extent : open[0]->shape)
    example += str(example.empty() ? "" : ",", extent.value > 0 ? extent.value : example.empty() ? 1 : 224);
  for (const ByteRange message : file_.graph().nodes) {
    const OnnxNode node = file_.read_node(message);
    try_node(node, [&] { checked_row(node); });
  }
  const std::string more =
      problems_.empty() ? "" : "; and it holds what cannot be imported:" + problem_text();
  fail(ErrorKind::invalid_argument, str(file_.name(), ": the shapes of its inputs are open: ", list,
                                        "; give them in OnnxOptions::shapes (solder-run: --shape ",
                                        open[0]->name, "=", example, ")", more));
}

}  // namespace solder
