// Convolutions on every device by every family: each output within the bound of its mode, special values
// where the formula has them, bad arguments refused.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "ops/conv/im2col/im2col.h"
#include "runtime/divide.h"
#include "runtime/dtype.h"
#include "tests/cases/conv_cases.h"
#include "tests/support/oracle.h"
#include "tests/support/support.h"

using namespace solder;
using namespace solder::test;

namespace {

// The CPU's loops are slow, and its results do not depend on the mode; under a sanitizer the hard cases stand for large
// ones.
bool is_for(Device device, Math math, const ConvCase& c) {
  if (!device.is_cuda()) return math == Math::fp32 && !c.is_large();
  return !is_sanitized() || c.is_hard || !c.is_large();
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
        if (!is_for(device, math, c)) continue;
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
      if (!is_for(device, Math::fp32, c)) continue;
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
        if (!is_for(device, math, c)) continue;
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
    for (const int64_t workspace : {200 << 10, 1 << 20})
      for (const Math math : {Math::fp32, Math::tf32}) {
        const Tensor y =
            run(conv_graph(s, true), {{"w", data.w}, {"b", data.b}}, {{"x", data.x}},
                {.device = Device::cuda(0), .math = math, .workspace_bytes = workspace, .conv = "im2col"});
        INFO(name, " with ", workspace, " bytes, ", std::string(to_string(math)));
        CHECK(worst_error(s, math, data, y) <= 1);
      }
  }
}

namespace {

DeviceInfo device_of(int64_t l2_bytes) {
  DeviceInfo device;
  device.num_sms = 132, device.l2_bytes = l2_bytes;
  return device;
}

}  // namespace

GPU_TEST_CASE("conv2d: sums of many terms lean toward zero by less than 2^-24") {
  // Small per sum, but the same way in every layer of a network. Tensor cores alone: 6e-8.
  const ConvShape s = make_shape({1, 256, 20, 20}, {64, 3, 3}, {.padding = 1});
  const Tensor x = uniform({s.N, s.C, s.H, s.W}, 1, 0, 1), w = uniform({s.K, s.C, s.R, s.S}, 2);
  const Model model = compile(conv_graph(s, false), {{"w", w}},
                              {.device = Device::cuda(0), .math = Math::fp32, .conv = "window"});
  if (!runs_family(model.nodes().back().path, "window")) return;
  const Tensor y = model.session().run({{"x", x}}).at("y");
  double lean = 0, size = 0;
  for (int64_t at = 0; at < y.num_elems(); at += 7) {
    const double exact = conv_oracle(s, x.floats(), w.floats(), at).value;
    lean += (double{y.floats()[static_cast<size_t>(at)]} - exact) * (exact < 0 ? -1 : 1);
    size += std::abs(exact);
  }
  const double leaning = lean / size;
  CAPTURE(leaning);
  CHECK(std::abs(leaning) < 4e-8);
}

TEST_CASE("choose_im2col_config: within the workspace, near the L2 cache, refusal that says what is needed") {
  constexpr int64_t kMiB = 1 << 20;
  std::string why;
  std::vector<ConvShape> shapes;
  for (const ConvCase& c : conv_cases()) shapes.push_back(c.shape);
  for (const CsvRow& row : read_conformance("conv_shapes.csv")) shapes.push_back(conv_shape(row));
  int num_shared = 0, num_half = 0;
  for (const ConvShape& s : shapes)
    for (const Math math : {Math::fp32, Math::tf32})
      for (const int64_t budget : {kMiB, 224 * kMiB})
        for (const int64_t l2 : {int64_t{0}, 50 * kMiB}) {
          INFO(to_string(s), ", ", budget, " B");
          const auto config = choose_im2col_config(s, math, budget, device_of(l2), true, &why);
          if (!config) {
            CHECK(std::max(s.C * s.R * s.S, s.K) * 4 * 32 > budget / 2);
            continue;
          }
          if (config->is_pointwise || config->width == 0) {
            CHECK(im2col_scratch_bytes(s, *config) == 0);
            continue;
          }
          const int64_t rows = config->rows_per_gemm, width = config->width;
          const Im2colLayout layout = im2col_layout(s, *config, rows, width);
          const int64_t columns = s.groups * layout.group_stride * config->elem_bytes();
          const int64_t sums = rows * padded_channels(s.K) * width * 4;
          CHECK(im2col_scratch_bytes(s, *config) <= budget);
          CHECK(im2col_scratch_bytes(s, *config) >= round_up(columns, 256) + sums);
          CHECK(columns + sums <=
                std::max(std::max(l2, 16 * kMiB), 32 * (s.gemm_k() * s.groups + padded_channels(s.K)) * 4));
          CHECK(width % 8 == 0);
          CHECK((!config->is_half || math == Math::tf32));
          CHECK((config->shares_rows || rows == 1));
          if (config->shares_rows) CHECK((width == round_up(s.Q(), 8) && rows <= s.P()));
          CHECK(predict_im2col_us(s, *config, device_of(l2)) > 0);
          num_shared += config->shares_rows, num_half += config->is_half;
        }
  CHECK(num_shared > 50);
  CHECK(num_half > 500);

  const ConvShape headline = headline_case().shape;
  const auto choose = [&](Math math, bool knows_weights) {
    return *choose_im2col_config(headline, math, 224 * kMiB, device_of(50 * kMiB), knows_weights, &why);
  };
  CHECK(choose(Math::tf32, true).shares_rows);
  CHECK_FALSE(choose(Math::tf32, false).is_half);
  CHECK_FALSE(choose(Math::fp32, true).is_half);
  CHECK_FALSE(choose_im2col_config(headline, Math::fp32, 1000, device_of(0), true, &why));
  CHECK(why.find("90624") != std::string::npos);
  CHECK(why.find("1000") != std::string::npos);
  ConvShape pointwise = make_shape({4, 8, 5, 5}, {4, 1, 1});
  CHECK(choose_im2col_config(pointwise, Math::tf32, 0, device_of(0), true, &why)->is_pointwise);
  pointwise.pad_left = 1;
  CHECK_FALSE(choose_im2col_config(pointwise, Math::tf32, kMiB, device_of(0), true, &why)->is_pointwise);
}

TEST_CASE("im2col: packed weights meet the columns that their taps multiply") {
  const ConvShape s = make_shape({1, 6, 9, 12}, {4, 3, 2}, {.groups = 2});
  const Tensor w = uniform({s.K, 3, s.R, s.S}, 3);
  std::vector<int32_t> exponents;
  for (int32_t k = 0; k < s.K; ++k) exponents.push_back(k * 3 - 4);
  for (const bool shares_rows : {false, true}) {
    const Im2colConfig config{.math = Math::tf32, .is_half = true, .shares_rows = shares_rows, .width = 16};
    const std::vector<std::byte> packed = pack_weights(s, config, w.floats().data(), exponents);
    constexpr int64_t kHead = 256, kPitch = 24;  // gemm_k is 18
    REQUIRE(packed.size() == kHead + 4 * kPitch * 2);
    CHECK(std::memcmp(packed.data(), exponents.data(), 16) == 0);
    // Rows of columns by their places in memory, where one output row's begin: with rows shared, tap row r is all of
    // input row r.
    const Im2colLayout layout = im2col_layout(s, config, 5, config.width);
    int64_t num_terms = 0;
    for (int64_t k = 0; k < s.K; ++k) {
      std::vector<float> row(kPitch);
      for (size_t i = 0; i < row.size(); ++i) {
        uint16_t bits = 0;
        std::memcpy(&bits, packed.data() + kHead + (static_cast<size_t>(k * kPitch) + i) * 2, 2);
        row[i] = float_from_float16(bits);
      }
      for (int64_t c = 0; c < 3; ++c)
        for (int64_t r = 0; r < s.R; ++r)
          for (int64_t t = 0; t < s.S; ++t) {
            const int64_t at = (r * layout.block_stride + c * layout.channel_stride) / config.width + t;
            const float exact = std::ldexp(w.floats()[static_cast<size_t>(((k * 3 + c) * s.R + r) * s.S + t)],
                                           exponents[static_cast<size_t>(k)]);
            CHECK(std::abs(row[static_cast<size_t>(at)] - exact) <= std::abs(exact) * 0x1p-11f);
            row[static_cast<size_t>(at)] = 0;
            ++num_terms;
          }
      CHECK(std::ranges::all_of(row, [](float value) { return value == 0; }));
    }
    CHECK(num_terms == s.K * 18);
    CHECK(layout.block_stride == config.width * (shares_rows ? 6 : 2));
    CHECK(layout.num_blocks == (shares_rows ? 5 + 2 : 3));
  }
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
