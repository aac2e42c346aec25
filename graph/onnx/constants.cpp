// Rows of operators whose results are known whatever their inputs are.

#include <algorithm>
#include <cmath>

#include "graph/onnx/import.h"
#include "runtime/check.h"

namespace solder {
namespace {

void constant(OnnxCall& call) {
  if (call.has_attribute("value")) {
    OnnxItem item;
    item.stored = std::make_shared<const OnnxTensor>(call.stored("value"));
    item.type = item.stored->type;
    item.shape = item.stored->shape;
    return call.give(std::move(item));
  }
  OnnxConstant result;
  if (call.has_attribute("value_int")) {
    result.ints = {call.integer("value_int")};
  } else if (call.has_attribute("value_ints")) {
    result.ints = call.integers("value_ints");
    result.shape = {std::ssize(result.ints)};
  } else if (call.has_attribute("value_float")) {
    result.type = OnnxType::float32;
    result.reals = {call.real("value_float", 0)};
  } else {
    SOLDER_REQUIRE(call.has_attribute("value_floats"), io, "attribute value is missing");
    result.type = OnnxType::float32;
    for (const float each : call.reals("value_floats")) result.reals.push_back(each);
    result.shape = {std::ssize(result.reals)};
  }
  call.give(std::move(result));
}

void shape(OnnxCall& call) {
  const Shape& x = call.shape(0);
  const int64_t rank = std::ssize(x);
  const auto cut = [&](int64_t index) {
    return std::clamp<int64_t>(index < 0 ? index + rank : index, 0, rank);
  };
  const int64_t start = cut(call.integer("start", 0)), end = std::max(start, cut(call.integer("end", rank)));
  OnnxConstant result{.shape = {end - start}, .ints = {x.begin() + start, x.begin() + end}};
  call.give(std::move(result));
}

void size(OnnxCall& call) { call.give(OnnxConstant{.ints = {num_elements(call.shape(0))}}); }

void range(OnnxCall& call) {
  const OnnxConstant start = call.constant(0), limit = call.constant(1), delta = call.constant(2);
  OnnxConstant result{.type = start.type};
  SOLDER_REQUIRE(start.size() == 1 && limit.size() == 1 && delta.size() == 1 && limit.type == start.type &&
                     delta.type == start.type,
                 io, "start, limit and delta are no scalars of one type");
  const double from = start.is_real() ? start.reals[0] : static_cast<double>(start.ints[0]);
  const double to = start.is_real() ? limit.reals[0] : static_cast<double>(limit.ints[0]);
  const double by = start.is_real() ? delta.reals[0] : static_cast<double>(delta.ints[0]);
  const double count = std::ceil((to - from) / by);
  SOLDER_REQUIRE(by != 0 && count <= static_cast<double>(kMostFoldedElems), unsupported, "from ", from,
                 " to ", to, " by ", by);
  for (int64_t i = 0; static_cast<double>(i) < count; ++i)
    if (start.is_real())
      result.reals.push_back(from + static_cast<double>(i) * by);
    else
      result.ints.push_back(
          static_cast<int64_t>(static_cast<uint64_t>(start.ints[0]) +
                               static_cast<uint64_t>(i) * static_cast<uint64_t>(delta.ints[0])));
  result.shape = {result.size()};
  call.give(std::move(result));
}

void cumulative_sum(OnnxCall&) { ONNX_REQUIRE(false, "of a tensor that is computed at run time"); }

constexpr OnnxRow kRows[] = {
    {"Constant", "", "value value_int:12- value_ints:12- value_float:12- value_floats:12-", constant},
    {"CumSum", "x axis", "exclusive reverse", cumulative_sum},
    {"If", "condition", "then_branch else_branch", [](OnnxCall& call) { call.import().inline_if(call); }},
    {"Range", "start limit delta", "stash_type:27-", range},
    {"Shape", "x", "start:15- end:15-", shape},
    {"Size", "x", "", size},
};

}  // namespace

const std::span<const OnnxRow> kConstantRows = kRows;

}  // namespace solder
