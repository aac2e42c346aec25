#include "graph/all_or_nothing.h"
#include "graph/nodes/batch_change.h"
#include "graph/nodes/float_op.h"
#include "ops/matmul/gemm.h"
#include "runtime/check.h"
#include "runtime/context.h"

namespace solder {
namespace {

bool transposes_b(const Node& node) { return std::get<MatmulAttributes>(node.attributes).transpose_b; }

std::vector<TensorType> infer(const Node& node, std::span<const TensorType> inputs) {
  const TensorType &a = inputs[0], &b = inputs[1];
  require_same_dtype(node, inputs, std::get<MatmulAttributes>(node.attributes).is_narrow);
  TensorType result = a;
  const size_t rank = a.shape.size(), b_rank = b.shape.size();
  if (transposes_b(node)) {
    SOLDER_REQUIRE(rank >= 1 && b_rank == 2 && a.shape.back() == b.shape[1], shape_mismatch, node.name,
                   ": needs x [..., in] and w [out, in], not ", to_string(a.shape), " and ",
                   to_string(b.shape));
    result.shape.back() = b.shape[0];
  } else {
    SOLDER_REQUIRE(rank >= 2 && (b_rank == 2 || b_rank == rank), shape_mismatch, node.name,
                   ": needs a [..., m, k] and b [k, n] or [..., k, n], not ", to_string(a.shape), " and ",
                   to_string(b.shape));
    bool fits = a.shape[rank - 1] == b.shape[b_rank - 2];
    for (size_t i = 0; b_rank == rank && i + 2 < rank; ++i) fits = fits && a.shape[i] == b.shape[i];
    SOLDER_REQUIRE(fits, shape_mismatch, node.name, ": ", to_string(a.shape), " and ", to_string(b.shape),
                   " do not fit: the last extent of a must equal the last but one of b, and leading extents "
                   "each other");
    result.shape[rank - 1] = b.shape[b_rank - 1];
  }
  require_size({result.shape, DType::float32}, node.name);  // as which it is computed
  return {result};
}

// One product for each matrix of A, or one for all its rows where there is one B.
GemmShape gemm_shape(const Shape& a, const Shape& b, bool transpose_b) {
  const int64_t k = a.back(), n = transpose_b ? b[0] : b.back();
  if (b.size() == 2) return packed_gemm(num_elements({a.begin(), a.end() - 1}), n, k, transpose_b);
  GemmShape gemm = packed_gemm(a[a.size() - 2], n, k, transpose_b);
  gemm.count = num_elements({a.begin(), a.end() - 2});
  return gemm;
}

// Few terms are summed in float32 where Math::tf32 would round: a network's last products are such, whose few terms show the
// rounding most (KataGo's score was off by 2.3e-3, and is by 1.6e-4).
Math math_of(const PlanRequest& request, const GemmShape& s) {
  if (std::get<MatmulAttributes>(request.node.attributes).is_narrow && !is_few_terms(s))
    return Math::tf32;  // which rounds none of them
  return has_few_terms(s) ? Math::fp32 : request.math;
}

class MatmulRun final : public NodeRun {
 public:
  explicit MatmulRun(const PlanRequest& request)
      : gemm_(gemm_shape(request.inputs[0].shape, request.inputs[1].shape, transposes_b(request.node))),
        math_(math_of(request, gemm_)),
        op_(request, Strides::dense),
        gemm_words_(request.device == nullptr                    ? "loops, CPU"
                    : is_few_rows(gemm_)                         ? "few rows"
                    : math_ == Math::fp32 && is_few_terms(gemm_) ? "few terms"
                                                                 : "cuBLAS") {
    op_.add_epilogue(request);
    plan = {op_.words(gemm_words_), op_.scratch_bytes()};
    uses_cublas = request.device != nullptr;
  }

  void prepare(const Context& context, ElementwiseKernels& kernels, void*) override {
    op_.prepare(context, kernels);
    plan.path = op_.words(gemm_words_);
  }

  Launch bind(const BoundNode& node, const Context* context) const override {
    return op_.bind(node, context, [&](const BoundNode& of) -> Launch {
      return [gemm = gemm_, math = math_, context, pool = of.pool,
              a = static_cast<const float*>(of.inputs[0].data),
              b = static_cast<const float*>(of.inputs[1].data), c = static_cast<float*>(of.outputs[0].data)] {
        if constexpr (kWithCuda)
          if (context != nullptr) return gemm_cuda(*context, gemm, math, a, b, c);
        gemm_cpu(gemm, a, b, c, pool);
      };
    });
  }

 private:
  GemmShape gemm_;
  Math math_;
  FloatOp op_;
  std::string gemm_words_;
};

}  // namespace

extern const NodeDef kMatmulNode;
constexpr NodeDef kMatmulNode{
    .kind = NodeKind::matmul,
    .name = "matmul",
    .num_inputs = 2,
    .attributes_index = index_of<MatmulAttributes>(),
    .takes_epilogue = true,
    .infer = infer,
    .attributes = [](const Node& node) -> std::string { return transposes_b(node) ? " transpose_b=1" : ""; },
    .is_narrow = [](Attributes& a) -> bool& { return std::get<MatmulAttributes>(a).is_narrow; },
    .channel_axis = [](const Node& node, size_t rank) { return transposes_b(node) ? 0 : rank - 1; },
    .rebatch =
        [](Node* node, BatchChange* change) {
          const size_t rank = change->before[0].shape.size();
          if (change->before[1].shape.size() == rank)
            follow_together(node, static_cast<int>(rank) - 2, -1, change);
        },
    .plan = planned<MatmulRun>,
    .flops =
        [](const Node& node, std::span<const TensorType> inputs) {
          const GemmShape gemm = gemm_shape(inputs[0].shape, inputs[1].shape, transposes_b(node));
          return 2 * gemm.count * gemm.m * gemm.n * gemm.k;
        }};

Value Graph::matmul_node(Value a, Value b, bool transpose_b, const char* op) {
  checked_type(a, op), checked_type(b, op);
  Node node{.kind = NodeKind::matmul,
            .name = next_name(op),
            .inputs = {a, b},
            .attributes = MatmulAttributes{transpose_b}};
  node.epilogue.region = {.num_operands = 0, .exprs = {}, .outputs = {Arg::result()}};
  return add_node(std::move(node));
}

Value Graph::matmul(Value a, Value b) { return matmul_node(a, b, false, "matmul"); }
Value Graph::linear(Value x, Value w) { return matmul_node(x, w, true, "linear"); }

Value Graph::linear(Value x, Value w, Value bias) {
  const AllOrNothing guard(this);
  require_bias(checked_type(w, "linear"), checked_type(bias, "linear"), next_name("linear"));
  return add(linear(x, w), bias);
}

}  // namespace solder
