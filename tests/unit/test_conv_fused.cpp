// The convolution as the graph chooses it on a GPU (fused kernels on Hopper): real shapes, hard values,
// repeats.

#include <algorithm>
#include <cstdio>
#include <functional>
#include <set>

#include "tests/cases/conv_cases.h"
#include "tests/support/oracle.h"
#include "tests/support/support.h"

using namespace solder;
using namespace solder::test;

namespace {

// Uniform values, fast: the large shapes take millions.
Tensor fast_uniform(const Shape& shape, uint64_t seed) {
  Tensor tensor = Tensor::empty(shape);
  for (float& value : tensor.floats()) {
    uint64_t z = seed += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    value = static_cast<float>((z ^ (z >> 31)) >> 40) * 0x1p-23f - 1.0f;
  }
  return tensor;
}

// What is chosen, the fused kernels wherever they cover the shape, and the one that covers all.
const std::vector<std::string> kFamilies{"", "nhwc", "rows", "window", "packed", "mma", "im2col"};

std::string describe(const ConvCase& c, Math math, const std::string& family) {
  return c.name + ", " + to_string(math) + ", " + family;
}

double worst_error(const ConvShape& s, Math math, const Tensor& x, const Tensor& w, const Tensor& b,
                   const Tensor& y, int64_t max_outputs = 20000) {
  return worst_conv_error(math, s, x.floats(), w.floats(), b.floats(), y.floats(), true, max_outputs);
}

struct Distribution {
  const char* name;
  std::function<float(std::mt19937&, const ConvShape&, int64_t)> draw;  // value `index` of x
  bool is_of_a_kind = false;  // these three take each way through the range guard
};

std::vector<Distribution> distributions() {
  const auto uniform01 = [](std::mt19937& engine) {
    return std::uniform_real_distribution<float>(0, 1)(engine);
  };
  const auto normal = [](std::mt19937& engine) { return std::normal_distribution<float>()(engine); };
  const auto spread = [](int64_t i) { return std::pow(10.0f, static_cast<float>(i % 7)); };
  return {
      {"U[0,1)", [=](auto& e, const auto&, int64_t) { return uniform01(e); }, true},
      {"N(0,1)", [=](auto& e, const auto&, int64_t) { return normal(e); }},
      {"lognormal, sigma 3", [=](auto& e, const auto&, int64_t) { return std::exp(3 * normal(e)); }},
      {"near 1e-37", [=](auto& e, const auto&, int64_t) { return 1e-37f * normal(e); }},
      {"near 1e-30", [=](auto& e, const auto&, int64_t) { return 1e-30f * normal(e); }},
      {"near 1e-5", [=](auto& e, const auto&, int64_t) { return 1e-5f * normal(e); }},
      {"near 1e30", [=](auto& e, const auto&, int64_t) { return 1e30f * uniform01(e); }},
      {"rows spread over 10^6",
       [=](auto& e, const ConvShape& s, int64_t i) { return spread(i / s.W % s.H) * normal(e); }},
      {"channels spread over 10^6",
       [=](auto& e, const ConvShape& s, int64_t i) { return spread(i / s.W / s.H % s.C) * normal(e); }},
      {"images spread over 10^6",
       [=](auto& e, const ConvShape& s, int64_t i) { return spread(2 * (i / s.W / s.H / s.C)) * normal(e); }},
      {"one value 10^7 above the rest",
       [=](auto& e, const auto&, int64_t i) { return (i == 1234 ? 1e7f : 1.0f) * uniform01(e); }},
      {"one value 10^20 above the rest",
       [=](auto& e, const auto&, int64_t i) { return (i == 1234 ? 1e20f : 1.0f) * uniform01(e); }, true},
      {"subnormal", [](auto& e, const auto&, int64_t) { return static_cast<float>(e() % 1000) * 0x1p-149f; },
       true},
      {"zeros", [](auto&, const auto&, int64_t) { return 0.0f; }},
  };
}

Tensor draw(const ConvShape& s, const Distribution& distribution) {
  Tensor x = Tensor::empty({s.N, s.C, s.H, s.W});
  std::mt19937 engine(11);
  int64_t i = 0;
  for (float& value : x.floats()) value = distribution.draw(engine, s, i++);
  return x;
}

}  // namespace

GPU_TEST_CASE("conv2d: conv_shapes rows on random floats against float64, both math modes") {
  int64_t num_rows = 0, num_failed = 0;
  std::map<std::string, int64_t> paths;
  for (const CsvRow& row : read_conformance("conv_shapes.csv")) {
    ConvShape s = conv_shape(row);
    // Images do not interact beyond their tiles: a smaller batch keeps the hour short.
    const int64_t image_elems = std::max(s.C * s.H * s.W, s.K * s.gemm_n());
    s.N = std::clamp<int64_t>((int64_t{1} << 22) / image_elems, 1, s.N);
    if (image_elems > int64_t{1} << 25) continue;
    ++num_rows;
    const uint64_t seed = static_cast<uint64_t>(num_rows) * 1000003;
    const Tensor x = fast_uniform({s.N, s.C, s.H, s.W}, seed),
                 w = fast_uniform({s.K, s.C / s.groups, s.R, s.S}, seed + 1);
    const Tensor b = fast_uniform({s.K}, seed + 2);
    for (const Math math : {Math::tf32, Math::fp32})
      for (const std::string family : {"", "packed", "mma"}) {
        const Model model = compile(conv_graph(s, true), {{"w", w}, {"b", b}},
                                    {.device = Device::cuda(0), .math = math, .conv = family});
        const std::string& path = model.nodes().back().path;
        // Asked for and refused: im2col, which has its own tests.
        if (!runs_family(path, family)) continue;
        const Tensor y = model.session().run({{"x", x}}).at("y");
        ++paths[str(to_string(math),
                    family.empty() ? ": " : ", asked for: ", path.substr(0, path.find(',')))];
        const double worst = worst_error(s, math, x, w, b, y, family.empty() ? 300 : 100);
        if (worst <= 1) continue;
        if (++num_failed <= 8)
          MESSAGE(row.at("name"), ": ", to_string(s), " ", std::string(to_string(math)), ": ", worst,
                  " of the bound: ", path);
      }
  }
  std::printf("conv_shapes: %lld rows in both modes, %lld failed\n", static_cast<long long>(num_rows),
              static_cast<long long>(num_failed));
  for (const auto& [path, count] : paths)
    std::printf("  %5lld rows: %s\n", static_cast<long long>(count), path.c_str());
  CHECK(num_rows >= 300);
  CHECK(num_failed == 0);
}

GPU_TEST_CASE("conv2d: values that float16 cannot hold, in both math modes, every output") {
  for (const ConvCase& c : hard_conv_cases()) {
    const ConvShape& s = c.shape;
    const Tensor w = uniform({s.K, s.C, s.R, s.S}, 5),
                 b = Tensor::from({s.K}, std::vector<float>(static_cast<size_t>(s.K)));
    for (const Distribution& distribution : distributions()) {
      if (is_sanitized() && !distribution.is_of_a_kind) continue;
      const Tensor x = draw(s, distribution);
      for (const Math math : {Math::tf32, Math::fp32})
        for (const std::string& family : kFamilies) {
          const Model model = compile(conv_graph(s, true), {{"w", w}, {"b", b}},
                                      {.device = Device::cuda(0), .math = math, .conv = family});
          const std::string& path = model.nodes().back().path;
          if (!runs_family(path, family)) continue;
          // Where cuBLAS gets float32 it reads subnormal numbers as zero in TF32.
          if (runs_family(path, "im2col") && path.find("float16") == std::string::npos &&
              math == Math::tf32 && std::string_view(distribution.name) == "subnormal")
            continue;
          const Tensor y = model.session().run({{"x", x}}).at("y");
          INFO(describe(c, math, family), " ", std::string(distribution.name));
          CHECK(worst_error(s, math, x, w, b, y) <= 1);
        }
    }
  }
}

GPU_TEST_CASE("conv2d: weights from 1e-30 to 1e30, zero channels and one outlier") {
  const ConvShape s = hard_conv_cases()[1].shape;
  const Tensor x = uniform({s.N, s.C, s.H, s.W}, 6),
               b = Tensor::from({s.K}, std::vector<float>(static_cast<size_t>(s.K)));
  Tensor w = uniform({s.K, s.C, s.R, s.S}, 7);
  const int64_t per_channel = s.C * s.R * s.S;
  for (int64_t i = 0; i < w.num_elems(); ++i) {
    float& value = w.floats()[static_cast<size_t>(i)];
    switch (i / per_channel % 5) {
      case 0: value *= 1e-30f; break;
      case 1: value *= 1e15f; break;
      case 2: value = 0; break;
      case 3: value *= i % per_channel == 17 ? 1e9f : 1.0f; break;
      default: break;
    }
  }
  for (const Math math : {Math::tf32, Math::fp32}) {
    const Tensor y =
        run(conv_graph(s, true), {{"w", w}, {"b", b}}, {{"x", x}}, {.device = Device::cuda(0), .math = math});
    INFO(std::string(to_string(math)));
    // The floor of the contract is relative to the largest weight sum of the channel, which is what A sum|w|
    // is.
    CHECK(worst_error(s, math, x, w, b, y, 40000) <= 1);
  }
}

GPU_TEST_CASE("conv2d: NaN and infinity go through the epilogue as on the CPU") {
  for (const ConvCase& c : hard_conv_cases()) {
    const ConvShape& s = c.shape;
    const Tensor w = uniform({s.K, s.C, s.R, s.S}, 5), b = uniform({s.K}, 6);
    Tensor x = uniform({s.N, s.C, s.H, s.W}, 7);
    x.floats()[static_cast<size_t>(5 * s.W + 2)] = INFINITY;  // the first image; the last one has a NaN
    x.floats()[static_cast<size_t>((s.N - 1) * s.C * s.H * s.W + 4 * s.W + 3)] = NAN;
    Graph g;
    const Value y = g.conv2d(g.input("x", x.shape()), g.parameter("w", w.shape()),
                             g.parameter("b", b.shape()), conv_options(s));
    g.output("y", g.mish(g.mish(y)));
    const Tensor expected = run(g, {{"w", w}, {"b", b}}, {{"x", x}}, {.device = Device::cpu()});
    for (const Math math : {Math::tf32, Math::fp32})
      for (const std::string& family : kFamilies) {
        const Model model =
            compile(g, {{"w", w}, {"b", b}}, {.device = Device::cuda(0), .math = math, .conv = family});
        if (!runs_family(model.nodes().back().path, family)) continue;
        const Tensor got = model.session().run({{"x", x}}).at("y");
        int64_t bad = 0;
        for (size_t i = 0; i < got.floats().size(); ++i) {
          const float e = expected.floats()[i], v = got.floats()[i];
          bad += std::isnan(e) != std::isnan(v) || (std::isinf(e) && e != v) ||
                 (std::isfinite(e) && !(std::abs(e - v) <= 0.05f));
        }
        INFO(describe(c, math, family));
        CHECK(bad == 0);
      }
  }
}

GPU_TEST_CASE(
    "conv2d: residual blocks and other epilogues, fused equals unfused bit for bit with Math::fp32") {
  for (const ConvCase& c : hard_conv_cases()) {
    const ConvShape& s = c.shape;
    Graph g;
    const Value x = g.input("x", {s.N, s.C, s.H, s.W}), w = g.parameter("w", {s.K, s.C, s.R, s.S}),
                b = g.parameter("b", {s.K});
    const Conv2dOptions options = conv_options(s);
    const Shape out{s.N, s.K, s.P(), s.Q()};
    const Value residual = g.input("residual", out), scale = g.parameter("scale", {s.K, 1, 1}),
                row = g.parameter("row", {s.Q()});
    const auto conv = [&] { return g.conv2d(x, w, b, options); };
    const std::pair<std::string, std::function<Value(Value)>> activations[] = {
        {"nothing", [](Value v) { return v; }},
        {"relu", [&](Value v) { return g.relu(v); }},
        {"leaky_relu", [&](Value v) { return g.leaky_relu(v, 0.1f); }},
        {"silu", [&](Value v) { return g.silu(v); }},
        {"mish", [&](Value v) { return g.mish(v); }},
        {"double_mish", [&](Value v) { return g.double_mish(v); }}};
    for (const auto& [name, activation] : activations) {
      g.output("residual, then " + name, activation(g.add(conv(), residual)));
      g.output(name + ", then residual", g.add(activation(conv()), residual));
    }
    g.output("swish by hand", [&] {
      const Value v = conv();
      return g.mul(v, g.sigmoid(v));
    }());
    g.output("scaled", g.mish(g.mul(conv(), scale)));
    g.output("row", g.tanh(g.add(conv(), row)));
    g.output("leaky", g.leaky_relu(conv(), 0.1f));
    g.output("long", g.clip(g.sub(1.0f, g.exp(g.neg(g.square(conv())))), 0.1f, 0.9f));
    g.output("plain", g.conv2d(x, w, options));
    const TensorMap weights{{"w", uniform({s.K, s.C, s.R, s.S}, 1)},
                            {"b", uniform({s.K}, 2)},
                            {"scale", uniform({s.K, 1, 1}, 3)},
                            {"row", uniform({s.Q()}, 4)}};
    const TensorMap inputs{{"x", uniform({s.N, s.C, s.H, s.W}, 5)}, {"residual", uniform(out, 6)}};
    for (const std::string& family : kFamilies) {
      if (is_sanitized() && !family.empty()) continue;
      const auto results = [&](Math math, bool fuse) {
        const CompileOptions how{.device = Device::cuda(0), .math = math, .fuse = fuse, .conv = family};
        const Model model = compile(g, weights, how);
        int64_t num_passes = 0;
        std::set<std::string> families;
        for (size_t i = 0; i < model.nodes().size(); ++i) {
          if (model.graph().nodes()[i].kind != NodeKind::conv2d) continue;
          const std::string& path = model.nodes()[i].path;
          num_passes += path.find("then one pass") != std::string::npos;
          families.insert(path.substr(0, path.find(',')));
        }
        // In the kernel all but four: swish by hand, scaled, row and long. Behind cuBLAS alone everything but
        // "plain".
        const bool is_alone = model.nodes().back().path.find("on x itself") != std::string::npos;
        if (fuse && families.size() == 1) CHECK(num_passes == (is_alone ? 17 : 4));
        if (math == Math::fp32) CHECK(families.size() == 1);
        return model.session().run(inputs);
      };
      const TensorMap fused = results(Math::fp32, true), plain = results(Math::fp32, false),
                      approximate = results(Math::tf32, true);
      for (const auto& [name, tensor] : plain) {
        INFO(describe(c, Math::fp32, family), " ", name);
        CHECK(same_bits(fused.at(name), tensor));
        double error = 0, norm = 0;
        for (size_t i = 0; i < tensor.floats().size(); ++i) {
          const double difference = double{approximate.at(name).floats()[i]} - tensor.floats()[i];
          error += difference * difference;
          norm += double{tensor.floats()[i]} * tensor.floats()[i];
        }
        CHECK(std::sqrt(error / norm) <= 2e-3);
      }
    }
  }
}

GPU_TEST_CASE("conv2d: 100 runs give the same bits, and other sessions' inputs leave no trace") {
  for (const Math math : {Math::tf32, Math::fp32})
    for (const std::string& family : kFamilies) {
      for (const ConvCase& c : hard_conv_cases()) {
        const ConvShape& s = c.shape;
        const TensorMap weights{{"w", uniform({s.K, s.C, s.R, s.S}, 1)}, {"b", uniform({s.K}, 2)}};
        const Tensor x = uniform({s.N, s.C, s.H, s.W}, 3);
        Tensor large = uniform({s.N, s.C, s.H, s.W}, 4, -1e12f, 1e12f);
        large.floats()[7] = INFINITY;
        const CompileOptions options{.device = Device::cuda(0), .math = math, .conv = family};
        Session session = compile(conv_graph(s, true), weights, options).session();
        const Tensor expected = session.run({{"x", x}}).at("y");
        int bad = 0;
        for (int i = 0; i < 100; ++i) {
          if (i % 25 == 24) session.run({{"x", large}});
          bad += !same_bits(session.run({{"x", x}}).at("y"), expected);
        }
        INFO(describe(c, math, family));
        CHECK(bad == 0);
      }
    }
}

GPU_TEST_CASE("conv2d: of many images only those that need it are redone") {
  const ConvShape s = make_shape({40, 16, 5, 64}, {16, 3, 3});
  const int64_t image = s.C * s.H * s.W;
  const size_t out_image = static_cast<size_t>(s.K * s.gemm_n());
  const Tensor w = uniform({s.K, s.C, s.R, s.S}, 2),
               b = Tensor::from({s.K}, std::vector<float>(static_cast<size_t>(s.K)));
  const Tensor x = uniform({s.N, s.C, s.H, s.W}, 1), changed = uniform({s.N, s.C, s.H, s.W}, 1);
  constexpr int64_t kLarge = 7, kInfinite = 23;
  changed.floats()[static_cast<size_t>(kLarge * image + 1234)] = 1e9f;
  changed.floats()[static_cast<size_t>(kInfinite * image + 77)] = INFINITY;
  const std::vector<std::string> built = conv_family_names(Device::cuda(0));
  for (const Math math : {Math::tf32, Math::fp32})
    for (const std::string family : {"nhwc", "rows", "window", "packed", "mma", "im2col"}) {
      if (std::ranges::find(built, family) == built.end()) continue;
      if (family == "nhwc" && math == Math::fp32) continue;  // of one part
      INFO(family, ", ", std::string(to_string(math)));
      const Model model = compile(conv_graph(s, true), {{"w", w}, {"b", b}},
                                  {.device = Device::cuda(0), .math = math, .conv = family});
      CHECK(runs_family(model.nodes().back().path, family));
      Session session = model.session();
      const Tensor plain = session.run({{"x", x}}).at("y"), y = session.run({{"x", changed}}).at("y");
      CHECK(worst_error(s, math, changed, w, b, y, y.num_elems()) <= 1);
      int64_t num_others = 0, num_infinite = 0;
      for (size_t i = 0; i < y.floats().size(); ++i) {
        const size_t n = i / out_image;
        num_infinite += n == kInfinite && std::isinf(y.floats()[i]);
        num_others += n != kLarge && n != kInfinite && bits_of(y.floats()[i]) != bits_of(plain.floats()[i]);
      }
      CHECK(num_infinite > 0);
      CHECK(num_others == 0);
    }
}
