// The choices behind a convolution on a GPU: pure functions, so tested without one.

#include <algorithm>
#include <iterator>

#include "graph/region.h"
#include "ops/conv/kernels.h"
#include "ops/conv/range/range.h"
#include "tests/cases/conformance.h"
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
  return info;
}

ConvShape headline() { return {.N = 64, .C = 64, .H = 256, .W = 256, .K = 128, .R = 3, .S = 3}; }

ConvProblem problem_of(const ConvShape& shape, Math math, std::span<const float> weights) {
  ConvProblem problem{.node = "conv", .shape = shape, .math = math, .weights = weights};
  problem.program.push({.op = Op::double_mish});
  problem.program.push({.op = Op::store_output});
  problem.program.num_operands = 0;
  problem.program.from_result = true;
  problem.workspace_bytes = int64_t{256} << 20;
  return problem;
}

}  // namespace

TEST_CASE("choose_rows_config: the headline fills the card, and what it does not cover it says") {
  const auto config = choose_rows_config(headline(), Math::tf32, h100());
  REQUIRE(config.has_value());
  CHECK(config->num_blocks() == kNumSms);
  CHECK(config->num_strips == 1);
  CHECK(config->strip_cols == 254);
  CHECK(config->smem_bytes <= kSmemBytes);
  CHECK(config->efficiency > 0.98);
  CHECK(config->efficiency <= 1.0);

  const auto refused = [](auto change, const char* word) {
    ConvShape shape = headline();
    change(shape);
    std::string why;
    CAPTURE(word);
    CHECK_FALSE(choose_rows_config(shape, Math::tf32, h100(), &why).has_value());
    CHECK(why.find(word) != std::string::npos);
  };
  refused([](ConvShape& s) { s.stride_h = 2; }, "stride");
  refused([](ConvShape& s) { s.groups = 2; }, "groups");
  refused([](ConvShape& s) { s.C = 65; }, "64 input channels");
  refused([](ConvShape& s) { s.K = 12; }, "eights");
  refused([](ConvShape& s) { s.R = s.S = 5; }, "shared memory");
  refused([](ConvShape& s) { s.dil_w = 5; }, "wide");
  refused([](ConvShape& s) { s.N = 0; }, "empty");

  // fp32: the two blocks of a cluster share 64 output channels.
  const auto split = choose_rows_config(headline(), Math::fp32, h100());
  REQUIRE(split.has_value());
  CHECK(split->num_k_blocks == 2);
  CHECK(split->num_blocks() == kNumSms);
  CHECK(split->smem_bytes <= kSmemBytes);
  CHECK(rows_weight_bytes(headline(), *split) == 128 * (9 * 64 * 2 * 2 + 4));

  ConvShape wide = headline();
  wide.W = 1000;
  const auto strips = choose_rows_config(wide, Math::tf32, h100());
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
      for (const WindowInput input : {WindowInput::converted, WindowInput::packed}) {
        WindowConfig config;
        std::string why;
        INFO(to_string(s), " ", std::string(to_string(math)));
        if (!choose_window_config(s, math, kNumSms, input, INT64_MAX, &config, &why)) {
          CHECK_FALSE(why.empty());
          continue;
        }
        ++covered;
        const WindowTile& tile = kWindowTiles[config.tile];
        CHECK(config.smem_bytes <= kSmemBytes);
        CHECK(config.num_parts == (math == Math::fp32 ? 2 : 1));
        CHECK(int64_t{config.tiles_k} * tile.block_k() >= s.K);
        CHECK(int64_t{config.tiles_positions} * tile.block_positions() >= config.num_positions);
        CHECK(config.num_positions >= s.N * s.P() * s.Q());
        CHECK(int64_t{config.num_strips} * config.strip_w >= s.Q());
        CHECK(config.window_stages >= 2);
        CHECK(int64_t{config.num_steps} * kWindowStepTerms >= s.gemm_k());
        CHECK(config.is_packed == (input == WindowInput::packed));
        CHECK((packed_x_bytes(s, config) > 0) == config.is_packed);
        CHECK(window_scratch_bytes(s, config) >= packed_x_bytes(s, config) + conv_range_bytes(s.N));
        // The last window ends where packed x does.
        if (config.is_packed)
          CHECK(config.packed_positions ==
                int64_t{config.tiles_positions - 1} * tile.block_positions() + config.window);
      }
  }
  CHECK(covered > 2000);
}

TEST_CASE("choose_window_config: the automatic choice is the cheaper of converting and packing") {
  constexpr int64_t kWorkspace = int64_t{256} << 20;
  int64_t num_packed = 0, num_converted = 0;
  for (const CsvRow& row : read_conformance("conv_shapes.csv")) {
    const ConvShape s = conv_shape(row);
    for (const Math math : {Math::tf32, Math::fp32}) {
      const auto predict = [&](WindowInput input, WindowConfig* config) {
        std::string why;
        return choose_window_config(s, math, kNumSms, input, kWorkspace, config, &why) ? config->predicted_us
                                                                                       : INFINITY;
      };
      WindowConfig automatic, converted, packed;
      INFO(to_string(s), " ", std::string(to_string(math)));
      const double us = predict(WindowInput::automatic, &automatic);
      CHECK(us ==
            std::min(predict(WindowInput::converted, &converted), predict(WindowInput::packed, &packed)));
      if (us == INFINITY) continue;
      CHECK(automatic == (automatic.is_packed ? packed : converted));
      CHECK(packed_x_bytes(s, automatic) <= kWorkspace);
      ++(automatic.is_packed ? num_packed : num_converted);
    }
  }
  CHECK(num_packed > 100);
  CHECK(num_converted > 100);
}

TEST_CASE("choose_window_config: x is packed where an H100 was at least an eighth faster with it") {
  // 1x1 and 3x3 at stride 1 unless said otherwise; microseconds of the fastest tile, converted and packed.
  const auto square = [](int64_t N, int64_t C, int64_t size, int64_t K, int64_t filter, int64_t stride = 1) {
    const int64_t pad = filter / 2;
    return ConvShape{.N = N,
                     .C = C,
                     .H = size,
                     .W = size,
                     .K = K,
                     .R = filter,
                     .S = filter,
                     .stride_h = stride,
                     .stride_w = stride,
                     .pad_top = pad,
                     .pad_left = pad,
                     .pad_bottom = stride == 1 ? pad : 0,
                     .pad_right = stride == 1 ? pad : 0};
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
    WindowConfig config;
    std::string why;
    INFO(to_string(shape), " ", std::string(to_string(math)));
    REQUIRE(choose_window_config(shape, math, kNumSms, WindowInput::automatic, int64_t{256} << 20, &config,
                                 &why));
    CHECK(config.is_packed == (packed < converted));
    CHECK(config.predicted_us == doctest::Approx(std::min(packed, converted)).epsilon(0.25));
  }
}

TEST_CASE("choose_window_config: packed x keeps to the workspace") {
  const auto choose = [](const ConvShape& shape, int64_t max_packed_bytes) {
    WindowConfig config;
    std::string why;
    REQUIRE(choose_window_config(shape, Math::tf32, kNumSms, WindowInput::automatic, max_packed_bytes,
                                 &config, &why));
    return config;
  };
  const ConvShape deep{.N = 128, .C = 4096, .H = 7, .W = 7, .K = 2048, .R = 1, .S = 1};
  const WindowConfig packed = choose(deep, int64_t{256} << 20);
  CHECK(packed.is_packed);
  // One float16 for each value, and what the last tile reads beyond the images.
  CHECK(packed_x_bytes(deep, packed) >= 2 * deep.N * deep.C * 49);
  CHECK(packed_x_bytes(deep, packed) <= 2 * (deep.N * 49 + 512) * deep.C);
  CHECK_FALSE(choose(deep, packed_x_bytes(deep, packed) / 2).is_packed);
  CHECK_FALSE(choose(deep, 0).is_packed);

  WindowConfig config;
  std::string why;
  CHECK_FALSE(choose_window_config(deep, Math::tf32, kNumSms, WindowInput::packed, 1 << 20, &config, &why));
  CHECK(why.find("workspace") != std::string::npos);
}

TEST_CASE("plan_epilogue: every activation has a chain, with a residual before it, behind it or without") {
  const ConvShape shape = headline();
  const Shape out{shape.N, shape.K, shape.P(), shape.Q()};
  // By number: the bias, a residual, another one, a scalar.
  const std::vector<TensorView> operands{
      dense_view(nullptr, DType::float32, {shape.K, 1, 1}), dense_view(nullptr, DType::float32, out),
      dense_view(nullptr, DType::float32, out), dense_view(nullptr, DType::float32, {})};
  const auto add = [](uint8_t operand) {
    return Step{.op = Op::add, .source = Source::operand, .index = operand};
  };
  const auto plan = [&](std::initializer_list<Step> steps) {
    Program program{.from_result = true};
    program.num_operands = static_cast<int>(operands.size());
    for (const Step& step : steps) program.push(step);
    program.push({.op = Op::store_output});
    ConvEpilogue epilogue;
    REQUIRE(plan_epilogue(program, operands, shape, &epilogue));
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
    INFO(std::string(to_string(chain)));
    const ConvEpilogue alone = plan({add(0), step}), before = plan({add(0), add(1), step}),
                       behind = plan({add(0), step, add(2)}), no_bias = plan({step, add(1)});
    CHECK(alone.chain == chain);
    CHECK(alone.residual_operand == -1);
    for (const ConvEpilogue* residual : {&before, &behind, &no_bias}) {
      CHECK(residual->chain == ConvChain::residual);
      CHECK(residual->activation == chain);
      CHECK(residual->is_residual_last == (residual != &before));
      CHECK(residual->residual_operand == (residual == &behind ? 2 : 1));
      CHECK(residual->bias_operand == (residual == &no_bias ? -1 : 0));
      CHECK(residual->slope == (chain == ConvChain::leaky_relu ? 0.2f : 0.0f));
    }
  }
  const ConvEpilogue plain = plan({add(0), add(1)}), twice = plan({add(1), mish, mish});
  CHECK(plain.chain == ConvChain::residual);
  CHECK(plain.activation == ConvChain::bias);
  CHECK(twice.chain == ConvChain::residual);
  CHECK(twice.activation == ConvChain::double_mish);
  CHECK(plan({add(0)}).chain == ConvChain::bias);

  // Two residuals, one on each side or both in front; one between two activations; a scalar; a difference.
  for (const ConvEpilogue& other : {plan({add(0), add(1), mish, add(2)}), plan({add(1), add(2), mish}),
                                    plan({mish, add(1), mish}), plan({add(0), mish, add(3)}),
                                    plan({add(0), {.op = Op::sub, .source = Source::operand, .index = 1}})}) {
    CHECK(other.chain == ConvChain::interpreted);
    CHECK(other.bias_operand == -1);
  }
}

TEST_CASE("choose_conv_plan: rows, window or im2col, each with its reason") {
  const ConvShape shape = headline();
  const Tensor w = uniform({shape.K, shape.C, shape.R, shape.S}, 1);
  std::vector<std::byte> packed;
  const auto choose = [&](const ConvProblem& problem, const DeviceInfo& device) {
    return choose_conv_plan(problem, device, &packed);
  };
  DeviceInfo ampere = h100();
  ampere.cc_major = 8;
  const ConvPlan old_gpu = choose(problem_of(shape, Math::tf32, w.floats()), ampere);
  CHECK(old_gpu.kind == ConvPlan::Kind::im2col);
  CHECK(packed.empty());
  CHECK(old_gpu.needs_pass());
#if SOLDER_WITH_SM90
  CHECK(old_gpu.path.find("Hopper") != std::string::npos);
  const ConvPlan fast = choose(problem_of(shape, Math::tf32, w.floats()), h100());
  CHECK(fast.kind == ConvPlan::Kind::rows);
  CHECK(fast.fused_epilogue);
  CHECK_FALSE(packed.empty());
  CHECK(choose(problem_of(shape, Math::fp32, w.floats()), h100()).kind == ConvPlan::Kind::rows);

  CHECK(choose(problem_of(shape, Math::tf32, {}), h100()).path.find("not a parameter") != std::string::npos);
  ConvShape grouped = shape;
  grouped.groups = 2;
  const ConvPlan groups =
      choose(problem_of(grouped, Math::tf32, w.floats().first(w.floats().size() / 2)), h100());
  CHECK(groups.kind == ConvPlan::Kind::im2col);
  CHECK(groups.path.find("groups") != std::string::npos);
  Tensor infinite = uniform({shape.K, shape.C, shape.R, shape.S}, 1);
  infinite.floats()[9] = INFINITY;
  CHECK(choose(problem_of(shape, Math::tf32, infinite.floats()), h100()).kind == ConvPlan::Kind::im2col);

  // A chain that would be interpreted in the epilogue runs as a pass of its own.
  ConvProblem chain = problem_of(shape, Math::tf32, w.floats());
  chain.program = {};
  chain.program.push({.op = Op::tanh});
  chain.program.push({.op = Op::square});
  chain.program.push({.op = Op::store_output});
  const ConvPlan split = choose(chain, h100());
  CHECK(split.kind == ConvPlan::Kind::rows);
  CHECK(split.needs_pass());

  ConvProblem asked = problem_of(shape, Math::tf32, w.floats());
  asked.algorithm = ConvAlgorithm::im2col;
  CHECK(choose(asked, h100()).kind == ConvPlan::Kind::im2col);
  asked.algorithm = ConvAlgorithm::window;
  const ConvPlan converted = choose(asked, h100());
  CHECK(converted.kind == ConvPlan::Kind::window);
  CHECK_FALSE(converted.window.is_packed);
  asked.algorithm = ConvAlgorithm::packed;
  CHECK(choose(asked, h100()).kind == ConvPlan::Kind::im2col);  // 537 MB of packed x
  asked.workspace_bytes = int64_t{1} << 30;
  const ConvPlan with_packed_x = choose(asked, h100());
  CHECK(with_packed_x.window.is_packed);
  CHECK(with_packed_x.scratch_bytes == window_scratch_bytes(shape, with_packed_x.window));
  CHECK(with_packed_x.scratch_bytes > 2 * shape.N * shape.C * shape.H * shape.W);

  const ConvShape deep{.N = 4, .C = 1024, .H = 7, .W = 7, .K = 512, .R = 1, .S = 1};
  const Tensor deep_w = uniform({deep.K, deep.C, 1, 1}, 1);
  const ConvPlan by_itself = choose(problem_of(deep, Math::fp32, deep_w.floats()), h100());
  CHECK(by_itself.kind == ConvPlan::Kind::window);
  CHECK(by_itself.window.is_packed);
  CHECK(by_itself.path.starts_with("packed window kernel"));
#endif
}
