#include "ops/elementwise/value_range.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "ops/elementwise/apply.h"

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

// From where on a function grows; up to there those that have such a place fall, from 0 at -infinity.
float grows_from(Op op) {
  switch (op) {
    case Op::gelu: return -0.7518f;
    case Op::gelu_tanh: return -0.7525f;
    case Op::silu: return -1.2785f;
    case Op::hard_swish: return -1.5f;
    case Op::mish:
    case Op::double_mish: return -1.1925f;
    default: return -math::kInfinity;
  }
}

// What a function that grows makes of x: what it makes of the ends, and twice 4 ULP around that, since
// neither end nor any value between them is exact.
Range growing(const Step& step, Range x) {
  const auto at = [&](float end) {
    float block[1] = {end};
    apply_unary(step.op, step.p, step.q, block);
    return block[0];
  };
  const auto slack = [](float y) { return std::abs(y) * 2e-6f + 1e-37f; };
  const float from = grows_from(step.op);
  const float low = at(std::max(x.low, from)), high = at(x.high);
  return hull({low - slack(low), high + slack(high), x.low < from ? 0.0f : high});
}

// The values of x that lie in y, too.
Range both(Range x, Range y) { return {std::max(x.low, y.low), std::min(x.high, y.high)}; }

Range image(const Step& step, Range x) {
  const Range above = positive(x), below = negative(x);
  switch (step.op) {
    case Op::abs: return {std::max(above.low, -below.high), std::max(above.high, -below.low)};
    case Op::neg: return {-x.high, -x.low};
    case Op::exp:
    case Op::softplus: return both(growing(step, x), {.low = 0});
    case Op::sqrt:
    case Op::square: return {.low = 0};
    case Op::relu: return above;
    case Op::erf:
    case Op::tanh: return both(growing(step, x), {-1, 1});
    case Op::sigmoid:
    case Op::hard_sigmoid: return both(growing(step, x), {0, 1});
    case Op::leaky_relu:
      if (step.p >= 0) return hull({math::leaky_relu(x.low, step.p), math::leaky_relu(x.high, step.p)});
      return hull({above.low, above.high, below.low * step.p, below.high * step.p});
    case Op::elu: return hull({above.low, above.high, -step.p, 0.0f});
    case Op::selu:
    case Op::gelu:
    case Op::gelu_tanh:
    case Op::silu:
    case Op::hard_swish:
    case Op::mish:
    case Op::double_mish: return growing(step, x);
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
