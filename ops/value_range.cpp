#include "ops/value_range.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>

namespace solder {
namespace {

using math::Range;

// From the smallest to the largest; anything where the ends themselves come out as NaN.
Range hull(std::initializer_list<float> ends) {
  if (std::any_of(ends.begin(), ends.end(), [](float end) { return std::isnan(end); })) return {};
  return {std::min(ends), std::max(ends)};
}

// The part of x above or below zero, zero included.
Range positive(Range x) { return {std::max(x.low, 0.0f), std::max(x.high, 0.0f)}; }
Range negative(Range x) { return {std::min(x.low, 0.0f), std::min(x.high, 0.0f)}; }

// A function of the shape of mish: at most max(x, 0), to a rounding, and never below `lowest`.
Range gated(Range x, float lowest) { return {lowest, positive(x).high * 1.000001f}; }

Range image(const Step& step, Range x) {
  const Range above = positive(x), below = negative(x);
  switch (step.op) {
    case Op::abs: return {std::max(above.low, -below.high), std::max(above.high, -below.low)};
    case Op::neg: return {-x.high, -x.low};
    case Op::exp:
    case Op::sqrt:
    case Op::square:
    case Op::softplus: return {.low = 0};
    case Op::relu: return above;
    case Op::erf: return {-1, 1};
    case Op::tanh: return {std::max(below.low, -1.0f), std::min(above.high, 1.0f)};
    case Op::sigmoid:
    case Op::hard_sigmoid: return {0, 1};
    case Op::leaky_relu: return hull({above.low, above.high, below.low * step.p, below.high * step.p});
    case Op::elu: return hull({above.low, above.high, -step.p, 0.0f});
    case Op::selu: return {-1.76f, above.high * 1.06f};
    case Op::gelu:
    case Op::gelu_tanh: return gated(x, -0.171f);
    case Op::silu: return gated(x, -0.279f);
    case Op::hard_swish: return gated(x, -0.376f);
    case Op::mish:
    case Op::double_mish: return gated(x, -0.309f);
    case Op::clip: return hull({math::clip(x.low, step.p, step.q), math::clip(x.high, step.p, step.q)});
    default: return {};
  }
}

Range image(Op op, Range a, Range b) {
  switch (op) {
    case Op::add: return hull({a.low + b.low, a.high + b.high});
    case Op::sub: return hull({a.low - b.high, a.high - b.low});
    case Op::mul: return hull({a.low * b.low, a.low * b.high, a.high * b.low, a.high * b.high});
    case Op::min: return {std::min(a.low, b.low), std::min(a.high, b.high)};
    case Op::max: return {std::max(a.low, b.low), std::max(a.high, b.high)};
    default: return {};
  }
}

}  // namespace

std::vector<Range> known_ranges(const Program& program) {
  std::vector<Range> before;
  Range acc, slots[kMaxSlots];
  for (const Step& step : program.view()) {
    before.push_back(acc);
    const Range source = step.source == Source::slot        ? slots[step.index]
                         : step.source == Source::immediate ? hull({step.p})
                                                            : Range{};
    if (is_unary(step.op)) {
      acc = image(step, acc);
    } else if (is_binary(step.op)) {
      acc = step.swapped ? image(step.op, source, acc) : image(step.op, acc, source);
    } else if (step.op == Op::load) {
      acc = source;
    } else if (step.op == Op::store_slot) {
      slots[step.index] = acc;
    }
  }
  return before;
}

}  // namespace solder
