// Convolutions whose tensors are parts of wider ones: x a slice of channels, y a part of a concatenation, the
// residual either. Each family gives the bits that it gives on dense tensors, reads none of x's gaps and writes
// none of y's.

#include <algorithm>
#include <map>

#include "ops/conv/epilogue/epilogue.h"
#include "ops/conv/kernels.h"
#include "runtime/context.h"
#include "tests/cases/conv_cases.h"
#include "tests/support/conv_weights.h"
#include "tests/support/oracle.h"
#include "tests/support/support.h"

using namespace solder;
using namespace solder::test;

namespace {

// How tensors lie: elements before the first image and after each, beyond the dense ones.
struct Gaps {
  const char* name;
  int64_t first_x, x, first_y, y, first_residual, residual;
};

// Channels of one wider tensor each; pairs that are aligned in y alone, as rows wants it; nothing aligned.
std::vector<Gaps> gaps_of(const ConvShape& s) {
  const int64_t x = s.H * s.W, y = s.gemm_n();
  return {{"channels", x, 2 * x, 2 * y, 3 * y, y, y}, {"odd x", 1, 3, 2, 6, 4, 2}, {"odd", 3, 5, 1, 7, 3, 1}};
}

constexpr Gaps kDense{"dense", 0, 0, 0, 0, 0, 0};

// The chains of fused kernels: an activation, with and without a residual.
Program epilogue_program(ResidualAt residual) {
  const auto add = [](uint8_t operand) {
    return Step{.op = Op::add, .source = Source::operand, .index = operand};
  };
  Program program{.num_operands = 2, .from_result = true};
  program.push(add(0));
  if (residual == ResidualAt::before) program.push(add(1));
  program.push({.op = residual == ResidualAt::none ? Op::double_mish : Op::relu});
  if (residual == ResidualAt::after) program.push(add(1));
  program.push({.op = Op::store_output});
  return program;
}

struct Data {
  Tensor x, w, b, residual;
};

Data draw(const ConvShape& s, uint64_t seed) {
  return {uniform({s.N, s.C, s.H, s.W}, seed, -2, 2), uniform({s.K, s.C / s.groups, s.R, s.S}, seed + 1),
          uniform({s.K}, seed + 2), uniform({s.N, s.K, s.P(), s.Q()}, seed + 3)};
}

ConvProblem problem_of(const ConvShape& s, Math math, const Data& data, ResidualAt residual, const Gaps& gaps,
                       int64_t workspace_bytes) {
  ConvProblem problem{.node = "conv",
                      .shape = s,
                      .math = math,
                      .x = {dense_view(nullptr, DType::float32, {s.N, s.C, s.H, s.W})},
                      .y = {dense_view(nullptr, DType::float32, {s.N, s.K, s.P(), s.Q()})},
                      .epilogue = epilogue_program(residual),
                      .weights = known_weights(data.w.floats(), s.K),
                      .workspace_bytes = workspace_bytes};
  problem.operands = {{dense_view(nullptr, DType::float32, {s.K, 1, 1})}, {problem.y}};
  problem.x.strides[0] += gaps.x;
  problem.y.strides[0] += gaps.y;
  problem.operands[1].strides[0] += gaps.residual;
  return problem;
}

// `images` of `elems` elements each, `first` and then `gap` elements of `filler` between them and at the end.
std::vector<float> spread(std::span<const float> images, int64_t elems, int64_t first, int64_t gap,
                          float filler) {
  std::vector<float> memory(static_cast<size_t>(first), filler);
  for (size_t at = 0; at < images.size(); at += static_cast<size_t>(elems)) {
    const auto image = images.subspan(at, static_cast<size_t>(elems));
    memory.insert(memory.end(), image.begin(), image.end());
    memory.insert(memory.end(), static_cast<size_t>(gap), filler);
  }
  return memory;
}

// The images of y out of what spread() would have made; checks that the rest is still `filler`.
Tensor gather(const Tensor& memory, const ConvShape& s, const Gaps& gaps, float filler) {
  const int64_t elems = s.K * s.gemm_n(), stride = elems + gaps.y;
  Tensor y = Tensor::empty({s.N, s.K, s.P(), s.Q()});
  int64_t num_changed = 0;
  for (int64_t i = 0; i < memory.num_elems(); ++i) {
    const float value = memory.floats()[static_cast<size_t>(i)];
    const int64_t at = i - gaps.first_y, n = at / stride;
    if (at >= 0 && at % stride < elems)
      y.floats()[static_cast<size_t>(n * elems + at % stride)] = value;
    else
      num_changed += bits_of(value) != bits_of(filler);
  }
  CHECK(num_changed == 0);
  return y;
}

// Runs a plan on tensors that lie as `gaps` says: NaN in what must not be read, and in y until it is written.
Tensor run_plan(const ConvPlan& plan, Device device, const Context* context, const ConvShape& s,
                const Data& data, const Gaps& gaps) {
  constexpr float kFiller = 12345.75f;
  const int64_t x_elems = s.C * s.H * s.W, y_elems = s.K * s.gemm_n();
  std::vector<Tensor> memory;  // keeps what is on the device
  const auto place = [&](std::span<const float> values) {
    memory.push_back(Tensor::from({static_cast<int64_t>(values.size())}, values).to(device));
    return static_cast<float*>(memory.back().data());
  };
  ConvTensors t;
  t.x = place(spread(data.x.floats(), x_elems, gaps.first_x, gaps.x, NAN)) + gaps.first_x;
  t.w = place(data.w.floats());
  float* const residual =
      place(spread(data.residual.floats(), y_elems, gaps.first_residual, gaps.residual, NAN));
  t.operands = {place(data.b.floats()), residual + gaps.first_residual};
  const std::vector<std::byte> weights = plan.pack(data.w.floats());
  const Tensor packed = Tensor::empty({static_cast<int64_t>(weights.size() / 4)});
  std::copy(weights.begin(), weights.end(), static_cast<std::byte*>(packed.data()));
  memory.push_back(packed.to(device));
  t.packed = memory.back().data();
  memory.push_back(Tensor::empty({(plan.scratch_bytes + 3) / 4}, DType::float32, device));
  t.scratch = memory.back().data();
  const std::vector<float> blank(static_cast<size_t>(s.N * y_elems), NAN);
  t.y = place(spread(blank, y_elems, gaps.first_y, gaps.y, kFiller)) + gaps.first_y;
  plan.enqueue(context, t);
#if SOLDER_WITH_CUDA
  if (context != nullptr) context->synchronize();
#endif
  return gather(memory.back().to(Device::cpu()), s, gaps, kFiller);
}

// A device to plan for and run on; no context and no info on the CPU.
struct Target {
  Device device;
  const Context* context = nullptr;
  const DeviceInfo* info = nullptr;
};

// Runs the case densely and with all gaps, by each of the families that covers it; counts the strided runs.
void check_case(const Target& target, const std::vector<std::string>& families, const ConvShape& s,
                const Data& data, ResidualAt residual, int64_t workspace_bytes,
                std::map<std::string, int>& num_runs) {
  for (const Math math : {Math::fp32, Math::tf32})
    for (const std::string& family : families) {
      const auto plan_with = [&](const Gaps& gaps) {
        return plan_conv(problem_of(s, math, data, residual, gaps, workspace_bytes), target.info, family);
      };
      const auto dense = plan_with(kDense);
      if (!runs_family(dense->words, family)) continue;
      const Tensor expected = run_plan(*dense, target.device, target.context, s, data, kDense);
      for (const Gaps& gaps : gaps_of(s)) {
        const auto plan = plan_with(gaps);
        INFO(gaps.name, ", ", std::string(to_string(math)), ", ", plan->words, ", residual ",
             static_cast<int>(residual));
        const bool refuses = family == "rows" && gaps.y % 2 != 0;
        CHECK(runs_family(plan->words, family) == !refuses);
        if (!runs_family(plan->words, family)) continue;
        CHECK(plan->runs_epilogue == dense->runs_epilogue);
        CHECK(plan->scratch_bytes == dense->scratch_bytes);
        const Tensor y = run_plan(*plan, target.device, target.context, s, data, gaps);
        // Where cuBLAS gets x itself it may choose another kernel for other alignments.
        if (plan->uses_cublas && plan->scratch_bytes == 0)
          CHECK(worst_conv_error(math, s, data.x.floats(), data.w.floats(), {}, y.floats(), true, 2000) <= 1);
        else
          CHECK(same_bits(y, expected));
        ++num_runs[family];
      }
    }
}

// Images that each take another way through the range guard: as drawn, with one value far above the rest, with
// infinity and NaN.
void spoil(const ConvShape& s, Data& data) {
  const int64_t elems = s.C * s.H * s.W;
  const auto at = [&](int64_t n, int64_t i) -> float& {
    return data.x.floats()[static_cast<size_t>(n * elems + i)];
  };
  at(s.N - 1, elems / 2) = 1e20f;
  if (s.N > 2) at(0, elems / 3) = INFINITY, at(0, elems - 1) = NAN;
}

void check_device(const Target& target) {
  std::vector<std::string> families = conv_family_names(target.device);
  std::erase(families, "");
  std::map<std::string, int> num_runs;
  uint64_t seed = 1;
  for (const ConvCase& c : conv_cases()) {
    const std::string& name = c.name;
    const ConvShape& s = c.shape;
    const bool is_slow = !target.device.is_cuda() || (is_sanitized() && !c.is_hard);
    if (s.N < 2 || (is_slow && c.is_large())) continue;
    CAPTURE(name);
    constexpr int64_t kWorkspace = int64_t{64} << 20, kSmall = 200 << 10;
    Data data = draw(s, seed += 4);
    for (const ResidualAt residual : {ResidualAt::none, ResidualAt::before, ResidualAt::after})
      check_case(target, families, s, data, residual, kWorkspace, num_runs);
    if (target.device.is_cuda() &&
        (s.C * s.R * s.S + s.K + 8) * 32 * 4 + 1024 <= kSmall)  // several chunks of columns
      check_case(target, {"im2col"}, s, data, ResidualAt::none, kSmall, num_runs);
    spoil(s, data);
    check_case(target, families, s, data, ResidualAt::after, kWorkspace, num_runs);
  }
  for (const std::string& family : families) {
    CAPTURE(family);
    CHECK(num_runs[family] > 0);
  }
}

}  // namespace

GPU_TEST_CASE("conv2d, strided: by every family on a GPU, the bits of dense tensors and not one in a gap") {
#if SOLDER_WITH_CUDA
  Context context(Device::cuda(0));
  context.create_cublas(Context::kDefaultCublasWorkspaceBytes);
  check_device({Device::cuda(0), &context, &context.info()});
#else
  check_device({Device::cuda(0)});
#endif
}

TEST_CASE("conv2d, strided: on the CPU, the bits of dense tensors and not one in a gap") {
  check_device({Device::cpu()});
}

TEST_CASE("ConvProblem: plain are float32 tensors with dense images, of which the distances count") {
  const ConvShape s = make_shape({2, 3, 5, 7}, {4, 3, 3});
  const ConvProblem dense = problem_of(s, Math::fp32, draw(s, 1), ResidualAt::none, kDense, 0);
  CHECK(dense.has_plain_tensors());
  CHECK(dense.strides() == ConvStrides{3 * 5 * 7, 4 * 3 * 5});
  ConvProblem spread = dense;
  spread.x.strides[0] = 1000, spread.y.strides[0] = 61;
  CHECK(spread.has_plain_tensors());
  CHECK(spread.strides() == ConvStrides{1000, 61});
  spread.shape.N = 1;
  CHECK(spread.strides() == ConvStrides{3 * 5 * 7, 4 * 3 * 5});
  const auto is_plain_with = [&](auto change) {
    ConvProblem changed = dense;
    change(changed);
    return changed.has_plain_tensors();
  };
  CHECK_FALSE(is_plain_with([](ConvProblem& p) { p.x.dtype = DType::float16; }));
  CHECK_FALSE(is_plain_with([](ConvProblem& p) { p.y.dtype = DType::bfloat16; }));
  CHECK_FALSE(is_plain_with([](ConvProblem& p) { p.x.strides = {3 * 5 * 7, 1, 3 * 7, 3}; }));
  CHECK_FALSE(is_plain_with([](ConvProblem& p) { p.y.strides = {4 * 3 * 5, 1, 4 * 5, 4}; }));
  CHECK_FALSE(is_plain_with([](ConvProblem& p) { p.more_outputs = {p.y}; }));
}

TEST_CASE("plan_conv: distances between images that cannot be are refused, naming the node") {
  const ConvShape s = make_shape({2, 3, 5, 7}, {4, 3, 3});
  const auto plan = [&](int64_t x, int64_t y) {
    ConvProblem problem = problem_of(s, Math::fp32, draw(s, 1), ResidualAt::none, kDense, 0);
    problem.node = "stem", problem.x.strides[0] = x, problem.y.strides[0] = y;
    plan_conv(problem, nullptr, "");
  };
  CHECK_ERROR(plan(105, 59), invalid_argument, "stem", "images of y", "59", "60", "[2, 3, 5, 7]");
  CHECK_ERROR(plan(-1, 60), invalid_argument, "stem", "images of x", "-1");
  CHECK_ERROR(plan(105, int64_t{1} << 61), invalid_argument, "images of y");
}

TEST_CASE("plan_conv: tensors that no family takes as they lie have no plan, and each says why") {
  const ConvShape s = make_shape({2, 3, 5, 7}, {4, 3, 3});
  ConvProblem problem = problem_of(s, Math::fp32, draw(s, 1), ResidualAt::none, kDense, 0);
  problem.x.dtype = DType::float16;
  std::string why_not;
  CHECK(plan_conv(problem, nullptr, "", &why_not) == nullptr);
  CHECK(why_not.find("cpu: takes float32") != std::string::npos);
  CHECK(plan_conv(problem, nullptr, "rows") == nullptr);
}

TEST_CASE("plan_epilogue: a residual's images may lie any distance apart, but must be dense") {
  const ConvShape s = make_shape({2, 64, 5, 8}, {16, 3, 3});
  const Shape y{s.N, s.K, s.P(), s.Q()};
  const Data data = draw(s, 1);
  ConvProblem problem = problem_of(s, Math::tf32, data, ResidualAt::after, kDense, 0);
  ConvEpilogue epilogue;
  for (const int64_t stride : {16 * 3 * 6, 16 * 3 * 6 + 5, 0}) {
    CAPTURE(stride);
    problem.operands[1].strides[0] = stride;
    CHECK(plan_epilogue(problem, &epilogue));
    CHECK(epilogue.residual_image == stride);
    CHECK(epilogue.residual_operand == 1);
  }
  for (const size_t axis : {1, 2, 3}) {
    CAPTURE(axis);
    problem.operands[1].strides = dense_strides(y);
    problem.operands[1].strides[axis] += 1;
    CHECK_FALSE(plan_epilogue(problem, &epilogue));
  }
  // Of one image, with all axes or without the first.
  problem.shape.N = 1;
  problem.operands[1] = {dense_view(nullptr, DType::float32, {1, s.K, s.P(), s.Q()})};
  problem.operands[1].strides[0] = 7;
  CHECK(plan_epilogue(problem, &epilogue));
  CHECK(epilogue.residual_image == 0);
  problem.operands[1] = {dense_view(nullptr, DType::float32, {s.K, s.P(), s.Q()})};
  CHECK(plan_epilogue(problem, &epilogue));
  problem.operands[1].strides[0] += 2;
  CHECK_FALSE(plan_epilogue(problem, &epilogue));
}

#if SOLDER_WITH_SM90
TEST_CASE("plan_conv on Hopper: strides change no plan, but that rows takes no odd ones") {
  DeviceInfo device;
  device.cc_major = 9, device.num_sms = 132, device.smem_per_block_bytes = 232448;
  const ConvShape s = make_shape({3, 64, 10, 256}, {128, 3, 3});
  const Data data = draw(s, 1);
  const auto plan = [&](const Gaps& gaps, const char* family) {
    return plan_conv(problem_of(s, Math::tf32, data, ResidualAt::after, gaps, int64_t{64} << 20), &device,
                     family);
  };
  for (const ConvFamily& family : conv_families()) {
    if (!family.on_gpu || std::string_view(family.name) == "direct") continue;
    CAPTURE(family.name);
    const auto dense = plan(kDense, family.name), even = plan({"", 0, 3, 0, 2, 0, 2}, family.name);
    CHECK(even->words == dense->words);
    CHECK(even->runs_epilogue == dense->runs_epilogue);
    CHECK(even->packing == dense->packing);
  }
  for (const Gaps& odd : {Gaps{"", 0, 0, 0, 1, 0, 0}, Gaps{"", 0, 0, 0, 0, 0, 1}}) {
    CHECK(plan(odd, "rows")->words.find("rows: y or a residual lies at odd elements") != std::string::npos);
    for (const char* family : {"window", "packed", ""}) {
      const auto other = plan(odd, family);
      CHECK(runs_family(other->words, family));
      CHECK_FALSE(runs_family(other->words, "rows"));
      CHECK(other->runs_epilogue);
    }
  }
}
#endif
