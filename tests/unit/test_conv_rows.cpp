// The rows kernel by name, on shapes that reach every way it cuts a convolution up: each output against
// float64.

#include "tests/cases/conformance.h"
#include "tests/support/oracle.h"
#include "tests/support/support.h"

using namespace solder;
using namespace solder::test;

namespace {

struct RowsCase {
  const char* what;
  ConvShape shape;
};

std::vector<RowsCase> rows_cases() {
  return {
      {"one strip, long runs of rows",
       {.N = 1, .C = 64, .H = 131, .W = 256, .K = 128, .R = 3, .S = 3, .pad_top = 1, .pad_bottom = 1}},
      {"padding in the slots",
       {.N = 3,
        .C = 64,
        .H = 9,
        .W = 254,
        .K = 64,
        .R = 3,
        .S = 3,
        .pad_top = 1,
        .pad_left = 1,
        .pad_bottom = 1,
        .pad_right = 1}},
      {"strips, and output channels that fill no block",
       {.N = 2,
        .C = 64,
        .H = 7,
        .W = 300,
        .K = 72,
        .R = 3,
        .S = 3,
        .pad_top = 1,
        .pad_left = 1,
        .pad_bottom = 1,
        .pad_right = 1}},
      {"two blocks of output channels, odd width",
       {.N = 1, .C = 40, .H = 9, .W = 255, .K = 200, .R = 3, .S = 3}},
      {"5x5 of few channels",
       {.N = 1,
        .C = 24,
        .H = 12,
        .W = 200,
        .K = 128,
        .R = 5,
        .S = 5,
        .pad_top = 2,
        .pad_left = 2,
        .pad_bottom = 2,
        .pad_right = 2}},
      {"dilation", {.N = 2, .C = 16, .H = 20, .W = 100, .K = 64, .R = 3, .S = 3, .dil_h = 2, .dil_w = 2}},
      {"1x1", {.N = 3, .C = 35, .H = 7, .W = 64, .K = 16, .R = 1, .S = 1}},
  };
}

}  // namespace

GPU_TEST_CASE("rows kernel: every output within the bound, in both math modes, the same bits again") {
  for (const auto& [what, s] : rows_cases()) {
    const Tensor x = uniform({s.N, s.C, s.H, s.W}, 1, -2, 2), w = uniform({s.K, s.C, s.R, s.S}, 2);
    const Tensor b = Tensor::from({s.K}, std::vector<float>(static_cast<size_t>(s.K)));
    for (const Math math : {Math::tf32, Math::fp32}) {
      INFO(std::string(what), " ", to_string(s), " ", std::string(to_string(math)));
      const Model model = compile(conv_graph(s, true), {{"w", w}, {"b", b}},
                                  {.device = Device::cuda(0), .math = math, .conv = ConvAlgorithm::rows});
      CHECK(model.nodes().back().path.find("rows kernel") == 0);
      Session session = model.session();
      const Tensor y = session.run({{"x", x}}).at("y");
      double worst = 0;
      for (int64_t i = 0; i<y.num_elems(); i += y.num_elems()> 1'000'000 ? 13 : 1) {
        const int64_t q = i % s.Q(), p = i / s.Q() % s.P(), k = i / s.gemm_n() % s.K;
        const ConvOutput exact = conv_oracle(s, x.floats(), w.floats(), i / s.gemm_n() / s.K, k, p, q);
        const double error = std::abs(y.floats()[static_cast<size_t>(i)] - exact.value) /
                             (conv_bound(math, s, exact, 2) + 0x1p-24 * std::abs(exact.value));
        worst = error <= worst ? worst : error;  // a NaN becomes the worst
      }
      CHECK(worst <= 1);
      for (int i = 0; i < (is_sanitized() ? 1 : 20); ++i)
        CHECK(same_bits(session.run({{"x", x}}).at("y"), y));
    }
  }
}

GPU_TEST_CASE("rows kernel: of many images only those that need it are redone") {
  const ConvShape s{.N = 40, .C = 16, .H = 5, .W = 64, .K = 16, .R = 3, .S = 3};
  const int64_t image = s.C * s.H * s.W, out_image = s.K * s.gemm_n();
  const Tensor w = uniform({s.K, s.C, s.R, s.S}, 2),
               b = Tensor::from({s.K}, std::vector<float>(static_cast<size_t>(s.K)));
  const Tensor x = uniform({s.N, s.C, s.H, s.W}, 1);
  Tensor changed = uniform({s.N, s.C, s.H, s.W}, 1);
  constexpr int64_t kLarge = 7, kInfinite = 23;
  changed.floats()[static_cast<size_t>(kLarge * image + 1234)] = 1e9f;
  changed.floats()[static_cast<size_t>(kInfinite * image + 77)] = INFINITY;
  for (const Math math : {Math::tf32, Math::fp32}) {
    INFO(std::string(to_string(math)));
    const TensorMap weights{{"w", w}, {"b", b}};
    const Model model = compile(conv_graph(s, true), weights,
                                {.device = Device::cuda(0), .math = math, .conv = ConvAlgorithm::rows});
    CHECK(model.nodes().back().path.find("rows kernel") == 0);
    Session session = model.session();
    const Tensor plain = session.run({{"x", x}}).at("y"), y = session.run({{"x", changed}}).at("y");
    const Tensor on_cpu = run(conv_graph(s, true), weights, {{"x", changed}}, {.device = Device::cpu()});
    int64_t num_others = 0, num_infinite = 0;
    double worst = 0;
    for (int64_t i = 0; i < y.num_elems(); ++i) {
      const int64_t n = i / out_image, q = i % s.Q(), p = i / s.Q() % s.P(), k = i / s.gemm_n() % s.K;
      const float value = y.floats()[static_cast<size_t>(i)];
      if (n == kLarge) {
        const ConvOutput exact = conv_oracle(s, changed.floats(), w.floats(), n, k, p, q);
        const double error = std::abs(value - exact.value) /
                             (conv_bound(math, s, exact, 1e9) + 0x1p-24 * std::abs(exact.value));
        worst = error <= worst ? worst : error;  // a NaN becomes the worst
      } else if (n == kInfinite) {
        num_infinite += std::isinf(value);
        CHECK(std::isfinite(value) == std::isfinite(on_cpu.floats()[static_cast<size_t>(i)]));
      } else {
        num_others += bits_of(value) != bits_of(plain.floats()[static_cast<size_t>(i)]);
      }
    }
    CHECK(worst <= 1);
    CHECK(num_infinite > 0);
    CHECK(num_others == 0);
  }
}
