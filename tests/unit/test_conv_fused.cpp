// The convolution as the graph chooses it on a GPU (fused kernels on Hopper): real shapes, hard values,
// repeats.

#include <algorithm>
#include <cstdio>
#include <functional>

#include "tests/cases/conformance.h"
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

double largest_of_image(const ConvShape& s, const Tensor& x, int64_t n) {
  const auto image =
      x.floats().subspan(static_cast<size_t>(n * s.C * s.H * s.W), static_cast<size_t>(s.C * s.H * s.W));
  double largest = 0;
  for (const float value : image) largest = std::max(largest, std::abs(double{value}));
  return largest;
}

// How far `count` sampled outputs (all, when there are fewer) are from float64, as a fraction of the bound.
double worst_of_samples(const ConvShape& s, Math math, const Tensor& x, const Tensor& w, const Tensor& b,
                        const Tensor& y, int64_t count) {
  std::vector<double> largest(static_cast<size_t>(s.N));
  for (int64_t n = 0; n < s.N; ++n) largest[static_cast<size_t>(n)] = largest_of_image(s, x, n);
  std::mt19937_64 engine(3);
  const int64_t total = y.num_elems();
  double worst = 0;
  for (int64_t i = 0; i < std::min(count, total); ++i) {
    int64_t index = count >= total ? i : static_cast<int64_t>(engine() % static_cast<uint64_t>(total));
    if (count < total && i < 2) index = i * (total - 1);
    const int64_t q = index % s.Q(), p = index / s.Q() % s.P(), k = index / s.gemm_n() % s.K;
    const int64_t n = index / s.gemm_n() / s.K;
    const ConvOutput exact = conv_oracle(s, x.floats(), w.floats(), n, k, p, q);
    const double value = exact.value + b.floats()[static_cast<size_t>(k)];
    const double bound = conv_bound(math, s, exact, largest[static_cast<size_t>(n)]) +
                         0x1p-24 * std::abs(value) +
                         static_cast<double>(s.gemm_k()) * 0x1p-149;  // float32's own floor
    const double error = std::abs(y.floats()[static_cast<size_t>(index)] - value) / bound;
    worst = error <= worst ? worst : error;  // a NaN becomes the worst
  }
  return worst;
}

// What the graph chooses, and the window kernel in both its forms wherever it covers the shape.
constexpr ConvAlgorithm kAlgorithms[] = {ConvAlgorithm::automatic, ConvAlgorithm::window,
                                         ConvAlgorithm::packed};
constexpr const char* kAlgorithmNames[] = {"automatic", "im2col", "rows", "window", "packed"};

std::string describe(const ConvShape& s, Math math, ConvAlgorithm algorithm) {
  return to_string(s) + " " + to_string(math) + " " + kAlgorithmNames[static_cast<int>(algorithm)];
}

// A ring of shapes that between them take every fused path.
std::vector<ConvShape> hard_shapes() {
  return {{.N = 3, .C = 64, .H = 10, .W = 256, .K = 128, .R = 3, .S = 3},
          {.N = 2,
           .C = 24,
           .H = 20,
           .W = 22,
           .K = 40,
           .R = 3,
           .S = 3,
           .stride_h = 2,
           .stride_w = 2,
           .pad_top = 1,
           .pad_left = 1,
           .pad_bottom = 1,
           .pad_right = 1},
          {.N = 4, .C = 128, .H = 7, .W = 7, .K = 64, .R = 1, .S = 1},
          {.N = 5, .C = 528, .H = 6, .W = 9, .K = 200, .R = 1, .S = 1},
          {.N = 2,
           .C = 3,
           .H = 33,
           .W = 35,
           .K = 16,
           .R = 7,
           .S = 7,
           .stride_h = 2,
           .stride_w = 2,
           .pad_top = 3,
           .pad_left = 3,
           .pad_bottom = 3,
           .pad_right = 3}};
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
      for (const bool is_packed : {false, true}) {
        const ConvAlgorithm algorithm = is_packed ? ConvAlgorithm::packed : ConvAlgorithm::automatic;
        const Model model = compile(conv_graph(s, true), {{"w", w}, {"b", b}},
                                    {.device = Device::cuda(0), .math = math, .conv = algorithm});
        const std::string& path = model.nodes().back().path;
        // Asked for and refused: im2col, which has its own tests.
        if (is_packed && path.find("packed") == std::string::npos) continue;
        const Tensor y = model.session().run({{"x", x}}).at("y");
        ++paths[str(to_string(math), is_packed ? ", asked for: " : ": ",
                    path.substr(0, path.find_first_of(",(")))];
        const double worst = worst_of_samples(s, math, x, w, b, y, is_packed ? 100 : 300);
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
  for (const ConvShape& s : hard_shapes()) {
    const Tensor w = uniform({s.K, s.C, s.R, s.S}, 5),
                 b = Tensor::from({s.K}, std::vector<float>(static_cast<size_t>(s.K)));
    for (const Distribution& distribution : distributions()) {
      if (is_sanitized() && !distribution.is_of_a_kind) continue;
      const Tensor x = draw(s, distribution);
      for (const Math math : {Math::tf32, Math::fp32})
        for (const ConvAlgorithm algorithm : kAlgorithms) {
          const Tensor y = run(conv_graph(s, true), {{"w", w}, {"b", b}}, {{"x", x}},
                               {.device = Device::cuda(0), .math = math, .conv = algorithm});
          INFO(describe(s, math, algorithm), " ", std::string(distribution.name));
          CHECK(worst_of_samples(s, math, x, w, b, y, 20000) <= 1);
        }
    }
  }
}

GPU_TEST_CASE("conv2d: weights from 1e-30 to 1e30, zero channels and one outlier") {
  const ConvShape s = hard_shapes()[1];
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
    CHECK(worst_of_samples(s, math, x, w, b, y, 40000) <= 1);
  }
  w.floats()[4] = INFINITY;  // the middle tap, which never meets padding
  Graph g = conv_graph(s, true);
  const TensorMap weights{{"w", w}, {"b", b}};
  const Tensor on_gpu = run(g, weights, {{"x", x}}, {.device = Device::cuda(0)});
  const Tensor on_cpu = run(g, weights, {{"x", x}}, {.device = Device::cpu()});
  int64_t differ = 0;
  for (size_t i = 0; i < on_cpu.floats().size(); ++i)
    differ += std::isfinite(on_cpu.floats()[i]) != std::isfinite(on_gpu.floats()[i]);
  CHECK(differ == 0);
}

GPU_TEST_CASE("conv2d: NaN and infinity come out where and as float32 code has them, epilogue included") {
  for (const ConvShape& s : hard_shapes()) {
    const Tensor w = uniform({s.K, s.C, s.R, s.S}, 5), b = uniform({s.K}, 6);
    Tensor x = uniform({s.N, s.C, s.H, s.W}, 7);
    const int64_t image = s.C * s.H * s.W;
    x.floats()[static_cast<size_t>(5 * s.W + 2)] = INFINITY;  // the first image; the last one has a NaN
    x.floats()[static_cast<size_t>((s.N - 1) * image + 4 * s.W + 3)] = NAN;
    Graph g = conv_graph(s, true), with_mish;
    {
      const Value xv = with_mish.input("x", x.shape()), wv = with_mish.parameter("w", w.shape());
      const Conv2dOptions options{.stride = {s.stride_h, s.stride_w},
                                  .padding = {s.pad_top, s.pad_left, s.pad_bottom, s.pad_right}};
      with_mish.output("y", with_mish.mish(with_mish.mish(
                                with_mish.conv2d(xv, wv, with_mish.parameter("b", b.shape()), options))));
    }
    for (const Graph* graph : {&g, &with_mish}) {
      const Tensor expected = run(*graph, {{"w", w}, {"b", b}}, {{"x", x}}, {.device = Device::cpu()});
      for (const Math math : {Math::tf32, Math::fp32})
        for (const ConvAlgorithm algorithm : kAlgorithms) {
          const Tensor y = run(*graph, {{"w", w}, {"b", b}}, {{"x", x}},
                               {.device = Device::cuda(0), .math = math, .conv = algorithm});
          int64_t bad = 0;
          for (size_t i = 0; i < y.floats().size(); ++i) {
            const float e = expected.floats()[i], v = y.floats()[i];
            bad += std::isnan(e) != std::isnan(v) || (std::isinf(e) && e != v) ||
                   (std::isfinite(e) && !(std::abs(e - v) <= 0.05f));
          }
          INFO(describe(s, math, algorithm));
          CHECK(bad == 0);
        }
    }
  }
}

GPU_TEST_CASE(
    "conv2d: residual blocks and other epilogues, fused equals unfused bit for bit with Math::fp32") {
  for (const ConvShape& s : hard_shapes()) {
    Graph g;
    const Value x = g.input("x", {s.N, s.C, s.H, s.W}), w = g.parameter("w", {s.K, s.C, s.R, s.S}),
                b = g.parameter("b", {s.K});
    const Conv2dOptions options{.stride = {s.stride_h, s.stride_w},
                                .padding = {s.pad_top, s.pad_left, s.pad_bottom, s.pad_right}};
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
    for (const ConvAlgorithm algorithm : kAlgorithms) {
      if (is_sanitized() && algorithm != ConvAlgorithm::automatic) continue;
      const auto results = [&](Math math, bool fuse) {
        const CompileOptions how{.device = Device::cuda(0), .math = math, .fuse = fuse, .conv = algorithm};
        const Model model = compile(g, weights, how);
        int64_t num_passes = 0;
        for (const auto& node : model.nodes())
          num_passes += node.path.find("elementwise pass") != std::string::npos;
        if (fuse) CHECK(num_passes == 4);  // swish by hand, scaled, row, long
        return model.session().run(inputs);
      };
      const TensorMap fused = results(Math::fp32, true), plain = results(Math::fp32, false),
                      approximate = results(Math::tf32, true);
      for (const auto& [name, tensor] : plain) {
        INFO(describe(s, Math::fp32, algorithm), " ", name);
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
    for (const ConvAlgorithm algorithm : kAlgorithms) {
      for (const ConvShape& s : hard_shapes()) {
        const TensorMap weights{{"w", uniform({s.K, s.C, s.R, s.S}, 1)}, {"b", uniform({s.K}, 2)}};
        const Tensor x = uniform({s.N, s.C, s.H, s.W}, 3);
        Tensor large = uniform({s.N, s.C, s.H, s.W}, 4, -1e12f, 1e12f);
        large.floats()[7] = INFINITY;
        const CompileOptions options{.device = Device::cuda(0), .math = math, .conv = algorithm};
        Session session = compile(conv_graph(s, true), weights, options).session();
        const Tensor expected = session.run({{"x", x}}).at("y");
        int bad = 0;
        for (int i = 0; i < 100; ++i) {
          if (i % 25 == 24) session.run({{"x", large}});
          bad += !same_bits(session.run({{"x", x}}).at("y"), expected);
        }
        INFO(describe(s, math, algorithm));
        CHECK(bad == 0);
      }
    }
}
