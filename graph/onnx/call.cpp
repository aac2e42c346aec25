// What rows ask of a node.

#include <cmath>

#include "graph/onnx/import.h"
#include "runtime/check.h"
#include "runtime/text_reader.h"

namespace solder {

OnnxCall::OnnxCall(OnnxImport& import, const OnnxNode& node, const OnnxRow& row)
    : import_(import),
      node_(node),
      input_names_(words_at(row.inputs, import.file_.opset())),
      num_nodes_(import.net_.graph.nodes().size()) {
  for (const std::string& name : node.inputs) items_.push_back(name.empty() ? nullptr : import.find(name));
}

Graph& OnnxCall::graph() { return import_.net_.graph; }
int64_t OnnxCall::opset() const { return import_.file_.opset(); }

std::string OnnxCall::label() const { return node_.label(); }

// Input i by its name in the operator's row.
std::string OnnxCall::input_name(size_t i) const {
  const std::string_view word = input_names_[std::min(i, input_names_.size() - 1)];
  return str("input ", i, " (", word.substr(0, word.find_first_of("?.")), ")");
}

OnnxItem& OnnxCall::item(size_t i) {
  SOLDER_REQUIRE(has(i), io, input_name(i), " is missing");
  return *items_[i];
}

Value OnnxCall::value(size_t i) { return import_.value_of(item(i)); }
Value OnnxCall::value(size_t i, DType dtype) { return graph().cast(value(i), dtype); }

Value OnnxCall::value_beside(size_t i, size_t j) {
  return type(i) == OnnxType::boolean ? value(i, graph().type(value(j)).dtype) : value(i);
}

Value OnnxCall::number(size_t i, DType dtype) {
  if (!item(i).is_known() || is_real(type(i))) return value(i, dtype);
  constant(i);  // reads it
  OnnxItem converted = item(i);
  converted.type = onnx_type(dtype);
  return import_.value_of(converted);
}

const OnnxConstant& OnnxCall::constant(size_t i) {
  ONNX_REQUIRE(item(i).is_known(), input_name(i), " is computed at run time");
  return import_.constant_of(item(i));
}

std::vector<int64_t> OnnxCall::integers_at(size_t i) {
  const OnnxConstant& known = constant(i);
  SOLDER_REQUIRE(!known.is_real() && known.shape.size() <= 1, io, input_name(i), " is ",
                 to_string(known.type), " ", to_string(known.shape), ", not a list of integers");
  return known.ints;
}

std::optional<double> OnnxCall::scalar(size_t i, size_t most_rank) {
  if (!has(i) || !item(i).is_known() || item(i).shape.size() > most_rank) return {};
  for (const int64_t extent : item(i).shape)
    if (extent != 1) return {};
  const OnnxConstant& known = import_.constant_of(item(i));
  return known.is_real() ? known.reals[0] : static_cast<double>(known.ints[0]);
}

bool OnnxCall::all_known() const {
  for (const OnnxItem* item : items_)
    if (item != nullptr && !item->is_known()) return false;
  return true;
}

const OnnxAttribute* OnnxCall::attribute(const char* name, int kind) {
  for (const OnnxAttribute& each : node_.attributes) {
    if (each.name != name) continue;
    SOLDER_REQUIRE(kind == 0 || each.kind == kind, io, "attribute ", name, " is of type ", each.kind,
                   ", not ", kind);
    return &each;
  }
  return nullptr;
}

int64_t OnnxCall::integer(const char* name, int64_t fallback) {
  const OnnxAttribute* const found = attribute(name, 2);
  return found != nullptr ? found->integer : fallback;
}

int64_t OnnxCall::integer(const char* name) {
  const OnnxAttribute* const found = attribute(name, 2);
  SOLDER_REQUIRE(found != nullptr, io, "attribute ", name, " is missing");
  return found->integer;
}

float OnnxCall::real(const char* name, float fallback) {
  const OnnxAttribute* const found = attribute(name, 1);
  return found != nullptr ? found->real : fallback;
}

std::string OnnxCall::text(const char* name, const std::string& fallback) {
  const OnnxAttribute* const found = attribute(name, 3);
  return found != nullptr ? found->text : fallback;
}

std::vector<int64_t> OnnxCall::integers(const char* name) {
  const OnnxAttribute* const found = attribute(name, 7);
  return found != nullptr ? found->integers : std::vector<int64_t>{};
}

std::vector<float> OnnxCall::reals(const char* name) {
  const OnnxAttribute* const found = attribute(name, 6);
  return found != nullptr ? found->reals : std::vector<float>{};
}

ByteRange OnnxCall::message(const char* name) {
  const OnnxAttribute* const found = attribute(name, 0);
  SOLDER_REQUIRE(found != nullptr && (found->kind == 4 || found->kind == 5), io, "attribute ", name,
                 " is missing");
  return found->message;
}

OnnxTensor OnnxCall::stored(const char* name) { return import_.file_.read_tensor(message(name), label()); }

OnnxConstant OnnxCall::known(const char* name) {
  const OnnxTensor tensor = stored(name);
  ONNX_REQUIRE(num_elements(tensor.shape) <= kMostFoldedElems, name, " is ", to_string(tensor.shape));
  return import_.file_.load_constant(tensor, label());
}

void OnnxCall::only(const char* name, int64_t value) {
  const int64_t given = integer(name, value);
  ONNX_REQUIRE(given == value, name, " = ", given);
}

std::optional<std::vector<int64_t>> OnnxCall::list(size_t i, const char* name) {
  if (has(i)) return integers_at(i);
  return has_attribute(name) ? std::optional(integers(name)) : std::nullopt;
}

void OnnxCall::give(Value value, size_t output) {
  const TensorType type = graph().type(value);
  give(OnnxItem{.type = onnx_type(type.dtype), .shape = type.shape, .value = value}, output);
}

void OnnxCall::give_truth(Value value) {
  give(OnnxItem{.type = OnnxType::boolean, .shape = graph().type(value).shape, .value = value});
}

void OnnxCall::give_moved(Value value, size_t output, size_t i) {
  const TensorType moved = graph().type(value);
  const OnnxType from = type(i) == OnnxType::boolean ? OnnxType::boolean : onnx_type(moved.dtype);
  give(OnnxItem{.type = from, .shape = moved.shape, .value = value}, output);
}

void OnnxCall::give(OnnxConstant constant, size_t output) {
  import_.charge(constant.size());
  OnnxItem item{.type = constant.type, .shape = constant.shape};
  item.constant = std::make_shared<const OnnxConstant>(std::move(constant));
  give(std::move(item), output);
}

void OnnxCall::give(OnnxItem item, size_t output) {
  if (output >= node_.outputs.size() || node_.outputs[output].empty()) return;
  // What was there before keeps its name.
  if (item.value && static_cast<size_t>(item.value->node) >= num_nodes_ &&
      !graph().nodes()[static_cast<size_t>(item.value->node)].is_given())
    graph().name(*item.value, label());
  if (item.name.empty()) item.name = node_.outputs[output];
  import_.define(node_.outputs[output], std::move(item));
}

void OnnxCall::give_view(size_t i, Shape shape) {
  const OnnxItem& from = item(i);
  if (num_elements(shape) != num_elements(from.shape))
    fail(ErrorKind::shape_mismatch, str(to_string(from.shape), " has ", num_elements(from.shape),
                                        " elements; they do not fill ", to_string(shape)));
  // Large weights are one parameter under all their shapes.
  const bool is_large = is_real(from.type) && num_elements(shape) > kMostFoldedElems;
  if (!from.is_known() || is_large) {
    OnnxItem view{.type = from.type, .shape = shape};
    view.value = reshape(value(i), shape);
    return give(std::move(view));
  }
  OnnxItem view{.type = from.type, .shape = shape};
  if (from.constant) {
    import_.charge(num_elements(shape));
    OnnxConstant constant = *from.constant;
    constant.shape = shape;
    view.constant = std::make_shared<const OnnxConstant>(std::move(constant));
  } else {
    OnnxTensor stored = *from.stored;
    stored.shape = shape;
    view.stored = std::make_shared<const OnnxTensor>(std::move(stored));
  }
  give(std::move(view));
}

Value OnnxCall::reshape(Value x, Shape shape) {
  const TensorType type = graph().type(x);
  if (type.shape == shape) return x;
  return graph().add_node({.kind = NodeKind::reshape,
                           .name = label(),
                           .inputs = {x},
                           .outputs = {{std::move(shape), type.dtype}}});
}

}  // namespace solder
