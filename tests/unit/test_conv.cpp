// Convolutions on every device by every family: each output within the bound of its mode, special values
// where the formula has them, bad arguments refused.

#include <cstdio>
#include <map>

#include "ops/conv/im2col/im2col.h"
#include "tests/cases/conv_cases.h"
#include "tests/support/oracle.h"
#include "tests/support/support.h"

using namespace solder;
using namespace solder::test;

namespace {

// The CPU's loops are slow, and its results do not depend on the mode.
bool is_for(Device device, Math math, const ConvShape& s) {
  return device.is_cuda() || (math == Math::fp32 && s.num_macs() < 30'000'000);
}

struct Data {
  Tensor x, w, b;
};

Data draw(const ConvShape& s, uint64_t seed) {
  return {uniform({s.N, s.C, s.H, s.W}, seed, -2, 2), uniform({s.K, s.C / s.groups, s.R, s.S}, seed + 1),
          uniform({s.K}, seed + 2)};
}

// Runs every case by every family that covers it, on every device and in every mode; `check` gets each
// result.
template <class Check>
void run_cases(const std::vector<ConvCase>& cases, Data (*draw_data)(const ConvShape&, uint64_t),
               const Check& check) {
  std::map<std::string, int> num_runs;
  uint64_t seed = 100;
  for (const ConvCase& c : cases) {
    const std::string& name = c.name;
    const ConvShape& s = c.shape;
    const Data data = draw_data(s, seed += 3);
    const TensorMap weights{{"w", data.w}, {"b", data.b}};
    for (const Device device : devices())
      for (const Math math : {Math::fp32, Math::tf32}) {
        if (!is_for(device, math, s)) continue;
        for (const std::string& family : conv_family_names(device)) {
          const Model model =
              compile(conv_graph(s, true), weights, {.device = device, .math = math, .conv = family});
          const std::string words = model.nodes().back().path;
          if (!runs_family(words, family)) continue;
          ++num_runs[family];
          INFO(name, ", ", std::string(to_string(math)), ", ", words);
          Session session = model.session();
          check(s, math, device, data, session);
        }
      }
  }
  for (const Device device : devices())
    for (const std::string& family : conv_family_names(device)) {
      CAPTURE(family);
      CHECK(num_runs[family] > 0);
    }
}

double worst_error(const ConvShape& s, Math math, const Data& data, const Tensor& y,
                   bool uses_largest = true) {
  return worst_conv_error(math, s, data.x.floats(), data.w.floats(), data.b.floats(), y.floats(),
                          uses_largest);
}

}  // namespace

TEST_CASE("conv2d: every case by every family, within its mode's bound, and the same bits again") {
  run_cases(conv_cases(), draw,
            [](const ConvShape& s, Math math, Device, const Data& data, Session& session) {
              const Tensor y = session.run({{"x", data.x}}).at("y");
              CHECK(worst_error(s, math, data, y) <= 1);
              for (int i = 0; i < (is_sanitized() ? 1 : 5); ++i)
                CHECK(same_bits(session.run({{"x", data.x}}).at("y"), y));
            });
}

TEST_CASE("conv2d: without a bias, and a bias of zeros, are the same") {
  for (const ConvCase& c : conv_cases()) {
    const std::string& name = c.name;
    const ConvShape& s = c.shape;
    const Data data = draw(s, 7);
    const Tensor zeros = Tensor::from({s.K}, std::vector<float>(static_cast<size_t>(s.K)));
    for (const Device device : devices()) {
      if (!is_for(device, Math::fp32, s)) continue;
      const Tensor y = run(conv_graph(s, false), {{"w", data.w}}, {{"x", data.x}}, {.device = device});
      INFO(name, " on ", to_string(device));
      CHECK(worst_conv_error(Math::fp32, s, data.x.floats(), data.w.floats(), {}, y.floats()) <= 1);
      const Tensor with_zeros =
          run(conv_graph(s, true), {{"w", data.w}, {"b", zeros}}, {{"x", data.x}}, {.device = device});
      double difference = 0;  // -0 becomes 0
      for (size_t i = 0; i < y.floats().size(); ++i)
        difference = std::max(difference, std::abs(double{y.floats()[i]} - with_zeros.floats()[i]));
      CHECK(difference == 0);
    }
  }
}

TEST_CASE("conv2d: windows of tiny values in an image that holds 1, by every family") {
  const auto tiny = [](const ConvShape& s, uint64_t seed) {
    Data data = draw(s, seed);
    for (float& value : data.x.floats()) value *= 1e-12f;
    const int64_t image = s.C * s.H * s.W;
    for (int64_t n = 0; n < s.N; ++n) data.x.floats()[static_cast<size_t>(n * image + image / 2)] = 1;
    data.b = Tensor::from({s.K}, std::vector<float>(static_cast<size_t>(s.K)));
    return data;
  };
  run_cases(conv_cases(), tiny,
            [](const ConvShape& s, Math math, Device device, const Data& data, Session& session) {
              const Tensor y = session.run({{"x", data.x}}).at("y");
              CHECK(worst_error(s, math, data, y) <= 1);
              if (!device.is_cuda())
                CHECK(worst_error(s, math, data, y, false) <= 1);  // in float32 throughout
            });
}

TEST_CASE("conv2d: NaN and infinity in x come out where float32 has them, by every family") {
  const auto special = [](const ConvShape& s, uint64_t seed) {
    Data data = draw(s, seed);
    const std::span<float> x = data.x.floats(), w = data.w.floats();
    for (size_t i = 0; i < w.size(); i += 3) w[i] = 0;  // 0 times infinity is NaN
    if (!x.empty()) x[x.size() / 3] = INFINITY, x[x.size() - 1] = NAN;
    return data;
  };
  run_cases(conv_cases(), special,
            [](const ConvShape& s, Math math, Device, const Data& data, Session& session) {
              CHECK(worst_error(s, math, data, session.run({{"x", data.x}}).at("y")) <= 1);
            });
}

TEST_CASE(
    "conv2d: weights that are not finite, padding included: x is 0 outside the image, and 0 times infinity "
    "NaN") {
  for (const ConvCase& c : conv_cases()) {
    const std::string& name = c.name;
    const ConvShape& s = c.shape;
    Data data = draw(s, 11);
    const std::span<float> w = data.w.floats();
    w[0] = INFINITY;              // the first tap, which meets the padding on top
    w[w.size() - 1] = -INFINITY;  // the last one, which meets that at the bottom
    if (w.size() > 40) w[w.size() / 2] = NAN;
    for (const Device device : devices())
      for (const Math math : {Math::fp32, Math::tf32}) {
        if (!is_for(device, math, s)) continue;
        // As a parameter, and not known before the run.
        for (const bool is_input : {false, true})
          for (const std::string& family : conv_family_names(device)) {
            Graph g;
            const Value x = g.input("x", data.x.shape());
            const Value wv = is_input ? g.input("w", data.w.shape()) : g.parameter("w", data.w.shape());
            g.output("y", g.conv2d(x, wv, conv_options(s)));
            TensorMap weights, inputs{{"x", data.x}};
            (is_input ? inputs : weights)["w"] = data.w;
            const Tensor y = run(g, weights, inputs, {.device = device, .math = math, .conv = family});
            INFO(name, " on ", to_string(device), ", ", std::string(to_string(math)), ", ", family);
            CHECK(worst_conv_error(math, s, data.x.floats(), w, {}, y.floats()) <= 1);
          }
      }
  }
}

GPU_TEST_CASE("conv2d: a small workspace cuts the columns into chunks and changes nothing") {
  for (const ConvCase& c : conv_cases()) {
    const std::string& name = c.name;
    const ConvShape& s = c.shape;
    if (s.gemm_k() > 300) continue;
    const Data data = draw(s, 300);
    for (const int64_t workspace : {200 << 10, 1 << 20}) {
      const Tensor y = run(conv_graph(s, true), {{"w", data.w}, {"b", data.b}}, {{"x", data.x}},
                           {.device = Device::cuda(0), .workspace_bytes = workspace, .conv = "im2col"});
      INFO(name, " with ", workspace, " bytes");
      CHECK(worst_error(s, Math::fp32, data, y) <= 1);
    }
  }
}

TEST_CASE(
    "choose_im2col_config: within budget, whole images where they fit, refusal that says what is needed") {
  const ConvShape headline = headline_case().shape;
  constexpr int64_t kMiB = 1 << 20;
  std::string why;
  for (const int64_t target : {1 * kMiB, 20 * kMiB, 1024 * kMiB}) {
    for (const int64_t budget : {2 * kMiB, 224 * kMiB, 4096 * kMiB}) {
      const auto config = choose_im2col_config(headline, budget, target, &why);
      REQUIRE(config);
      CHECK_FALSE(config->is_pointwise);
      CHECK(config->workspace_bytes <= budget);
      CHECK(config->workspace_bytes <= std::max<int64_t>(target, 32 * 576 * 4));
      CHECK(config->workspace_bytes == config->images_per_gemm * config->pixels_per_gemm * 576 * 4);
      CHECK((config->images_per_gemm == 1 || config->pixels_per_gemm == headline.gemm_n()));
    }
  }
  CHECK(choose_im2col_config(headline, 4096 * kMiB, 600 * kMiB, &why)->images_per_gemm == 4);
  CHECK_FALSE(choose_im2col_config(headline, 1000, 1000, &why));
  CHECK(why.find("73728") != std::string::npos);
  CHECK(why.find("1000") != std::string::npos);
  ConvShape pointwise = make_shape({4, 8, 5, 5}, {4, 1, 1});
  CHECK(choose_im2col_config(pointwise, 0, 0, &why)->is_pointwise);
  pointwise.pad_left = 1;
  CHECK_FALSE(choose_im2col_config(pointwise, kMiB, kMiB, &why)->is_pointwise);
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

TEST_CASE("CompileOptions::conv: an unknown family is an error that lists the known ones") {
  Graph g;
  g.output("y", g.relu(g.input("x", {2})));
  CHECK_ERROR(compile(g, {}, {.device = Device::cpu(), .conv = "winograd"}), invalid_argument, "winograd",
              "rows", "window", "packed", "direct", "im2col", "cpu");
  const ConvShape s = make_shape({1, 2, 5, 5}, {3, 3, 3});
  const Model model = compile(conv_graph(s, false), {{"w", uniform({3, 2, 3, 3}, 1)}},
                              {.device = Device::cpu(), .conv = "rows"});
  CHECK(model.nodes().back().path == "cpu, loops (rows: runs on a GPU)");
}
