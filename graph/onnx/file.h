#pragma once
// What an ONNX file declares, read piece by piece: a graph's nodes and tensors are kept as ranges of the file and taken
// apart one at a time, so that a file of few bytes cannot ask for much memory.

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "graph/onnx/wire.h"
#include "runtime/dtype.h"
#include "runtime/shape.h"
#include "runtime/tensor.h"

namespace solder {

/// Element types by ONNX's numbers (TensorProto.DataType).
enum class OnnxType : int {
  undefined = 0,
  float32 = 1,
  uint8 = 2,
  int8 = 3,
  uint16 = 4,
  int16 = 5,
  int32 = 6,
  int64 = 7,
  string = 8,
  boolean = 9,
  float16 = 10,
  float64 = 11,
  uint32 = 12,
  uint64 = 13,
  bfloat16 = 16,
};

std::string to_string(OnnxType type);
/// What solder computes with; nothing for integers, truth values and float64.
std::optional<DType> dtype_of(OnnxType type);
OnnxType onnx_type(DType dtype);
bool is_real(OnnxType type);
bool is_integer(OnnxType type);  ///< or truth value

/// A tensor known at import, small: shape arithmetic is done on these.
struct OnnxConstant {
  OnnxType type = OnnxType::int64;
  Shape shape;
  std::vector<int64_t> ints;  ///< of integers and truth values
  std::vector<double> reals;  ///< of the float types

  bool is_real() const { return solder::is_real(type); }
  int64_t size() const { return is_real() ? std::ssize(reals) : std::ssize(ints); }
};

/// A tensor that lies in the file.
struct OnnxTensor {
  OnnxType type = OnnxType::undefined;
  Shape shape;
  int64_t num_bytes = 0;
  ByteRange message;
};

/// One extent of a declared shape.
struct OnnxExtent {
  int64_t value = -1;  ///< -1: open
  std::string name;    ///< of an open one; may be empty
};

/// An input or output as the graph declares it.
struct OnnxDeclared {
  std::string name;
  bool is_tensor = false;
  OnnxType type = OnnxType::undefined;
  bool has_shape = false;
  std::vector<OnnxExtent> shape;
};

std::string to_string(const OnnxDeclared& declared);  ///< "float32 [N, 3, ?, 224]"

struct OnnxGraph {
  std::vector<ByteRange> nodes;
  std::vector<std::pair<std::string, ByteRange>> initializers;
  std::vector<OnnxDeclared> inputs, outputs;
  std::vector<std::string> sparse;  ///< initializers
};

struct OnnxAttribute {
  std::string name;
  int kind =
      0;  ///< AttributeProto.AttributeType: FLOAT 1, INT 2, STRING 3, TENSOR 4, GRAPH 5, FLOATS 6, INTS 7, STRINGS 8
  float real = 0;
  int64_t integer = 0;
  std::string text;
  ByteRange message;  ///< of a tensor or graph
  std::vector<float> reals;
  std::vector<int64_t> integers;
};

struct OnnxNode {
  std::string name, op, domain;
  std::vector<std::string> inputs, outputs;
  std::vector<OnnxAttribute> attributes;

  /// Its name, or its first result's.
  std::string label() const { return !name.empty() ? name : outputs.empty() ? op : outputs[0]; }
};

/// An open ONNX file. Errors are Error(io) and name the file.
class OnnxFile {
 public:
  /// `path` is the file's own, beside which external data may lie; empty: there is none. Keeps `source`.
  OnnxFile(const ByteSource& source, std::string path);

  const std::string& name() const { return window_.source().name(); }
  int64_t num_bytes() const;                ///< with the files of external data that it has read from
  int64_t opset() const { return opset_; }  ///< 0: other domains' alone
  const OnnxGraph& graph() const { return graph_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  OnnxGraph read_graph(ByteRange message);
  OnnxNode read_node(ByteRange message);
  OnnxTensor read_tensor(ByteRange message, const std::string& name);

  /// The elements of a type that dtype_of() knows.
  Tensor load(const OnnxTensor& tensor, const std::string& name);
  OnnxConstant load_constant(const OnnxTensor& tensor, const std::string& name);

 private:
  void charge(int64_t bytes);
  OnnxAttribute read_attribute(ByteRange message);
  std::string name_of_tensor(ByteRange message);
  OnnxDeclared read_declared(ByteRange message);
  void read_type(ByteRange message, OnnxDeclared* declared);
  void read_opset(ByteRange message);
  void read_metadata(ByteRange message);
  struct Elements;
  Elements find_elements(const OnnxTensor& tensor, const std::string& name);
  void find_external(const std::map<std::string, std::string>& entries, const std::string& where,
                     Elements* found);
  void read_elements(const OnnxTensor& tensor, const Elements& found, const std::string& name, void* out);

  ByteWindow window_;
  std::string path_;
  std::map<std::string, std::string> metadata_;
  int64_t opset_ = 0;
  bool has_opset_ = false;  // of any domain
  int64_t charged_bytes_ = 0;
  OnnxGraph graph_;
  std::map<std::string, std::unique_ptr<FileSource>> external_;
};

}  // namespace solder
