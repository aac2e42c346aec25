#include "ops/elementwise/value_range.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/elementwise/apply.h"

namespace solder {
namespace {

using math::Range;

// Of the values that are not NaN, from the smallest to the largest; anywhere if there is none.
Range hull(std::span<const float> values) {
  Range range{math::kInfinity, -math::kInfinity};
  for (const float value : values)
    if (!std::isnan(value)) range = {std::min(range.low, value), std::max(range.high, value)};
  return range.low <= range.high ? range : Range{};
}

// What a unary function makes of x: of its ends and of the place where it turns.
Range image(const Step& step, Range x) {
  const Image& rule = op_info(step.op).image;
  if (!rule.is_known) return {};
  constexpr float kLargest = std::numeric_limits<float>::max();
  float values[3];
  for (int i = 0; i < 3; ++i) {
    const float place = i == 0 ? x.low : i == 1 ? std::clamp(rule.turn, x.low, x.high) : x.high;
    // What is NaN at infinity has values on the way there.
    float at[2] = {place, std::clamp(place, -kLargest, kLargest)};
    apply_unary(step.op, step.p, step.q, at);
    values[i] = std::isnan(at[0]) ? at[1] : at[0];
    if (std::isnan(values[i])) return rule.within;
  }
  Range y = hull(values);
  if (rule.is_rounded) {  // neither end nor any value between them is exact: twice 4 ULP
    const float low = std::min(y.low, kLargest), high = std::max(y.high, -kLargest);
    y = {low - std::abs(low) * 2e-6f - 1e-37f, high + std::abs(high) * 2e-6f + 1e-37f};
  }
  return {std::max(y.low, rule.within.low), std::min(y.high, rule.within.high)};
}

// What a binary function makes of a and b: of each end with each. One that is NaN (infinity less infinity)
// lies between others that are not.
Range image(const Step& step, Range a, Range b) {
  if (!op_info(step.op).image.is_known) return {};
  float values[4] = {a.low, a.low, a.high, a.high};
  const float others[4] = {b.low, b.high, b.low, b.high};
  apply_binary(step.op, step.swapped, values, others);
  return hull(values);
}

}  // namespace

std::vector<Range> known_ranges(const Program& program) {
  std::vector<Range> before;
  Range acc, slots[kMaxSlots];
  for (const Step& step : program.view()) {
    before.push_back(acc);
    const Range source = step.source == Source::slot        ? slots[step.index]
                         : step.source == Source::immediate ? hull({{step.p}})
                                                            : Range{};
    if (is_unary(step.op)) {
      acc = image(step, acc);
    } else if (is_binary(step.op)) {
      acc = image(step, acc, source);
    } else if (step.op == Op::load) {
      acc = source;
    } else if (step.op == Op::store_slot) {
      slots[step.index] = acc;
    }
  }
  return before;
}

}  // namespace solder
