#include <random>

#include "ops/value_range.h"
#include "support.h"

using namespace solder;

namespace {

Program program_of(std::initializer_list<Step> steps) {
  Program program;
  for (const Step& step : steps) program.push(step);
  return program;
}

// acc after the first `num_steps` steps of a program of unary steps and immediates, started at x.
float run_to(const Program& program, int num_steps, float x) {
  Program part = program;
  part.num_steps = num_steps;
  part.push({.op = Op::store_output});
  float y = 0;
  const ElementwiseTensor input{&x, DType::float32, {1}}, output{&y, DType::float32, {1}};
  elementwise_cpu(part, bind_elementwise({1}, {&input, 1}, {&output, 1}));
  return y;
}

}  // namespace

TEST_CASE("value range: the chain of the benchmark needs one check and the polynomial of tanh") {
  const Program chain = program_of({{.op = Op::mish},
                                    {.op = Op::mul, .source = Source::immediate, .p = 1.5f},
                                    {.op = Op::add, .source = Source::immediate, .p = 0.25f},
                                    {.op = Op::sigmoid},
                                    {.op = Op::sub, .source = Source::immediate, .p = 0.5f},
                                    {.op = Op::leaky_relu, .p = 0.1f},
                                    {.op = Op::tanh},
                                    {.op = Op::mish},
                                    {.op = Op::store_output}});
  const std::vector<math::Range> known = known_ranges(chain);
  REQUIRE(known.size() == 9);
  CHECK(known[0].low < math::kTail);
  CHECK(known[3].low > math::kTail);
  CHECK(known[6].low > -math::kTanhFar);
  CHECK(known[6].high < math::kTanhFar);
  CHECK(known[7].low > math::kTail);
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
      Step step{.op = static_cast<Op>(any(kNumComputeOps)), .p = parameters[any(11)]};
      if (is_binary(step.op)) step.source = Source::immediate, step.swapped = any(2) == 1;
      if (step.op == Op::leaky_relu || step.op == Op::elu) step.p = parameters[any(6)];
      if (step.op == Op::clip) step.p = -0.5f, step.q = static_cast<float>(any(3));
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
