#include "ops/conv/im2col/im2col.h"
#include "tests/cases/conformance.h"
#include "tests/support/oracle.h"
#include "tests/support/support.h"

using namespace solder;
using namespace solder::test;

namespace {

// Geometry from the fields that differ from a plain 3x3.
std::vector<ConvShape> conv_cases() {
  return {
      {.N = 2, .C = 3, .H = 9, .W = 11, .K = 5, .R = 3, .S = 3},
      {.N = 1, .C = 1, .H = 1, .W = 1, .K = 1, .R = 1, .S = 1},
      {.N = 3, .C = 4, .H = 7, .W = 5, .K = 6, .R = 1, .S = 1},
      {.N = 2, .C = 16, .H = 8, .W = 8, .K = 8, .R = 1, .S = 1, .stride_h = 2, .stride_w = 2},
      {.N = 1,
       .C = 3,
       .H = 20,
       .W = 18,
       .K = 8,
       .R = 7,
       .S = 7,
       .stride_h = 2,
       .stride_w = 2,
       .pad_top = 3,
       .pad_left = 3,
       .pad_bottom = 3,
       .pad_right = 3},
      {.N = 2,
       .C = 2,
       .H = 12,
       .W = 13,
       .K = 3,
       .R = 5,
       .S = 5,
       .pad_top = 2,
       .pad_left = 2,
       .pad_bottom = 2,
       .pad_right = 2},
      {.N = 1,
       .C = 4,
       .H = 15,
       .W = 14,
       .K = 4,
       .R = 3,
       .S = 3,
       .dil_h = 2,
       .dil_w = 3,
       .pad_top = 2,
       .pad_left = 3,
       .pad_bottom = 2,
       .pad_right = 3},
      {.N = 2,
       .C = 3,
       .H = 10,
       .W = 9,
       .K = 4,
       .R = 3,
       .S = 2,
       .stride_h = 2,
       .stride_w = 3,
       .pad_top = 0,
       .pad_left = 1,
       .pad_bottom = 3,
       .pad_right = 2},
      {.N = 1,
       .C = 3,
       .H = 12,
       .W = 12,
       .K = 4,
       .R = 3,
       .S = 3,
       .pad_top = -2,
       .pad_left = -1,
       .pad_bottom = 1,
       .pad_right = -3},
      {.N = 2,
       .C = 8,
       .H = 9,
       .W = 9,
       .K = 12,
       .R = 3,
       .S = 3,
       .groups = 4,
       .pad_top = 1,
       .pad_left = 1,
       .pad_bottom = 1,
       .pad_right = 1},
      {.N = 2,
       .C = 6,
       .H = 11,
       .W = 10,
       .K = 6,
       .R = 3,
       .S = 3,
       .groups = 6,
       .stride_h = 2,
       .stride_w = 1,
       .pad_top = 1,
       .pad_left = 1,
       .pad_bottom = 1,
       .pad_right = 1},
      {.N = 1, .C = 3, .H = 8, .W = 8, .K = 9, .R = 3, .S = 3, .groups = 3},
      {.N = 2, .C = 8, .H = 6, .W = 6, .K = 4, .R = 1, .S = 1, .groups = 2},
      {.N = 1, .C = 2, .H = 5, .W = 40, .K = 3, .R = 1, .S = 9, .pad_left = 20, .pad_right = 20},
      {.N = 0, .C = 2, .H = 5, .W = 5, .K = 3, .R = 3, .S = 3},
      {.N = 1,
       .C = 33,
       .H = 17,
       .W = 19,
       .K = 31,
       .R = 3,
       .S = 3,
       .pad_top = 1,
       .pad_left = 1,
       .pad_bottom = 1,
       .pad_right = 1},
      {.N = 1, .C = 64, .H = 34, .W = 34, .K = 128, .R = 3, .S = 3},
  };
}

// Compares every output with float64; the count out of bound.
int64_t count_bad(const ConvShape& s, Math math, const Tensor& x, const Tensor& w, const Tensor* bias,
                  const Tensor& y) {
  int64_t bad = 0, i = 0;
  for (int64_t n = 0; n < s.N; ++n) {
    double largest = 0;
    const int64_t image = s.C * s.H * s.W;
    for (int64_t j = 0; j < image; ++j)
      largest = std::max(largest, std::abs(double{x.floats()[static_cast<size_t>(n * image + j)]}));
    for (int64_t k = 0; k < s.K; ++k) {
      for (int64_t p = 0; p < s.P(); ++p) {
        for (int64_t q = 0; q < s.Q(); ++q, ++i) {
          const ConvOutput exact = conv_oracle(s, x.floats(), w.floats(), n, k, p, q);
          const double b = bias != nullptr ? bias->floats()[static_cast<size_t>(k)] : 0.0;
          const double bound = conv_bound(math, s, exact, largest) + 0x1p-24 * std::abs(exact.value + b);
          if (!(std::abs(y.floats()[static_cast<size_t>(i)] - (exact.value + b)) <= bound)) ++bad;
        }
      }
    }
  }
  return bad;
}

}  // namespace

TEST_CASE("conv2d: every geometry against float64, with and without bias, in both math modes") {
  uint64_t seed = 100;
  for (const ConvShape& s : conv_cases()) {
    const Tensor x = uniform({s.N, s.C, s.H, s.W}, ++seed),
                 w = uniform({s.K, s.C / s.groups, s.R, s.S}, ++seed), b = uniform({s.K}, ++seed);
    for (const Device device : devices()) {
      for (const Math math : {Math::fp32, Math::tf32}) {
        for (const bool bias : {false, true}) {
          const TensorMap weights{{"w", w}, {"b", b}};
          const Tensor y = run(conv_graph(s, bias), weights, {{"x", x}}, {.device = device, .math = math});
          INFO(to_string(s), " on ", to_string(device), ", ", std::string(to_string(math)),
               bias ? ", bias" : "");
          CHECK(count_bad(s, math, x, w, bias ? &b : nullptr, y) == 0);
        }
      }
    }
  }
}

GPU_TEST_CASE("conv2d: a small workspace cuts the columns into chunks and changes nothing") {
  uint64_t seed = 300;
  for (const ConvShape& s : conv_cases()) {
    if (s.groups == s.C) continue;
    const Tensor x = uniform({s.N, s.C, s.H, s.W}, ++seed),
                 w = uniform({s.K, s.C / s.groups, s.R, s.S}, ++seed);
    for (const int64_t workspace : {200 << 10, 1 << 20}) {
      const Tensor y = run(conv_graph(s, false), {{"w", w}}, {{"x", x}},
                           {.device = Device::cuda(0), .workspace_bytes = workspace});
      INFO(to_string(s), " with ", workspace, " bytes");
      CHECK(count_bad(s, Math::fp32, x, w, nullptr, y) == 0);
    }
  }
}

TEST_CASE(
    "choose_im2col_plan: within budget, whole images where they fit, refusal that says what is needed") {
  const ConvShape headline{.N = 64, .C = 64, .H = 256, .W = 256, .K = 128, .R = 3, .S = 3};
  constexpr int64_t kMiB = 1 << 20;
  for (const int64_t target : {1 * kMiB, 20 * kMiB, 1024 * kMiB}) {
    for (const int64_t budget : {2 * kMiB, 224 * kMiB, 4096 * kMiB}) {
      const Im2colPlan plan = choose_im2col_plan(headline, budget, target, "conv");
      CHECK(plan.kind == Im2colPlan::Kind::columns);
      CHECK(plan.workspace_bytes <= budget);
      CHECK(plan.workspace_bytes <= std::max<int64_t>(target, 32 * 576 * 4));
      CHECK(plan.workspace_bytes == plan.images_per_gemm * plan.pixels_per_gemm * 576 * 4);
      CHECK((plan.images_per_gemm == 1 || plan.pixels_per_gemm == headline.gemm_n()));
    }
  }
  CHECK(choose_im2col_plan(headline, 4096 * kMiB, 600 * kMiB, "conv").images_per_gemm == 4);
  CHECK_ERROR(choose_im2col_plan(headline, 1000, 1000, "stem"), invalid_argument, "stem", "73728", "1000");
  ConvShape pointwise{.N = 4, .C = 8, .H = 5, .W = 5, .K = 4, .R = 1, .S = 1};
  CHECK(choose_im2col_plan(pointwise, 0, 0, "c").kind == Im2colPlan::Kind::pointwise);
  pointwise.pad_left = 1;
  CHECK(choose_im2col_plan(pointwise, kMiB, kMiB, "c").kind == Im2colPlan::Kind::columns);
  const ConvShape depthwise{.N = 1, .C = 8, .H = 5, .W = 5, .K = 16, .R = 3, .S = 3, .groups = 8};
  CHECK(choose_im2col_plan(depthwise, 0, 0, "c").kind == Im2colPlan::Kind::direct);
}

TEST_CASE("conv2d: what has no meaning is refused, naming the node, and the graph is as it was") {
  Graph g;
  const Value x = g.input("x", {2, 8, 10, 10});
  const Value w = g.parameter("w", {6, 8, 3, 3});
  const Value b = g.parameter("b", {6});
  const Graph before = g;
  CHECK_ERROR(g.conv2d(x, w, {.stride = 0, .name = "stem"}), invalid_argument, "stem", "stride");
  CHECK_ERROR(g.conv2d(x, w, {.stride = {1, -2}}), invalid_argument, "conv2d_3", "stride");
  CHECK_ERROR(g.conv2d(x, w, {.dilation = 0}), invalid_argument, "dilation");
  CHECK_ERROR(g.conv2d(x, w, {.groups = 0}), invalid_argument, "groups");
  CHECK_ERROR(g.conv2d(x, w, {.groups = 3}), shape_mismatch, "groups 3", "8", "6");
  CHECK_ERROR(g.conv2d(x, w, {.groups = 2}), shape_mismatch, "[6, 8, 3, 3]", "[K, 4, R, S]");
  CHECK_ERROR(g.conv2d(x, w, {.dilation = 5}), shape_mismatch, "11 rows", "10");
  CHECK_ERROR(g.conv2d(x, w, {.padding = -4}), shape_mismatch, "3 rows", "2");
  CHECK_ERROR(g.conv2d(x, w, {.padding = int64_t{1} << 40}), unsupported, "padding");
  CHECK_ERROR(g.conv2d(x, b), shape_mismatch, "[6]", "[K, C / groups, R, S]");
  CHECK_ERROR(g.conv2d(b, w), shape_mismatch, "[N, C, H, W]");
  CHECK_ERROR(g.conv2d(x, w, w), shape_mismatch, "bias", "[6]");
  CHECK_ERROR(g.conv2d(x, Value{99, 0}), invalid_argument, "not of this graph");
  CHECK(g == before);
  CHECK(g.type(g.conv2d(x, w, b, {.stride = 2, .padding = 1})).shape == Shape{2, 6, 5, 5});
}
