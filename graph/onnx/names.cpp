// Names of a file: what they stand for, and how constants become parameters.

#include "graph/onnx/import.h"
#include "runtime/check.h"
#include "runtime/text_reader.h"

namespace solder {

OnnxItem* OnnxImport::find(const std::string& name) {
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope)
    if (const auto found = scope->find(name); found != scope->end()) return &found->second;
  return nullptr;
}

void OnnxImport::define(const std::string& name, OnnxItem item) {
  // A branch that has ended may have had a result of this name that its row did not give.
  broken_.erase(name), absent_.erase(name);
  const bool is_new = scopes_.back().emplace(name, std::move(item)).second;
  SOLDER_REQUIRE(is_new, io, quote_name(name), " is made twice");
}

Value OnnxImport::parameter(const std::string& name, Tensor tensor) {
  std::string unique = name;
  for (int next = 2; !given_names_.insert(unique).second; ++next) unique = str(name, ".", next);
  const Value value = net_.graph.parameter(unique, tensor.shape(), tensor.dtype());
  net_.weights.emplace(unique, std::move(tensor));
  return value;
}

void OnnxImport::charge(int64_t elems) {
  ONNX_REQUIRE(elems <= 2 * file_.num_bytes() + (int64_t{1} << 20) - folded_elems_,
               "tensors worked out at import have too many elements, all together");
  folded_elems_ += elems;
}

const OnnxConstant& OnnxImport::constant_of(OnnxItem& item) {
  if (!item.constant) {
    ONNX_REQUIRE(num_elements(item.shape) <= int64_t{1} << 20, to_string(item.shape),
                 " has too many elements to be ", "looked at");
    charge(num_elements(item.shape));
    item.constant = std::make_shared<const OnnxConstant>(file_.load_constant(*item.stored, item.name));
  }
  return *item.constant;
}

Value OnnxImport::value_of(OnnxItem& item) {
  if (!item.value && item.later) item.value = item.later();
  if (item.value) return *item.value;
  ONNX_REQUIRE(is_real(item.type) || item.type == OnnxType::boolean, to_string(item.type), " tensor ",
               to_string(item.shape), "; solder computes with float types alone");
  // A large one that lies in the file is loaded once; the others may be many from few bytes.
  if (item.constant || num_elements(item.shape) <= kMostFoldedElems) charge(num_elements(item.shape));
  Tensor tensor;
  const auto dtype = dtype_of(item.type);
  if (item.stored && !item.constant && dtype) {
    tensor = file_.load(*item.stored, item.name);
  } else {
    const OnnxConstant known = item.constant ? *item.constant : file_.load_constant(*item.stored, item.name);
    tensor = Tensor::empty(item.shape, dtype.value_or(DType::float32));
    for (int64_t i = 0; i < known.size(); ++i) {
      const auto idx = static_cast<size_t>(i);
      const double element = known.is_real() ? known.reals[idx] : static_cast<double>(known.ints[idx]);
      store_from_float(tensor.data(), tensor.dtype(), i, static_cast<float>(element));
    }
  }
  item.value = parameter(item.name, std::move(tensor));
  return *item.value;
}

Value OnnxImport::filled(const std::string& name, const Shape& shape, DType dtype, float value) {
  Tensor one = Tensor::empty(Shape(shape.size(), 1), dtype);
  store_from_float(one.data(), dtype, 0, value);
  return net_.graph.expand(parameter(name + ".filled", std::move(one)), shape);
}

}  // namespace solder
