// The choices behind a convolution on a GPU: pure functions, so tested without one.

#include <algorithm>
#include <iterator>
#include <map>

#include "graph/region.h"
#include "graph/value_view.h"
#include "ops/conv/epilogue/epilogue.h"
#include "ops/conv/kernels.h"
#include "ops/conv/range/range.h"
#include "ops/conv/rows/rows.h"
#include "ops/conv/window/window.h"
#include "tests/cases/conv_cases.h"
#include "tests/support/conv_weights.h"
#include "tests/support/support.h"

using namespace solder;
using namespace solder::test;

namespace {

constexpr int kNumSms = 132;
constexpr int64_t kSmemBytes = 232448;  // of a block on an H100

DeviceInfo h100() {
  DeviceInfo info;
  info.cc_major = 9;
  info.num_sms = kNumSms;
  info.smem_per_block_bytes = kSmemBytes;
  info.l2_bytes = int64_t{50} << 20;
  return info;
}

ConvShape headline() { return headline_case().shape; }

ConvProblem problem_of(const ConvShape& shape, Math math, std::span<const float> weights) {
  ConvProblem problem{.node = "conv",
                      .shape = shape,
                      .math = math,
                      .x = {dense_view(nullptr, DType::float32, {shape.N, shape.C, shape.H, shape.W})},
                      .y = {dense_view(nullptr, DType::float32, {shape.N, shape.K, shape.P(), shape.Q()})},
                      .weights = known_weights(weights, shape.K)};
  problem.epilogue = {.num_operands = 0, .from_result = true};
  problem.epilogue.push({.op = Op::double_mish});
  problem.epilogue.push({.op = Op::store_output});
  problem.workspace_bytes = int64_t{256} << 20;
  return problem;
}

}  // namespace

TEST_CASE("choose_rows_config: the headline fills the card, and what it does not cover it says") {
  std::string why;
  const auto config = choose_rows_config(headline(), Math::tf32, h100(), &why);
  REQUIRE(config.has_value());
  CHECK(config->num_blocks() == kNumSms);
  CHECK(config->num_strips == 1);
  CHECK(config->strip_cols == 254);
  CHECK(config->smem_bytes <= kSmemBytes);
  CHECK(config->efficiency > 0.98);
  CHECK(config->efficiency <= 1.0);

  const auto refused = [&](auto change, const char* word) {
    ConvShape shape = headline();
    change(shape);
    CAPTURE(word);
    CHECK_FALSE(choose_rows_config(shape, Math::tf32, h100(), &why).has_value());
    CHECK(why.find(word) != std::string::npos);
  };
  refused([](ConvShape& s) { s.stride_h = 2; }, "stride");
  refused([](ConvShape& s) { s.groups = 2; }, "groups");
  refused([](ConvShape& s) { s.C = 65; }, "64 input channels");
  refused([](ConvShape& s) { s.K = 12; }, "eights");
  refused([](ConvShape& s) { s.W = 255; }, "odd");
  refused([](ConvShape& s) { s.R = s.S = 5; }, "shared memory");
  refused([](ConvShape& s) { s.dil_w = 5; }, "wide");
  refused([](ConvShape& s) { s.N = 0; }, "empty");
  refused([](ConvShape& s) { s.H = 0, s.pad_top = 9; }, "empty");  // nothing to take a sample of

  // fp32: the two blocks of a cluster share 64 output channels.
  const auto split = choose_rows_config(headline(), Math::fp32, h100(), &why);
  REQUIRE(split.has_value());
  CHECK(split->num_k_blocks == 2);
  CHECK(split->num_blocks() == kNumSms);
  CHECK(split->smem_bytes <= kSmemBytes);
  CHECK(rows_weight_bytes(headline(), *split) == 128 * (9 * 64 * 2 * 2 + 4));

  ConvShape wide = headline();
  wide.W = 1000;
  const auto strips = choose_rows_config(wide, Math::tf32, h100(), &why);
  REQUIRE(strips.has_value());
  CHECK(strips->num_strips * strips->strip_cols >= wide.Q());
  CHECK(strips->strip_cols <= kRowsTileCols);
  CHECK(strips->strip_cols % 2 == 0);
}

TEST_CASE("may_need_repair: an image that is not good has a part that says so") {
  // Parts of images of every size of number, zeros, subnormals and non-finite ones among them; the exponent
  // is guessed from some of the parts, as a sample would. Bits grow with the float's size.
  uint64_t random = 1;
  const auto draw = [&](uint64_t below) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    return (random >> 33) % below;
  };
  int num_not_good = 0, num_quiet = 0;
  for (const Math math : {Math::tf32, Math::fp32}) {
    for (int image = 0; image < 200'000; ++image) {
      const uint64_t centre = draw(270), spread = 1 + draw(20);
      uint32_t part_bits[8], sample_bits = 0, image_bits = 0;
      for (uint32_t& bits : part_bits) {
        const auto exponent = static_cast<uint32_t>(std::min<uint64_t>(centre + draw(spread), 255));
        bits = draw(8) == 0 ? 0 : exponent << 23 | static_cast<uint32_t>(draw(1 << 23));
        image_bits = std::max(image_bits, bits);
        if (bits < kNonFiniteBits && draw(2) == 0) sample_bits = std::max(sample_bits, bits);
      }
      const int exponent = range_exponent(sample_bits, range_window(math).guess);
      const bool alarm = std::any_of(std::begin(part_bits), std::end(part_bits), [&](uint32_t bits) {
        return may_need_repair({exponent, bits}, math);
      });
      const bool is_good = range_status({exponent, image_bits}, math) == RangeStatus::good;
      if (!is_good) REQUIRE(alarm);
      num_not_good += !is_good;
      num_quiet += !alarm;
    }
  }
  CHECK(num_not_good > 20'000);
  CHECK(num_quiet > 100'000);
}

TEST_CASE("choose_window_config: every real shape gets a config that covers it, or a reason") {
  int64_t covered = 0;
  for (const CsvRow& row : read_conformance("conv_shapes.csv")) {
    const ConvShape s = conv_shape(row);
    for (const Math math : {Math::tf32, Math::fp32})
      for (const bool is_packed : {false, true}) {
        std::string why;
        INFO(to_string(s), " ", std::string(to_string(math)));
        const auto chosen = choose_window_config(s, math, kNumSms, is_packed, INT64_MAX, &why);
        if (!chosen) {
          CHECK_FALSE(why.empty());
          continue;
        }
        ++covered;
        const WindowConfig& config = *chosen;
        const WindowTile& tile = kWindowTiles[config.tile];
        CHECK(config.smem_bytes <= kSmemBytes);
        CHECK(config.num_parts == (math == Math::fp32 ? 2 : 1));
        CHECK(int64_t{config.tiles_k} * tile.block_k() >= s.K);
        CHECK(int64_t{config.tiles_positions} * tile.block_positions() >= config.num_positions);
        CHECK(config.num_positions >= s.N * s.P() * s.Q());
        CHECK(int64_t{config.num_strips} * config.strip_w >= s.Q());
        CHECK(config.window_stages >= 2);
        CHECK(int64_t{config.num_steps} * kWindowStepTerms >= s.gemm_k());
        CHECK(config.is_packed == is_packed);
        CHECK((packed_x_bytes(s, config) > 0) == config.is_packed);
        CHECK(conv_scratch_bytes(s, config) >= packed_x_bytes(s, config) + conv_range_bytes(s.N));
        // The last window ends where packed x does.
        if (config.is_packed)
          CHECK(config.packed_positions ==
                int64_t{config.tiles_positions - 1} * tile.block_positions() + config.window);
      }
  }
  CHECK(covered > 2000);
}

TEST_CASE("choose_window_config: x is packed where an H100 was at least an eighth faster with it") {
  // 1x1 and 3x3 at stride 1 unless said otherwise; microseconds of the fastest tile, converted and packed.
  const auto square = [](int64_t N, int64_t C, int64_t size, int64_t K, int64_t filter, int64_t stride = 1) {
    const int64_t pad = filter / 2, end = stride == 1 ? pad : 0;
    return make_shape({N, C, size, size}, {K, filter, filter},
                      {.stride = stride, .padding = {pad, pad, end, end}});
  };
  const struct {
    ConvShape shape;
    Math math;
    double converted, packed;
  } measured[] = {{square(128, 4096, 7, 2048, 1), Math::tf32, 1091, 286},
                  {square(128, 4096, 7, 2048, 1), Math::fp32, 1512, 617},
                  {square(1, 2560, 20, 640, 1), Math::tf32, 70.5, 30.0},
                  {square(1, 2560, 20, 640, 1), Math::fp32, 87.2, 44.6},
                  {square(96, 832, 7, 256, 1), Math::tf32, 51.6, 31.1},
                  {square(22, 1280, 8, 384, 1), Math::fp32, 50.8, 31.7},
                  {square(32, 256, 38, 512, 3), Math::tf32, 309, 265},
                  {square(1, 1024, 128, 512, 1), Math::fp32, 275, 177},
                  {square(1, 160, 160, 320, 3, 2), Math::tf32, 67.2, 35.8},
                  {square(1, 160, 160, 320, 3, 2), Math::fp32, 101, 64.8},
                  {square(96, 192, 28, 96, 1), Math::tf32, 66.1, 74.8},
                  {square(96, 192, 28, 96, 1), Math::fp32, 86.0, 103},
                  {square(32, 32, 112, 64, 1), Math::tf32, 85.1, 98.2},
                  {square(32, 32, 112, 64, 1), Math::fp32, 97.2, 132},
                  {square(32, 1024, 19, 24, 3), Math::fp32, 140, 177},
                  {square(100, 256, 28, 81, 1), Math::fp32, 104, 129},
                  {square(64, 64, 50, 64, 3), Math::fp32, 134, 153}};
  for (const auto& [shape, math, converted, packed] : measured) {
    const auto predict = [&, &shape = shape, math = math](bool is_packed) {
      std::string why;
      const auto config = choose_window_config(shape, math, kNumSms, is_packed, int64_t{256} << 20, &why);
      return config ? config->predicted_us : INFINITY;
    };
    INFO(to_string(shape), " ", std::string(to_string(math)));
    CHECK((predict(true) < predict(false)) == (packed < converted));
    CHECK(predict(packed < converted) == doctest::Approx(std::min(packed, converted)).epsilon(0.25));
  }
}

TEST_CASE("choose_window_config: packed x keeps to the workspace") {
  std::string why;
  const ConvShape deep = make_shape({128, 4096, 7, 7}, {2048, 1, 1});
  const auto choose = [&](int64_t max_packed_bytes) {
    return choose_window_config(deep, Math::tf32, kNumSms, true, max_packed_bytes, &why);
  };
  const auto packed = choose(int64_t{256} << 20);
  REQUIRE(packed);
  // One float16 for each value, and what the last tile reads beyond the images.
  CHECK(packed_x_bytes(deep, *packed) >= 2 * deep.N * deep.C * 49);
  CHECK(packed_x_bytes(deep, *packed) <= 2 * (deep.N * 49 + 512) * deep.C);
  CHECK_FALSE(choose(packed_x_bytes(deep, *packed) / 2));
  CHECK(why.find("workspace") != std::string::npos);
  CHECK(choose_window_config(deep, Math::tf32, kNumSms, false, 0, &why));
}

TEST_CASE("plan_epilogue: every activation has a chain, with a residual before it, behind it or without") {
  ConvProblem problem{.shape = headline()};
  const ConvShape& s = problem.shape;
  const Shape out{s.N, s.K, s.P(), s.Q()};
  // By number: the bias, a residual, another one, a scalar.
  problem.operands = {{dense_view(nullptr, DType::float32, {s.K, 1, 1})},
                      {dense_view(nullptr, DType::float32, out)},
                      {dense_view(nullptr, DType::float32, out)},
                      {dense_view(nullptr, DType::float32, {})}};
  const auto add = [](uint8_t operand) {
    return Step{.op = Op::add, .source = Source::operand, .index = operand};
  };
  ConvEpilogue epilogue;
  const auto fits = [&](std::initializer_list<Step> steps) {
    problem.epilogue = {.num_operands = 4, .from_result = true};
    for (const Step& step : steps) problem.epilogue.push(step);
    problem.epilogue.push({.op = Op::store_output});
    return plan_epilogue(problem, &epilogue);
  };
  const auto plan = [&](std::initializer_list<Step> steps) {
    REQUIRE(fits(steps));
    return epilogue;
  };
  const Step mish{.op = Op::mish}, leaky{.op = Op::leaky_relu, .p = 0.2f};
  const struct {
    Step step;
    ConvChain chain;
  } activations[] = {{{.op = Op::relu}, ConvChain::relu},
                     {leaky, ConvChain::leaky_relu},
                     {{.op = Op::silu}, ConvChain::silu},
                     {mish, ConvChain::mish},
                     {{.op = Op::double_mish}, ConvChain::double_mish}};
  for (const auto& [step, chain] : activations) {
    INFO(std::string(to_string(step.op)));
    const ConvEpilogue alone = plan({add(0), step}), before = plan({add(0), add(1), step}),
                       behind = plan({add(0), step, add(2)}), no_bias = plan({step, add(1)});
    CHECK(alone.chain == chain);
    CHECK(alone.activation == chain);
    CHECK(alone.residual_at == ResidualAt::none);
    for (const ConvEpilogue* residual : {&before, &behind, &no_bias}) {
      CHECK(residual->chain == ConvChain::any);
      CHECK(residual->activation == chain);
      CHECK(residual->residual_at == (residual == &before ? ResidualAt::before : ResidualAt::after));
      CHECK(residual->residual_operand == (residual == &behind ? 2 : 1));
      CHECK(residual->bias_operand == (residual == &no_bias ? -1 : 0));
      CHECK(residual->slope == (chain == ConvChain::leaky_relu ? 0.2f : 0.0f));
    }
  }
  const ConvEpilogue plain = plan({add(0), add(1)}), twice = plan({add(1), mish, mish});
  CHECK(plain.chain == ConvChain::any);
  CHECK(plain.activation == ConvChain::bias);
  CHECK(twice.chain == ConvChain::any);
  CHECK(twice.activation == ConvChain::double_mish);
  CHECK(plan({add(0)}).chain == ConvChain::bias);
  CHECK(plan({}).chain == ConvChain::bias);
  float bias = 0;
  void* const addresses[] = {&bias, nullptr, nullptr, nullptr};
  CHECK(bound_epilogue(plan({add(0)}), addresses).bias == &bias);

  // Two residuals, one on each side or both in front; one between two activations; a scalar; a difference.
  CHECK_FALSE(fits({add(0), add(1), mish, add(2)}));
  CHECK_FALSE(fits({add(1), add(2), mish}));
  CHECK_FALSE(fits({mish, add(1), mish}));
  CHECK_FALSE(fits({add(0), mish, add(3)}));
  CHECK_FALSE(fits({add(0), {.op = Op::sub, .source = Source::operand, .index = 1}}));
  CHECK(epilogue.chain == ConvChain::bias);
  CHECK(epilogue.bias_operand == -1);
  // A residual that is not dense, a bias in 16 bits, two results.
  problem.operands[1].strides[3] = 2;
  CHECK_FALSE(fits({add(0), add(1)}));
  problem.operands[0].dtype = DType::float16;
  CHECK_FALSE(fits({add(0)}));
  CHECK_FALSE(fits({{.op = Op::store_output}, mish}));
}

TEST_CASE("plan_conv on the CPU: the one family there is, and a named one's reason") {
  const ConvShape shape = make_shape({1, 2, 5, 5}, {3, 3, 3});
  const ConvProblem problem = problem_of(shape, Math::fp32, {});
  const auto plan = plan_conv(problem, nullptr, "");
  CHECK(plan->words == "cpu, loops");
  CHECK_FALSE(plan->runs_epilogue);
  CHECK(plan_conv(problem, nullptr, "im2col")->words == "cpu, loops (im2col: runs on a GPU)");
  CHECK_ERROR(plan_conv(problem, nullptr, "fft"), invalid_argument, "fft", "rows", "cpu");
}

#if SOLDER_WITH_CUDA
TEST_CASE("plan_conv on a GPU before Hopper: mma, direct for depthwise, im2col for the rest, and why") {
  DeviceInfo ampere = h100();
  ampere.cc_major = 8;
  const ConvShape shape = headline();
  const Tensor w = uniform({shape.K, shape.C, shape.R, shape.S}, 1);
  for (const Math math : {Math::tf32, Math::fp32}) {
    const ConvProblem problem = problem_of(shape, math, w.floats());
    const auto plan = plan_conv(problem, &ampere, "");
    CHECK(runs_family(plan->words, "mma"));
    CHECK((plan->words.find("Hopper") != std::string::npos) == SOLDER_WITH_SM90);
    CHECK(plan->runs_epilogue);
    CHECK(static_cast<int64_t>(plan->pack(w.floats()).size()) > shape.K * shape.gemm_k() * 2);
    CHECK(plan->scratch_bytes <= problem.workspace_bytes);
  }
  DeviceInfo geforce = ampere;
  geforce.cc_minor = 6;
  CHECK(runs_family(plan_conv(problem_of(shape, Math::tf32, w.floats()), &geforce, "")->words, "mma"));
  CHECK(runs_family(plan_conv(problem_of(shape, Math::fp32, w.floats()), &geforce, "")->words, "im2col"));
  // Weights that are not known before the run.
  const auto general = plan_conv(problem_of(shape, Math::tf32, {}), &ampere, "");
  CHECK(runs_family(general->words, "im2col"));
  CHECK(general->packing.empty());
  CHECK(general->uses_cublas);
  const auto narrow = plan_conv(problem_of(shape, Math::tf32, w.floats()), &ampere, "im2col");
  CHECK_FALSE(narrow->packing.empty());
  CHECK(narrow->runs_epilogue);
  CHECK(narrow->uses_cublas);
  const auto exact = plan_conv(problem_of(shape, Math::fp32, w.floats()), &ampere, "im2col");
  CHECK(exact->packing.empty());
  CHECK(exact->runs_epilogue);
  // Weights that float32 could not hold scaled stay as they are.
  Tensor large = uniform({shape.K, shape.C, shape.R, shape.S}, 1);
  large.floats()[0] = 0x1p70f;
  CHECK(plan_conv(problem_of(shape, Math::tf32, large.floats()), &ampere, "im2col")->packing.empty());
  const ConvShape depthwise = make_shape({1, 8, 5, 5}, {16, 3, 3}, {.groups = 8});
  const auto direct = plan_conv(problem_of(depthwise, Math::tf32, w.floats().first(16 * 9)), &ampere, "");
  CHECK(runs_family(direct->words, "direct"));
  CHECK_FALSE(direct->uses_cublas);
  CHECK(direct->scratch_bytes == 0);
  ConvProblem poor = problem_of(shape, Math::tf32, w.floats());
  poor.node = "stem";
  poor.workspace_bytes = 1000;
  CHECK_ERROR(plan_conv(poor, &ampere, ""), invalid_argument, "stem", "90624", "1000");
}
#endif

#if SOLDER_WITH_SM90
TEST_CASE("plan_conv on Hopper: the fused families, each with its reason") {
  const ConvShape shape = headline();
  const Tensor w = uniform({shape.K, shape.C, shape.R, shape.S}, 1);
  const DeviceInfo device = h100();
  DeviceInfo ampere = device;
  ampere.cc_major = 8;
  const auto words = [&](const ConvProblem& problem, const char* family = "") {
    return plan_conv(problem, &device, family)->words;
  };
  const ConvProblem plain = problem_of(shape, Math::tf32, w.floats());
  CHECK(plan_conv(plain, &ampere, "")->words.find("Hopper") != std::string::npos);
  const auto fast = plan_conv(plain, &device, "");
  CHECK(runs_family(fast->words, "rows"));
  CHECK(fast->runs_epilogue);
  CHECK_FALSE(fast->packing.empty());
  CHECK_FALSE(fast->pack(w.floats()).empty());
  CHECK(fast->predicted_us == doctest::Approx(1320).epsilon(0.1));
  const auto exact = plan_conv(problem_of(shape, Math::fp32, w.floats()), &device, "");
  CHECK(runs_family(exact->words, "rows"));
  CHECK(exact->predicted_us == doctest::Approx(2770).epsilon(0.1));
  CHECK(plan_conv(problem_of(headline_case(1).shape, Math::tf32, w.floats()), &device, "")->predicted_us ==
        doctest::Approx(31).epsilon(0.1));

  const std::string unknown = words(problem_of(shape, Math::tf32, {}));
  CHECK(runs_family(unknown, "im2col"));
  CHECK(unknown.find("not a parameter") != std::string::npos);
  ConvShape grouped = shape;
  grouped.groups = 2;
  const std::string groups = words(problem_of(grouped, Math::tf32, w.floats().first(w.floats().size() / 2)));
  CHECK(runs_family(groups, "im2col"));
  CHECK(groups.find("rows+window+packed+mma: groups") != std::string::npos);
  Tensor infinite = uniform({shape.K, shape.C, shape.R, shape.S}, 1);
  infinite.floats()[9] = INFINITY;
  const std::string not_finite = words(problem_of(shape, Math::tf32, infinite.floats()));
  CHECK(runs_family(not_finite, "im2col"));
  CHECK(not_finite.find("channel 0 are not finite") != std::string::npos);

  // What has no chain runs as a pass of its own, which takes time.
  ConvProblem chain = plain;
  chain.epilogue = {.num_operands = 0, .from_result = true};
  for (const Op op : {Op::tanh, Op::square, Op::store_output}) chain.epilogue.push({.op = op});
  const auto split = plan_conv(chain, &device, "");
  CHECK(runs_family(split->words, "rows"));
  CHECK_FALSE(split->runs_epilogue);
  CHECK(split->predicted_us > fast->predicted_us + 1000);

  CHECK(runs_family(words(plain, "im2col"), "im2col"));
  CHECK(runs_family(words(plain, "window"), "window"));
  CHECK(runs_family(words(plain, "packed"), "im2col"));  // 537 MB of packed x
  CHECK(words(plain, "packed").find("packed: packed x") != std::string::npos);
  ConvProblem roomy = plain;
  roomy.workspace_bytes = int64_t{1} << 30;
  const auto packed = plan_conv(roomy, &device, "packed");
  CHECK(runs_family(packed->words, "packed"));
  CHECK(packed->scratch_bytes > 2 * shape.N * shape.C * shape.H * shape.W);

  const ConvShape deep = make_shape({4, 1024, 7, 7}, {512, 1, 1});
  const Tensor deep_w = uniform({deep.K, deep.C, 1, 1}, 1);
  CHECK(runs_family(words(problem_of(deep, Math::fp32, deep_w.floats())), "packed"));
}

TEST_CASE("plan_conv on Hopper: beside float32 x and y no family takes a residual that is scaled") {
  const DeviceInfo device = h100();
  const ConvShape s = make_shape({2, 512, 7, 7}, {2048, 1, 1});
  const std::vector<float> w(static_cast<size_t>(s.K * s.C), 1.0f);
  ConvProblem problem = problem_of(s, Math::tf32, w);
  problem.epilogue = {.num_operands = 1, .from_result = true};
  problem.epilogue.push({.op = Op::add, .source = Source::operand, .index = 0});
  problem.epilogue.push({.op = Op::store_output});
  problem.operands = {
      {own_view({{s.N, s.K, s.P(), s.Q()}, DType::float16}, Layout::channels_last), 0, {{s.K, 0}}}};
  for (const char* const family : {"", "nhwc", "im2col"}) {
    CAPTURE(family);
    std::string why;
    CHECK(plan_conv(problem, &device, family, &why) == nullptr);
    CHECK(why.find("scaled") != std::string::npos);
  }
}

TEST_CASE("plan_conv on Hopper: what each shape of conv_shapes.csv runs on") {
  const DeviceInfo device = h100();
  std::map<std::string, int> num_shapes;
  for (const CsvRow& row : read_conformance("conv_shapes.csv")) {
    const ConvShape s = conv_shape(row);
    const std::vector<float> w(static_cast<size_t>(s.K * s.gemm_k()), 1.0f);
    for (const Math math : {Math::tf32, Math::fp32}) {
      const std::string words = plan_conv(problem_of(s, math, w), &device, "")->words;
      ++num_shapes[str(to_string(math), " ", words.substr(0, words.find(',')))];
    }
  }
  // What the kernels' times on an H100 and, of tf32's nhwc and im2col, an H200 were balanced for; a change of the models
  // shows here.
  const std::map<std::string, int> expected{{"tf32 nhwc", 124},  {"tf32 rows", 1},     {"tf32 window", 73},
                                            {"tf32 packed", 91}, {"tf32 direct", 30},  {"tf32 im2col", 250},
                                            {"fp32 rows", 5},    {"fp32 window", 201}, {"fp32 packed", 298},
                                            {"fp32 mma", 11},    {"fp32 direct", 31},  {"fp32 im2col", 23}};
  for (const auto& [name, count] : num_shapes) {
    CAPTURE(name);
    CHECK(count == (expected.count(name) == 1 ? expected.at(name) : 0));
  }
}
#endif
