// The choices behind a convolution on a GPU: pure functions, so tested without one.

#include "conformance.h"
#include "graph/region.h"
#include "ops/conv_select.h"
#include "support.h"

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
  problem.operands = {{nullptr, DType::float32, {shape.N, shape.K, shape.P(), shape.Q()}}};
  problem.workspace_bytes = int64_t{256} << 20;
  return problem;
}

}  // namespace

TEST_CASE("choose_rows_config: the headline fills the card, and what it does not cover it says") {
  const auto config = choose_rows_config(headline(), kNumSms, kSmemBytes);
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
    CHECK_FALSE(choose_rows_config(shape, kNumSms, kSmemBytes, &why).has_value());
    CHECK(why.find(word) != std::string::npos);
  };
  refused([](ConvShape& s) { s.stride_h = 2; }, "stride");
  refused([](ConvShape& s) { s.groups = 2; }, "groups");
  refused([](ConvShape& s) { s.C = 65; }, "64 input channels");
  refused([](ConvShape& s) { s.K = 12; }, "eights");
  refused([](ConvShape& s) { s.R = s.S = 5; }, "shared memory");
  refused([](ConvShape& s) { s.dil_w = 5; }, "wide");
  refused([](ConvShape& s) { s.N = 0; }, "empty");

  ConvShape wide = headline();
  wide.W = 1000;
  const auto strips = choose_rows_config(wide, kNumSms, kSmemBytes);
  REQUIRE(strips.has_value());
  CHECK(strips->num_strips * strips->strip_cols >= wide.Q());
  CHECK(strips->strip_cols <= kRowsTileCols);
  CHECK(strips->strip_cols % 2 == 0);
}

TEST_CASE("choose_window_config: every real shape gets a config that covers it, or a reason") {
  int64_t covered = 0;
  for (const CsvRow& row : read_conformance("conv_shapes.csv")) {
    const ConvShape s = conv_shape(row);
    for (const Math math : {Math::tf32, Math::fp32}) {
      WindowConfig config;
      std::string why;
      INFO(to_string(s), " ", std::string(to_string(math)));
      if (!choose_window_config(s, math, kNumSms, &config, &why)) {
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
      CHECK(config == config);
    }
  }
  CHECK(covered > 1000);
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
  CHECK(choose(problem_of(shape, Math::fp32, w.floats()), h100()).kind == ConvPlan::Kind::window);

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
  CHECK(choose(asked, h100()).kind == ConvPlan::Kind::window);
#endif
}
