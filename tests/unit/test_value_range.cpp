#include <algorithm>
#include <random>

#include "ops/elementwise/apply.h"
#include "ops/elementwise/value_range.h"
#include "tests/support/support.h"

using namespace solder;
using namespace solder::test;

namespace {

// acc after the first `num_steps` steps of a program of unary steps and immediates, started at x.
float run_to(const Program& program, int num_steps, float x) {
  Program part = program;
  part.num_steps = num_steps;
  part.push({.op = Op::store_output});
  float y = 0;
  const TensorView input = dense_view(&x, DType::float32, {1}), output = dense_view(&y, DType::float32, {1});
  elementwise_cpu(part, bind_elementwise({&input, 1}, {&output, 1}));
  return y;
}

}  // namespace

TEST_CASE("value range: the benchmark's chain, run twice, leaves out all that it can") {
  Program chain;
  for (int turn = 0; turn < 2; ++turn)
    for (const Step& step :
         {Step{.op = Op::mish}, Step{.op = Op::mul, .source = Source::immediate, .p = 1.5f},
          Step{.op = Op::add, .source = Source::immediate, .p = 0.25f}, Step{.op = Op::sigmoid},
          Step{.op = Op::sub, .source = Source::immediate, .p = 0.5f}, Step{.op = Op::leaky_relu, .p = 0.1f},
          Step{.op = Op::tanh}, Step{.op = Op::mish}})
      chain.push(step);
  chain.push({.op = Op::store_output});
  const std::vector<math::Range> known = known_ranges(chain);
  REQUIRE(known.size() == 17);
  const auto within = [&](size_t step, float low, float high) {
    INFO("step ", step, ": [", known[step].low, ", ", known[step].high, "]");
    CHECK(known[step].low >= low);
    CHECK(known[step].high <= high);
  };
  CHECK(known[0].low < math::kTail);                            // mish: with its tail
  within(3, -math::kSigmoidFar, INFINITY);                      // sigmoid: nothing far below zero
  within(6, -0.99f * math::kTanhFar, 0.99f * math::kTanhFar);   // tanh: its polynomial
  within(7, math::kTail, INFINITY);                             // mish: no tail
  within(11, -math::kSigmoidFar, math::kSigmoidFar);            // sigmoid: its polynomial
  within(13, std::numeric_limits<float>::min(), INFINITY);      // leaky_relu: nothing to do
  within(14, -0.99f * math::kTanhFar, 0.99f * math::kTanhFar);  // tanh: its polynomial
  within(15, math::kAboveOne, 88.0f);                           // mish: e^x above 1
}

TEST_CASE("value range: a formula that knows where its values lie gives the same bits") {
  // Where formulas change, and a little further out.
  const float ends[] = {-INFINITY, -1e30f, -90.0f, -43.0f, -1.04f, -1.0f, -0.55f, -0.3f,  -1e-6f,  0.0f,
                        1e-6f,     0.3f,   0.54f,  1.0f,   1.04f,  1.5f,  88.0f,  100.0f, INFINITY};
  std::mt19937 engine(5);
  int64_t num_checked = 0;
  const auto check = [&](const Step& step, math::Range known, float x) {
    if (!(x >= known.low && x <= known.high)) return;  // NaN
    float knows[1] = {x}, knows_not[1] = {x};
    apply_unary(step.op, step.p, step.q, knows, known);
    apply_unary(step.op, step.p, step.q, knows_not);
    INFO(to_string(step.op), "(", step.p, ") of ", x, " in [", known.low, ", ", known.high, "]: ", knows[0],
         ", ", knows_not[0]);
    const bool same =
        bits_of(knows[0]) == bits_of(knows_not[0]) || (std::isnan(knows[0]) && std::isnan(knows_not[0]));
    CHECK(same);
    ++num_checked;
  };
  for (const OpInfo& info : kOps)
    for (const float p : {0.1f, -1.75f}) {
      if (!is_unary(info.op) || (info.num_params() == 0 && p < 0)) continue;
      for (const float low : ends)
        for (const float high : ends) {
          if (!(low < high)) continue;
          const Step step{.op = info.op, .p = p, .q = p + 1};
          for (const float x : {low, high, std::nextafter(low, high), std::nextafter(high, low)})
            check(step, {low, high}, x);
          for (int i = 0; i < 100; ++i) {
            const auto bits = static_cast<uint32_t>(engine());
            const float moderate = static_cast<float>(bits >> 8) * 0x1p-22f - 2.0f;
            check(step, {low, high}, std::clamp(std::bit_cast<float>(bits), low, high));
            check(step, {low, high}, std::clamp(moderate, low, high));
            check(step, {low, high}, std::clamp(moderate * 50, low, high));
          }
        }
    }
  CHECK(num_checked > 500000);
}

TEST_CASE("value range: values lie where they are said to, over random programs") {
  std::mt19937 engine(11);
  const auto any = [&](int count) { return static_cast<int>(engine() % static_cast<unsigned>(count)); };
  const float parameters[] = {0.0f, -0.0f, 0.1f, -1.75f, 0.5f, 3.0f, -40.0f, 1e30f, INFINITY, -INFINITY, NAN};
  int64_t bounded = 0;
  for (int round = 0; round < 4000; ++round) {
    Program program;
    const int num_steps = 1 + any(7);
    for (int i = 0; i < num_steps; ++i) {
      Step step{.op = static_cast<Op>(any(kNumUnaryOps + kNumBinaryOps)), .p = parameters[any(11)]};
      if (is_binary(step.op)) step.source = Source::immediate, step.swapped = any(2) == 1;
      if (op_info(step.op).num_params() == 2) step.p = -0.5f, step.q = static_cast<float>(any(3));
      program.push(step);
    }
    program.push({.op = Op::store_output});
    const std::vector<math::Range> known = known_ranges(program);
    for (int i = 0; i < 40; ++i) {
      const float x = i < 20 ? std::bit_cast<float>(static_cast<uint32_t>(engine()))
                             : static_cast<float>(any(2001) - 1000) * 0.03f;
      for (int s = 0; s <= num_steps; ++s) {
        const float value = run_to(program, s, x);
        const math::Range range = known[static_cast<size_t>(s)];
        bounded += range.low > -INFINITY;
        INFO(to_string(program), ", step ", s, ", x ", x, ": ", value, " in [", range.low, ", ", range.high,
             "]");
        const bool inside = std::isnan(value) || (value >= range.low && value <= range.high);
        CHECK(inside);
      }
    }
  }
  CHECK(bounded > 100000);
}
