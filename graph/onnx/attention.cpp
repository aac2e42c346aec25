// Attention, as products of matrices and a softmax.

#include <cmath>
#include <optional>

#include "graph/onnx/import.h"
#include "runtime/check.h"

namespace solder {
namespace {

// Input i as [batch, heads, length, size]; of rank 3 it is [batch, length, heads * size].
Value with_heads(OnnxCall& call, size_t i, const char* num_heads) {
  const Shape& x = call.shape(i);
  if (x.size() == 4) return call.value(i);
  SOLDER_REQUIRE(x.size() == 3, shape_mismatch, call.input_name(i), " is ", to_string(x),
                 "; it has 3 or 4 axes");
  const int64_t heads = call.integer(num_heads);
  SOLDER_REQUIRE(heads > 0 && x[2] % heads == 0, shape_mismatch, heads, " heads of ", to_string(x));
  return call.graph().permute(call.reshape(call.value(i), {x[0], x[1], heads, x[2] / heads}), {0, 2, 1, 3});
}

// Each head `times` times in a row.
Value repeated_heads(OnnxCall& call, Value x, int64_t times) {
  const Shape& from = call.graph().type(x).shape;
  if (times == 1) return x;
  const Value grouped = call.reshape(x, {from[0], from[1], 1, from[2], from[3]});
  return call.reshape(call.graph().expand(grouped, {from[0], from[1], times, from[2], from[3]}),
                      {from[0], from[1] * times, from[2], from[3]});
}

void attention(OnnxCall& call) {
  Graph& graph = call.graph();
  call.only("is_causal", 0);
  ONNX_REQUIRE(call.real("softcap", 0) == 0, "softcap is not 0");
  for (size_t i = 4; i < 7; ++i) ONNX_REQUIRE(!call.has(i), call.input_name(i), " is given");
  const Value q = with_heads(call, 0, "q_num_heads");
  Value k = with_heads(call, 1, "kv_num_heads"), v = with_heads(call, 2, "kv_num_heads");
  const Shape shape = graph.type(q).shape, keys = graph.type(k).shape;
  SOLDER_REQUIRE(keys[1] > 0 && shape[1] % keys[1] == 0, shape_mismatch, shape[1], " heads of q and ",
                 keys[1], " of k");
  k = repeated_heads(call, k, shape[1] / keys[1]), v = repeated_heads(call, v, shape[1] / keys[1]);
  const float scale = call.real("scale", 1 / std::sqrt(static_cast<float>(shape[3])));
  Value scores = graph.mul(graph.matmul(q, graph.permute(k, {0, 1, 3, 2})), scale);
  // A query that no key is shown to makes 0, where its softmax is NaN.
  std::optional<Value> sees;
  if (call.has(3)) {
    const DType dtype = graph.type(q).dtype;
    const Value mask = call.value(3, dtype), most = graph.reduce_max(mask, {-1}, true);
    const bool is_truth = call.type(3) == OnnxType::boolean;
    scores = is_truth ? graph.where(mask, scores, call.import().filled(call.label(), {1}, dtype, -INFINITY))
                      : graph.add(scores, mask);
    sees = is_truth ? most : graph.greater(most, -INFINITY);
  }
  Value y = graph.matmul(graph.softmax(scores), v);
  if (sees) y = graph.binary(Op::keep_if, y, *sees);
  if (call.rank(0) == 4) return call.give(y);
  const int64_t size = graph.type(v).shape[3];
  call.give(call.reshape(graph.permute(y, {0, 2, 1, 3}), {shape[0], shape[2], shape[1] * size}));
}

constexpr OnnxRow kRows[] = {
    {"Attention", "q k v mask? past_key? past_value? nonpad_kv_seqlen?:24-",
     "is_causal kv_num_heads q_num_heads qk_matmul_output_mode scale softcap softmax_precision", attention}};

}  // namespace

const std::span<const OnnxRow> kAttentionRows = kRows;

}  // namespace solder
