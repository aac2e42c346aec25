#pragma once
// Writes ONNX files, right and wrong ones: the messages of onnx.proto3, field by field, in protocol buffers' wire
// format. Fields have the numbers of that file; nothing here is the library's.

#include <bit>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace solder::onnx_testing {

/// One message: its fields in the order of the calls.
class Message {
 public:
  Message& integer(int field, int64_t value) { return tag(field, 0).varint(static_cast<uint64_t>(value)); }
  Message& real(int field, float value) { return tag(field, 5).raw(&value, sizeof value); }
  Message& text(int field, std::string_view value) {
    tag(field, 2);
    length_places_.push_back(bytes_.size());
    varint(value.size());
    bytes_ += value;
    return *this;
  }
  Message& message(int field, const Message& value) {
    text(field, value.bytes_);
    const size_t start = bytes_.size() - value.bytes_.size();
    for (const size_t place : value.length_places_) length_places_.push_back(start + place);
    return *this;
  }
  Message& integers(int field, const std::vector<int64_t>& values) {  // packed
    Message packed;
    for (const int64_t value : values) packed.varint(static_cast<uint64_t>(value));
    return text(field, packed.bytes_);
  }
  /// A varint that is no field.
  Message& varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
    return *this;
  }
  Message& tag(int field, int wire_type) {
    return varint(static_cast<uint64_t>(field) << 3 | static_cast<uint64_t>(wire_type));
  }
  Message& raw(const void* data, size_t num_bytes) {
    bytes_.append(static_cast<const char*>(data), num_bytes);
    return *this;
  }

  const std::string& bytes() const { return bytes_; }
  /// Where the lengths of strings and messages begin, nested ones included.
  const std::vector<size_t>& length_places() const { return length_places_; }

 private:
  std::string bytes_;
  std::vector<size_t> length_places_;
};

/// TensorProto.DataType.
enum Type : int {
  kFloat = 1,
  kInt32 = 6,
  kInt64 = 7,
  kBool = 9,
  kFloat16 = 10,
  kDouble = 11,
  kBfloat16 = 16
};

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

/// A TensorProto without elements: they, or where they are, follow as fields.
inline Message tensor(const std::string& name, const std::vector<int64_t>& dims, int type) {
  Message message;
  message.integers(1, dims).integer(2, type);
  if (!name.empty()) message.text(8, name);
  return message;
}
inline Message float_tensor(const std::string& name, const std::vector<int64_t>& dims,
                            const std::vector<float>& values) {
  return tensor(name, dims, kFloat).text(9, bytes_of(values));
}
inline Message int_tensor(const std::string& name, const std::vector<int64_t>& dims,
                          const std::vector<int64_t>& values) {
  return tensor(name, dims, kInt64).text(9, bytes_of(values));
}
/// An entry of TensorProto.external_data.
inline Message entry(std::string_view key, std::string_view value) {
  Message message;
  return message.text(1, key).text(2, value);
}

/// An AttributeProto.
struct Attribute : Message {
  Attribute(const std::string& name, int64_t value) { text(1, name).integer(3, value).integer(20, 2); }
  Attribute(const std::string& name, int value) : Attribute(name, int64_t{value}) {}
  Attribute(const std::string& name, float value) { text(1, name).real(2, value).integer(20, 1); }
  Attribute(const std::string& name, const char* value) { text(1, name).text(4, value).integer(20, 3); }
  Attribute(const std::string& name, const std::vector<int64_t>& values) {
    text(1, name).integers(8, values).integer(20, 7);
  }
  static Attribute tensor(const std::string& name, const Message& value) { return {name, 5, value, 4}; }
  static Attribute graph(const std::string& name, const Message& value) { return {name, 6, value, 5}; }

 private:
  Attribute(const std::string& name, int field, const Message& value, int kind) {
    text(1, name).message(field, value).integer(20, kind);
  }
};

/// A NodeProto, named after its first output.
inline Message node(const std::string& op, const std::vector<std::string>& inputs,
                    const std::vector<std::string>& outputs, const std::vector<Attribute>& attributes = {},
                    const std::string& domain = "") {
  Message message;
  for (const std::string& name : inputs) message.text(1, name);
  for (const std::string& name : outputs) message.text(2, name);
  message.text(3, "node_" + (outputs.empty() ? op : outputs[0])).text(4, op);
  for (const Attribute& attribute : attributes) message.message(5, attribute);
  if (!domain.empty()) message.text(7, domain);
  return message;
}

/// A ValueInfoProto. An extent below 0 is a parameter of the name "d0", "d1", ...
inline Message value_info(const std::string& name, const std::vector<int64_t>& dims, int type = kFloat) {
  Message shape, tensor_type, any_type, info;
  for (size_t axis = 0; axis < dims.size(); ++axis) {
    Message dim;
    if (dims[axis] < 0)
      dim.text(2, "d" + std::to_string(axis));
    else
      dim.integer(1, dims[axis]);
    shape.message(1, dim);
  }
  tensor_type.integer(1, type).message(2, shape);
  any_type.message(1, tensor_type);
  return info.text(1, name).message(2, any_type);
}

/// A GraphProto and the ModelProto around it.
struct File {
  std::vector<Message> nodes, inputs, outputs, initializers;
  int64_t opset = 17;
  std::string opset_domain;

  Message graph() const {
    Message message;
    for (const Message& each : nodes) message.message(1, each);
    message.text(2, "test");
    for (const Message& each : initializers) message.message(5, each);
    for (const Message& each : inputs) message.message(11, each);
    for (const Message& each : outputs) message.message(12, each);
    return message;
  }
  Message model() const {
    Message message;
    return message.integer(1, 8).message(7, graph()).message(8, opset_import());
  }
  Message opset_import() const {
    Message message;
    if (!opset_domain.empty()) message.text(1, opset_domain);
    return message.integer(2, opset);
  }
  std::string bytes() const { return model().bytes(); }
};

/// y = op(x...), x of this shape.
inline File one_node(const Message& the_node, const std::vector<int64_t>& shape = {1, 2, 4, 4}) {
  return {.nodes = {the_node}, .inputs = {value_info("x", shape)}, .outputs = {value_info("y", shape)}};
}

}  // namespace solder::onnx_testing
