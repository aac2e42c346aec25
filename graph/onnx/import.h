#pragma once
// How an ONNX node becomes nodes of a graph: what a row of the operator table is given.

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "graph/graph.h"
#include "graph/onnx/file.h"
#include "graph/onnx/onnx.h"
#include "runtime/check.h"

namespace solder {

/// What a name of the file stands for: a tensor that is known by now, or a value of the graph, or both.
struct OnnxItem {
  OnnxType type = OnnxType::undefined;  ///< truth values of the graph are 1 or 0 in a float type
  Shape shape;
  std::shared_ptr<const OnnxTensor> stored;      ///< lies in the file
  std::shared_ptr<const OnnxConstant> constant;  ///< read, or worked out
  std::optional<Value> value;
  std::function<Value()> later;  ///< makes the value, where it is read
  std::string name;

  bool is_known() const { return stored != nullptr || constant != nullptr; }
};

class OnnxImport;
class OnnxCall;

/// An operator: one row. Inputs and attributes are words, "slope" or, where ONNX lets an input be left out, "bias?"; a
/// last one that may be repeated is "x...". Those of some operator sets alone say which: "axes:-12", "axes?:13-".
struct OnnxRow {
  const char* op;
  const char* inputs;
  const char* attributes;
  void (*import)(OnnxCall& call);
};
const OnnxRow* find_row(const std::string& op);
/// The words that hold at this operator set.
std::vector<std::string_view> words_at(std::string_view words, int64_t opset);

/// The same for nodes whose inputs are all known and small, whose results are constants too.
struct OnnxFold {
  const char* op;
  void (*import)(OnnxCall& call);
};
const OnnxFold* find_fold(const std::string& op);

extern const std::span<const OnnxRow> kConstantRows, kElementwiseRows, kShapeRows, kLayerRows, kReduceRows,
    kResizeRows, kAttentionRows, kEinsumRows, kIndexRows;
extern const std::span<const OnnxFold> kFoldedArithmetic, kFoldedShapes;

/// A node while it is imported: its inputs, attributes and results. Whatever is not as it should be is an Error whose
/// message is a reason, without the node's name.
class OnnxCall {
 public:
  OnnxCall(OnnxImport& import, const OnnxNode& node, const OnnxRow& row);

  const OnnxNode& node() const { return node_; }
  Graph& graph();
  int64_t opset() const;
  std::string label() const;  ///< the node's name, or its first result's

  size_t num_inputs() const { return items_.size(); }
  bool has(size_t i) const { return i < items_.size() && items_[i] != nullptr; }
  OnnxItem& item(size_t i);
  std::string input_name(size_t i) const;
  const Shape& shape(size_t i) { return item(i).shape; }
  int rank(size_t i) { return static_cast<int>(shape(i).size()); }
  OnnxType type(size_t i) { return item(i).type; }

  /// In the graph: constants become parameters. Error(unsupported) on integers.
  Value value(size_t i);
  Value value(size_t i, DType dtype);      ///< the same, cast
  Value number(size_t i, DType dtype);     ///< the same; known integers are rounded to `dtype`
  Value value_beside(size_t i, size_t j);  ///< truth values, which are of any float type, in that of input j
  /// Known at import; Error(unsupported) where it is not.
  const OnnxConstant& constant(size_t i);
  std::vector<int64_t> integers_at(size_t i);
  /// A known tensor of one element, of any shape whose rank is not above `most_rank`.
  std::optional<double> scalar(size_t i, size_t most_rank = 0);
  bool all_known() const;

  bool has_attribute(const char* name) { return attribute(name, 0) != nullptr; }
  int64_t integer(const char* name, int64_t fallback);
  int64_t integer(const char* name);  ///< one that must be there
  float real(const char* name, float fallback);
  std::string text(const char* name, const std::string& fallback);
  /// The value that an attribute's text stands for.
  template <class T>
  T named(const char* name, const std::string& fallback,
          std::initializer_list<std::pair<const char*, T>> values) {
    const std::string given = text(name, fallback);
    for (const auto& [word, value] : values)
      if (given == word) return value;
    fail(ErrorKind::unsupported, str(name, " = ", given));
  }
  std::vector<int64_t> integers(const char* name);
  std::vector<float> reals(const char* name);
  ByteRange message(const char* name);
  OnnxTensor stored(const char* name);   ///< a tensor
  OnnxConstant known(const char* name);  ///< a tensor, read
  /// Takes an attribute that may only be what it is by default.
  void only(const char* name, int64_t value);
  /// What is input i in some operator sets and an attribute in others; nothing: not given.
  std::optional<std::vector<int64_t>> list(size_t i, const char* name);

  void give(Value value, size_t output = 0);
  void give_truth(Value value);  ///< 1 or 0
  /// What holds elements of input i, moved: truth values stay what they are.
  void give_moved(Value value, size_t output = 0, size_t i = 0);
  void give(OnnxConstant constant, size_t output = 0);
  void give(OnnxItem item, size_t output = 0);
  /// Input i with the same elements under another shape, known or not.
  void give_view(size_t i, Shape shape);
  size_t num_outputs() const { return node_.outputs.size(); }

  /// A reshape to exactly `shape`, extents of 0 included.
  Value reshape(Value x, Shape shape);

  OnnxImport& import() { return import_; }

 private:
  const OnnxAttribute* attribute(const char* name, int kind);

  OnnxImport& import_;
  const OnnxNode& node_;
  std::vector<OnnxItem*> items_;  // null: left out
  std::vector<std::string_view> input_names_;
  size_t num_nodes_;
};

inline constexpr float kMostFloat = std::numeric_limits<float>::max();

inline constexpr int64_t kMostFoldedElems = 1 << 16;  ///< of a tensor worked out at import

/// What the folder throws of what it leaves alone: the graph computes that, where it has the operator.
struct OnnxNotFolded : Error {
  using Error::Error;
};
/// Of floats there are fewer: shape arithmetic is done on few of them, and what has many is weights.
void require_foldable(const Shape& shape, OnnxType type);

/// "unsupported" as rows say it: no node's name, it is added.
#define ONNX_REQUIRE(condition, ...) SOLDER_REQUIRE(condition, unsupported, __VA_ARGS__)

class OnnxImport {
 public:
  OnnxImport(OnnxFile& file, const OnnxOptions& options) : file_(file), options_(options) {}
  OnnxNet run();
  void inline_if(OnnxCall& call);
  /// A new parameter of about this name.
  Value parameter(const std::string& name, Tensor tensor);
  void charge(int64_t elems);  ///< of tensors worked out; Error(unsupported) where they are too many
  /// A new parameter of one element, read as many of them; its name begins with `name`.
  Value filled(const std::string& name, const Shape& shape, DType dtype, float value);

 private:
  friend class OnnxCall;
  struct Problem {
    std::string op, reason;
    ErrorKind kind;
    std::vector<std::string> names;  // the first few
    int64_t count = 0;
  };

  // A result that its row does not give; an error where something reads it.
  struct Absent {
    std::string op, label;
    size_t output;
  };

  void declare_inputs();
  Shape bound_shape(const OnnxDeclared& input, std::vector<const OnnxDeclared*>* open);
  [[noreturn]] void fail_open(const std::vector<const OnnxDeclared*>& open);
  bool bind_value(const OnnxDeclared& input);
  void add_initializers(const OnnxGraph& graph);
  void add_nodes(const std::vector<ByteRange>& nodes);
  void add_node(const OnnxNode& node);
  /// Looks at what needs no inputs; Error with the reason.
  const OnnxRow& checked_row(const OnnxNode& node);
  void call_row(const OnnxNode& node, const OnnxRow& row);
  bool try_node(const OnnxNode& node, const std::function<void()>& call);
  void add_outputs();
  std::string problem_text();
  void report();
  void note_reading(const std::string& name);
  void add_problem(const std::string& op, const std::string& reason, ErrorKind kind, const std::string& name);

  OnnxItem* find(const std::string& name);
  bool is_broken(const std::string& name) const { return broken_.contains(name); }
  void define(const std::string& name, OnnxItem item);
  Value value_of(OnnxItem& item);
  const OnnxConstant& constant_of(OnnxItem& item);

  OnnxFile& file_;
  const OnnxOptions& options_;
  OnnxNet net_;
  int64_t folded_elems_ = 0;
  std::vector<std::unordered_map<std::string, OnnxItem>> scopes_;
  std::set<std::string> broken_;
  std::map<std::string, Absent> absent_;
  std::map<std::string, int64_t> extents_;  // of named open ones
  std::set<std::string> given_names_;       // of inputs and parameters
  std::vector<Problem> problems_;
  int64_t num_unlisted_ = 0;  // problems beyond those
};

}  // namespace solder
