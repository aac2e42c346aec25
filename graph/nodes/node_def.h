#pragma once
// What solder knows of a kind of node, in one place: its row of the table in table.cpp, made in its own file.

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include "graph/graph.h"
#include "graph/plan.h"
#include "ops/conv/kernels.h"
#include "ops/elementwise/pass.h"
#include "ops/math_mode.h"
#include "runtime/device.h"
#include "runtime/tensor.h"
#include "runtime/tensor_view.h"

namespace solder {

class Context;
class ThreadPool;
struct BatchChange;

/// What a node's plan depends on. Views have no addresses yet.
struct PlanRequest {
  const Node& node;
  std::vector<TensorView> inputs;  ///< operands under the shapes in which the region reads them
  std::vector<TensorView> outputs;
  std::vector<int64_t>
      offsets;  ///< of inputs, then outputs: elements from a multiple of 256 bytes to the first
  /// The weights that an input is; false unless that is a parameter with elements.
  std::function<ConvWeights(size_t input)> weight;
  /// Of inputs, where they are scaled; of the result: node.scaled.
  std::vector<std::vector<ScaledChannels>> scaled_inputs;
  const DeviceInfo* device = nullptr;  ///< null: the CPU
  Math math = Math::fp32;
  std::string conv;             ///< CompileOptions::conv
  int64_t workspace_bytes = 0;  ///< bounds its scratch
  /// Whether an input lies in the memory of output 0, so many elements behind its first.
  std::function<bool(size_t input, int64_t offset_elems)> lies_at;
};

/// A node's memory in a session, in the order of the request's views.
struct BoundNode {
  std::span<const TensorView> inputs, outputs;
  const void* constants = nullptr;  ///< NodeConstants, on the device
  void* scratch = nullptr;
  ImageRange* ranges = nullptr;  ///< the session's, of scaled values
  ThreadPool* pool = nullptr;    ///< on the CPU: shares its loops
};

/// What a node reads on its device besides its inputs, at a multiple of 256 bytes.
struct NodeConstants {
  /// Says what they are, but for which parameters the node has; nodes share them by it. Empty: none.
  std::string key;
  std::function<std::vector<std::byte>()> make;
};
/// By what they are.
NodeConstants constants_of(std::span<const std::byte> bytes);

/// How a node runs: planned from what is known without a device, prepared once on its device, bound to the
/// addresses of each session. Immutable afterwards and shared by all sessions.
class NodeRun {
 public:
  virtual ~NodeRun() = default;

  /// The last step of compile() on a GPU: what needs the device itself. `constants` lie on it; null: there are none,
  /// or they are another node's too, which has prepared them.
  virtual void prepare(const Context& context, ElementwiseKernels& kernels, void* constants) {
    (void)context, (void)kernels, (void)constants;
  }

  /// The node as a call on fixed addresses: all that can be decided once is decided here. Null context: the CPU.
  virtual Launch bind(const BoundNode& node, const Context* context) const = 0;

  /// Whether output `output` may take over the memory of input `input`, which has its type and dies here.
  virtual bool may_overwrite(size_t input, size_t output) const { return (void)input, (void)output, false; }

  NodePlan plan;
  NodeConstants constants;  ///< until they are uploaded
  bool uses_cublas = false;
};

/// How a tensor lies that a kind reads, or stores, as it is. Operands of an epilogue may lie in any way.
enum class Strides : uint8_t {
  dense,   ///< row-major without gaps
  images,  ///< likewise each part of the first axis; parts may lie further apart
  /// Or [N,C,H,W] with stride 1 for C, any P >= C for W, P times the extent of W for H. Only the C channels are the
  /// tensor's: those between C and P may be another's, or nobody's.
  pixels,
  any
};
bool allows(Strides strides, const TensorView& view);

/// The plan() of a kind that runs as `Run` says.
template <class Run>
std::unique_ptr<NodeRun> planned(const PlanRequest& request) {
  return std::make_unique<Run>(request);
}

/// How a kind runs that needs neither constants nor scratch: `bind`, in these words.
std::unique_ptr<NodeRun> bound_by(std::string words,
                                  std::function<Launch(const BoundNode& node, const Context* context)> bind);

/// The place of T among the attributes' alternatives. Counted, since clang 14 makes no constant of a variant of vectors.
template <class T, class... Alternatives>
consteval size_t index_among(const std::variant<Alternatives...>*) {
  size_t index = 0;
  static_cast<void>(((!std::is_same_v<T, Alternatives> && ++index != 0) && ...));
  return index;
}
template <class T>
consteval size_t index_of() {
  return index_among<T>(static_cast<const Attributes*>(nullptr));
}

inline constexpr size_t kAnyNumber = SIZE_MAX;

struct NodeDef {
  NodeKind kind;
  const char* name;             ///< in dumps, text graphs and errors
  size_t num_inputs = 0;        ///< its own, without an epilogue's operands; or kAnyNumber, but at least one
  size_t attributes_index = 0;  ///< of its struct in Attributes
  bool takes_epilogue = false;
  Strides takes = Strides::dense;         ///< of its first input; what lies otherwise is copied first
  Strides takes_others = Strides::dense;  ///< of its own inputs behind that
  Strides stores = Strides::dense;        ///< of its outputs: a concat's part has the strides of the whole

  /// The types of its results, from those of node.inputs and the attributes; throws what is wrong with them,
  /// naming the node. Null: they are declared.
  std::vector<TensorType> (*infer)(const Node& node, std::span<const TensorType> inputs) = nullptr;
  /// The attributes as text graphs write them, " stride=2,2 groups=4"; null: none.
  std::string (*attributes)(const Node& node) = nullptr;
  /// Its result as a view of its input, from which the address is counted in elements; false where strides cannot
  /// say it, then of a dense copy. Null: it computes.
  bool (*view)(const Node& node, const TensorView& input, TensorView* result,
               int64_t* offset_elems) = nullptr;
  /// Of kinds that sum products of their two inputs: where they say that both hold 16-bit values. Null: other kinds.
  bool& (*is_narrow)(Attributes& attributes) = nullptr;
  /// Of the same: the axis of the second input, of this rank, that counts output channels.
  size_t (*channel_axis)(const Node& node, size_t rank) = nullptr;
  /// Of kinds whose result is statistics of its input, for which 16 bits would be too few: where they say that it is
  /// float32 whatever the input is. Null: other kinds.
  bool& (*keeps_float32)(Attributes& attributes) = nullptr;
  /// Whether every element of its result is, bit for bit, one of its inputs', 0 or infinite; null: not so. Views are.
  bool (*selects)(const Node& node) = nullptr;
  /// Of kinds that pass on what they read, scaled as it is (ops/scaled.h): the parts of the result, from those of its
  /// inputs and these' types; none where it cannot. Null: other kinds.
  std::vector<ScaledChannels> (*passes_scaled)(const Node& node, std::span<const TensorType> inputs,
                                               std::span<const std::vector<ScaledChannels>> parts) = nullptr;
  /// Of kinds that read scaled values and make other ones of them, scaled or not: whether that is so as the request says,
  /// whose weights alone are known. Null: other kinds.
  bool (*takes_scaled)(const PlanRequest& request) = nullptr;
  /// Of kinds whose kernels store one result: whether one stores the several that the request asks for, whose weights
  /// alone are known. Null: other kinds, whose results a pass behind the sums stores.
  bool (*stores_more)(const PlanRequest& request) = nullptr;
  /// What it says of shapes beside its inputs', for another batch size; throws where it can be of one alone. Null:
  /// that is nothing, or infer() says it all.
  void (*rebatch)(Node* node, BatchChange* change) = nullptr;
  /// How it runs; null: nothing runs.
  std::unique_ptr<NodeRun> (*plan)(const PlanRequest& request) = nullptr;
  /// Two a multiply-add of convolutions and matrix products, for profiles; null: not counted.
  int64_t (*flops)(const Node& node, std::span<const TensorType> inputs) = nullptr;
};

const NodeDef& node_def(NodeKind kind);

/// Whether the node can read its input where it lies like this.
bool takes(const Node& node, size_t input, const TensorView& view);
std::span<const NodeDef* const> node_defs();

/// The types of node.inputs.
std::vector<TensorType> input_types(const Graph& graph, const Node& node);

// What builders ask of their arguments, besides what a kind's infer() does.

/// Error(invalid_argument) unless the node has as many inputs as its kind, and its kind's attributes.
void require_form(const Node& node);

/// `axis`, counted from the end where it is negative; Error(invalid_argument) naming `node` unless it is one of `rank`.
int checked_axis(int axis, int rank, const std::string& node);
/// Likewise all of them, ascending, none twice; of none, all.
std::vector<int> checked_axes(std::vector<int> axes, int rank, const std::string& node);
/// Error(shape_mismatch) unless `bias` has a value of w's dtype for each extent of its first axis.
void require_bias(const TensorType& w, const TensorType& bias, const std::string& node);

/// Error(invalid_argument) unless what the node multiplies is of one dtype; 16-bit values may be stored as any.
void require_same_dtype(const Node& node, std::span<const TensorType> inputs, bool is_narrow);

/// Error(invalid_argument) naming `what` where an extent is negative or the bytes are more than 2^63 - 1.
void require_size(const TensorType& type, const std::string& what);

/// Error(invalid_argument) naming `what` unless tensors of this shape that are given, or given out, may lie so.
void require_layout(const Shape& shape, Layout layout, const std::string& what);

/// [C, 1, ...]: the shape under which one value a channel meets [N, C, ...].
Shape channel_shape(const Shape& space);

/// `from` read as it is and stored as `dtype`, rounded only there.
Node copy_of(Value from, const Shape& shape, DType dtype, std::string name);

/// " float32 [1, 3, 8, 8], float32 [4, 3, 3, 3] stride=2,2": what the node does before its epilogue, for logs.
std::string describe(const Graph& graph, const Node& node);

}  // namespace solder
