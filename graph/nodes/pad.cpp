#include <bit>
#include <cmath>

#include "graph/nodes/node_def.h"
#include "ops/pad/pad.h"
#include "runtime/check.h"
#include "runtime/context.h"

namespace solder {
namespace {

const PadAttributes& attributes_of(const Node& node) { return std::get<PadAttributes>(node.attributes); }

const char* to_string(PadMode mode) {
  return mode == PadMode::constant ? "constant" : mode == PadMode::reflect ? "reflect" : "edge";
}

// The extent of an axis of x and fillers between neighbours, with what comes before and after; below 0 where that does
// not fit 63 bits.
int64_t padded_extent(int64_t extent, int64_t interior, int64_t before, int64_t after) {
  int64_t between = 0;
  if (extent > 1 && __builtin_mul_overflow(extent - 1, interior, &between)) return -1;
  for (const int64_t part : {between, std::max(before, after), std::min(before, after)})
    if (__builtin_add_overflow(extent, part, &extent)) return -1;
  return extent;
}

std::vector<TensorType> infer(const Node& node, std::span<const TensorType> inputs) {
  const auto& [before, after, interior, mode, value] = attributes_of(node);
  TensorType result = inputs[0];
  const Shape x = result.shape;
  SOLDER_REQUIRE(before.size() == x.size() && after.size() == x.size() &&
                     (interior.empty() || interior.size() == x.size()),
                 invalid_argument, node.name, ": counts ", to_string(Shape(before)), " before and ",
                 to_string(Shape(after)), " after; x ", to_string(x), " needs ", x.size(), " of each");
  int num_padded = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const int64_t between = interior.empty() ? 0 : interior[i];
    SOLDER_REQUIRE(between == 0 || (between > 0 && between < INT64_MAX && mode == PadMode::constant),
                   invalid_argument, node.name, ": ", between, " fillers between neighbours of axis ", i,
                   "; there may be some in constant mode alone");
    if (mode == PadMode::reflect)
      SOLDER_REQUIRE((before[i] <= 0 || before[i] < x[i]) && (after[i] <= 0 || after[i] < x[i]),
                     invalid_argument, node.name, ": reflect of ", before[i], " before and ", after[i],
                     " after axis ", i, " of ", to_string(x), "; each must be less than its ", x[i]);
    result.shape[i] = padded_extent(x[i], between, before[i], after[i]);
    SOLDER_REQUIRE(result.shape[i] >= 0, shape_mismatch, node.name, ": ", before[i], " before and ", after[i],
                   " after axis ", i, " of ", to_string(x),
                   ": the result would have no extent from 0 to 2^63");
    SOLDER_REQUIRE(mode != PadMode::edge || x[i] > 0 || result.shape[i] == 0, shape_mismatch, node.name,
                   ": axis ", i, " of ", to_string(x), " has no edge");
    num_padded += before[i] != 0 || after[i] != 0 || between != 0;
  }
  SOLDER_REQUIRE(num_padded <= kMaxPaddedAxes, unsupported, node.name, ": pads ", num_padded, " axes of ",
                 to_string(x), "; at most ", kMaxPaddedAxes, " are supported: pad the others first");
  return {result};
}

std::string attributes(const Node& node) {
  const auto& [before, after, interior, mode, value] = attributes_of(node);
  std::string text = str(" before=", to_string(Shape(before)), " after=", to_string(Shape(after)));
  if (!interior.empty()) text += str(" interior=", to_string(Shape(interior)));
  if (mode != PadMode::constant) return text + str(" mode=", to_string(mode));
  return std::bit_cast<uint32_t>(value) == 0 ? text : text + str(" value=", value);
}

std::unique_ptr<NodeRun> plan(const PlanRequest& request) {
  const auto& [before, after, interior, mode, value] = attributes_of(request.node);
  Shape steps(before.size(), 1);
  for (size_t i = 0; i < interior.size(); ++i) steps[i] += interior[i];
  const PadFill fill = mode == PadMode::constant  ? PadFill::value
                       : mode == PadMode::reflect ? PadFill::reflect
                                                  : PadFill::edge;
  const Pad pad =
      make_pad(request.inputs[0], request.outputs[0], Shape(before), steps, fill, value, request.node.name);
  const auto bind = [pad](const BoundNode& node, const Context* context) -> Launch {
    return [pad, context, x = node.inputs[0].data, y = node.outputs[0].data, threads = node.pool] {
      if constexpr (kWithCuda)
        if (context != nullptr) return pad_cuda(*context, pad, x, y);
      pad_cpu(pad, x, y, threads);
    };
  };
  return bound_by(request.device != nullptr ? "one kernel" : "loops, CPU", bind);
}

bool selects(const Node& node) {
  const PadAttributes& pad = attributes_of(node);
  return pad.mode != PadMode::constant || pad.value == 0 || std::isinf(pad.value);
}

}  // namespace

extern const NodeDef kPadNode;
constexpr NodeDef kPadNode{.kind = NodeKind::pad,
                           .name = "pad",
                           .num_inputs = 1,
                           .attributes_index = index_of<PadAttributes>(),
                           .takes = Strides::any,
                           .stores = Strides::any,
                           .infer = infer,
                           .attributes = attributes,
                           .selects = selects,
                           .plan = plan};

bool PadAttributes::operator==(const PadAttributes& other) const {
  return before == other.before && after == other.after && interior == other.interior && mode == other.mode &&
         std::bit_cast<uint32_t>(value) == std::bit_cast<uint32_t>(other.value);
}

Value Graph::pad(Value x, std::vector<int64_t> before, std::vector<int64_t> after, PadMode mode,
                 float value) {
  checked_type(x, "pad");
  PadAttributes attributes{
      .before = std::move(before), .after = std::move(after), .mode = mode, .value = value};
  return add_node(
      {.kind = NodeKind::pad, .name = next_name("pad"), .inputs = {x}, .attributes = std::move(attributes)});
}

}  // namespace solder
