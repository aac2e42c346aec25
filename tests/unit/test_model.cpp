#include <algorithm>
#include <array>
#include <cmath>
#include <thread>

#include "runtime/memory.h"
#include "tests/support/oracle.h"
#include "tests/support/support.h"

using namespace solder;
using namespace solder::test;

namespace {

Graph small_net() {
  Graph g;
  const Value x = g.input("x", {2, 3, 12, 12});
  const Value w = g.parameter("conv.weight", {8, 3, 3, 3}), b = g.parameter("conv.bias", {8});
  const Value w2 = g.parameter("fc.weight", {5, 12});
  const Value h = g.mish(g.mish(g.conv2d(x, w, b, {.padding = 1})));
  const Value scaled = g.mul(g.add(h, g.sigmoid(h)), 0.5f);
  g.output("features", scaled);
  g.output("y", g.tanh(g.linear(scaled, w2)));
  return g;
}

TensorMap small_weights() {
  return {{"conv.weight", uniform({8, 3, 3, 3}, 1)},
          {"conv.bias", uniform({8}, 2)},
          {"fc.weight", uniform({5, 12}, 3)}};
}

}  // namespace

TEST_CASE("model: fused equals unfused bit for bit with Math::fp32, on each device") {
  const Tensor x = uniform({2, 3, 12, 12}, 4);
  for (const Device device : devices()) {
    const TensorMap fused =
        compile(small_net(), small_weights(), {.device = device}).session().run({{"x", x}});
    const TensorMap plain =
        compile(small_net(), small_weights(), {.device = device, .fuse = false}).session().run({{"x", x}});
    INFO(to_string(device));
    CHECK(same_bits(fused.at("y"), plain.at("y")));
    CHECK(same_bits(fused.at("features"), plain.at("features")));
  }
}

TEST_CASE("model: sessions repeat bit for bit, with and without capture, and share one model") {
  const Tensor x = uniform({2, 3, 12, 12}, 4), other = uniform({2, 3, 12, 12}, 5);
  for (const Device device : devices()) {
    const Model model = compile(small_net(), small_weights(), {.device = device});
    Session first = model.session(), second = model.session();
    const TensorMap expected = first.run({{"x", x}});
    second.run({{"x", other}});
    for (int i = 0; i < 3; ++i) CHECK(same_bits(second.run({{"x", x}}).at("y"), expected.at("y")));
    Session eager = compile(small_net(), small_weights(), {.device = device, .capture = false}).session();
    CHECK(same_bits(eager.run({{"x", x}}).at("y"), expected.at("y")));

    Tensor given = Tensor::empty(expected.at("y").shape());
    first.run({{"x", x.to(device)}}, {{"y", given}});
    CHECK(same_bits(given, expected.at("y")));
    first.execute();
    first.synchronize();
    CHECK(same_bits(first.output("y").to(Device::cpu()), expected.at("y")));
    CHECK(same_bits(first.input("x").to(Device::cpu()), x));
  }
}

TEST_CASE("model: four threads, one session each, the same bits") {
  for (const Device device : devices()) {
    const Model model = compile(small_net(), small_weights(), {.device = device});
    const Tensor x = uniform({2, 3, 12, 12}, 4);
    const Tensor expected = model.session().run({{"x", x}}).at("y");
    std::vector<int> bad(4);
    std::vector<std::thread> threads;
    for (size_t t = 0; t < bad.size(); ++t) {
      threads.emplace_back([&, t] {
        Session session = model.session();
        for (int i = 0; i < 20; ++i) bad[t] += !same_bits(session.run({{"x", x}}).at("y"), expected);
      });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(bad == std::vector<int>(4));
  }
}

TEST_CASE("model: matmul and linear against float64") {
  Graph g;
  const Value a = g.input("a", {3, 5, 17}), b = g.input("b", {3, 17, 9}), w = g.parameter("w", {11, 17}),
              bias = g.parameter("bias", {11});
  g.output("matmul", g.matmul(a, b));
  g.output("linear", g.linear(a, w, bias));
  const Tensor at = uniform({3, 5, 17}, 1), bt = uniform({3, 17, 9}, 2), wt = uniform({11, 17}, 3),
               biast = uniform({11}, 4);
  for (const Device device : devices()) {
    const TensorMap y =
        compile(g, {{"w", wt}, {"bias", biast}}, {.device = device}).session().run({{"a", at}, {"b", bt}});
    const auto check = [&](const Tensor& result, int64_t n, auto b_at, auto bias_at) {
      int64_t bad = 0;
      for (int64_t batch = 0; batch < 3; ++batch)
        for (int64_t i = 0; i < 5; ++i)
          for (int64_t j = 0; j < n; ++j) {
            double sum = 0, sum_abs = 0;
            for (int64_t k = 0; k < 17; ++k) {
              const double term =
                  double{at.floats()[static_cast<size_t>((batch * 5 + i) * 17 + k)]} * b_at(batch, k, j);
              sum += term, sum_abs += std::abs(term);
            }
            sum += bias_at(j);
            const double got = result.floats()[static_cast<size_t>((batch * 5 + i) * n + j)];
            if (!(std::abs(got - sum) <= 18 * 0x1p-24 * (sum_abs + 1))) ++bad;
          }
      CHECK(bad == 0);
    };
    check(
        y.at("matmul"), 9,
        [&](int64_t batch, int64_t k, int64_t j) {
          return double{bt.floats()[static_cast<size_t>((batch * 17 + k) * 9 + j)]};
        },
        [](int64_t) { return 0.0; });
    check(
        y.at("linear"), 11,
        [&](int64_t, int64_t k, int64_t j) { return double{wt.floats()[static_cast<size_t>(j * 17 + k)]}; },
        [&](int64_t j) { return double{biast.floats()[static_cast<size_t>(j)]}; });
  }
}

TEST_CASE("model: linear and matmul of few rows or terms sum small integers exactly") {
  for (const auto& [m, n, k] : std::vector<std::array<int64_t, 3>>{{1, 1, 4},
                                                                   {1, 9, 2048},
                                                                   {2, 7, 60},
                                                                   {4, 8, 128},
                                                                   {5, 3, 132},
                                                                   {16, 1001, 256},
                                                                   {17, 10, 64},
                                                                   {64, 192, 576},
                                                                   {1, 1, 1},
                                                                   {3, 36, 31},
                                                                   {3, 5, 6}}) {
    const auto integers = [](const Shape& shape, uint64_t seed) {
      Tensor tensor = uniform(shape, seed, -4, 4);
      for (float& value : tensor.floats()) value = std::round(value);
      return tensor;
    };
    const Tensor x = integers({m, k}, 1), w = integers({n, k}, 2);
    Tensor across = Tensor::empty({k, n});
    for (int64_t i = 0; i < n * k; ++i)
      across.floats()[static_cast<size_t>(i % k * n + i / k)] = w.floats()[static_cast<size_t>(i)];
    Graph g;
    const Value in = g.input("x", {m, k});
    g.output("linear", g.linear(in, g.parameter("w", {n, k})));
    g.output("matmul", g.matmul(in, g.parameter("across", {k, n})));
    for (const Device device : devices()) {
      INFO(m, " x ", n, " x ", k);
      const TensorMap y =
          compile(g, {{"w", w}, {"across", across}}, {.device = device}).session().run({{"x", x}});
      int64_t num_wrong = 0;
      for (int64_t at = 0; at < m * n; ++at) {
        double sum = 0;
        for (int64_t i = 0; i < k; ++i)
          sum += double{x.floats()[static_cast<size_t>(at / n * k + i)]} *
                 w.floats()[static_cast<size_t>(at % n * k + i)];
        for (const auto& [name, tensor] : y) num_wrong += tensor.floats()[static_cast<size_t>(at)] != sum;
      }
      CHECK(num_wrong == 0);
    }
  }
}

GPU_TEST_CASE("model: a row of few terms has the same bits in every batch") {
  const Tensor w = uniform({576, 192}, 1), x = uniform({64, 576}, 2);
  const auto run = [&](int64_t rows) {
    Graph g;
    g.output("y", g.matmul(g.input("x", {rows, 576}), g.parameter("w", {576, 192})));
    Session session = compile(g, {{"w", w}}, {.device = Device::cuda(0)}).session();
    return session.run({{"x", Tensor::view(const_cast<float*>(x.floats().data()), {rows, 576})}}).at("y");
  };
  const Tensor whole = run(37);
  for (const int64_t rows : {1, 5, 16}) {
    const Tensor part = run(rows);
    CHECK(std::ranges::equal(part.floats(), whole.floats().first(part.floats().size())));
  }
}

TEST_CASE("compile and run: wrong weights, names and shapes are refused, and the session goes on") {
  const Tensor x = uniform({2, 3, 12, 12}, 4);
  TensorMap missing = small_weights(), misshaped = small_weights(), mistyped = small_weights(),
            extra = small_weights();
  missing.erase("conv.bias");
  misshaped["conv.bias"] = uniform({9}, 1);
  mistyped["conv.bias"] = uniform({8}, 1).to(DType::float16);
  extra["not.used"] = uniform({1}, 1);
  for (const Device device : devices()) {
    const CompileOptions options{.device = device};
    CHECK_ERROR(compile(small_net(), missing, options), invalid_argument, "conv.bias", "[8]");
    CHECK_ERROR(compile(small_net(), misshaped, options), shape_mismatch, "conv.bias", "[9]", "[8]");
    CHECK_ERROR(compile(small_net(), mistyped, options), shape_mismatch, "conv.bias", "float16");
    CHECK_ERROR(compile(Graph{}, {}, options), invalid_argument, "no output");
    CHECK_ERROR(compile(small_net(), small_weights(), {.device = device, .workspace_bytes = -1}),
                invalid_argument, "workspace_bytes");

    Session session = compile(small_net(), extra, options).session();
    const Tensor expected = session.run({{"x", x}}).at("y");
    CHECK_ERROR(session.run({}), invalid_argument, "\"x\"", "[2, 3, 12, 12]");
    CHECK_ERROR(session.run({{"x", x}, {"z", x}}), invalid_argument, "\"z\"", "x");
    CHECK_ERROR(session.run({{"x", uniform({2, 3, 12, 13}, 1)}}), shape_mismatch, "[2, 3, 12, 13]",
                "[2, 3, 12, 12]");
    CHECK_ERROR(session.run({{"x", x}}, {{"nope", x}}), invalid_argument, "nope", "features");
    CHECK_ERROR(session.output("nope"), invalid_argument, "nope");
    CHECK(same_bits(session.run({{"x", x}}).at("y"), expected));
  }
}

TEST_CASE("model: a graph whose output is an input, a parameter or empty") {
  for (const Device device : devices()) {
    Graph g;
    const Value x = g.input("x", {4}), p = g.parameter("p", {2});
    g.output("x again", x);
    g.output("p again", p);
    g.output("empty", g.mish(g.input("nothing", {0, 3})));
    const Tensor xt = uniform({4}, 1), pt = uniform({2}, 2);
    const TensorMap y = compile(g, {{"p", pt}}, {.device = device})
                            .session()
                            .run({{"x", xt}, {"nothing", Tensor::empty({0, 3})}});
    CHECK(same_bits(y.at("x again"), xt));
    CHECK(same_bits(y.at("p again"), pt));
    CHECK(y.at("empty").num_elems() == 0);
  }
}

TEST_CASE("model: an output that is a parameter is the session's own copy") {
  for (const Device device : devices()) {
    Graph g;
    const Value x = g.input("x", {1}), p = g.parameter("p", {4});
    g.output("y", g.add(x, g.slice(p, 0, 0, 1)));
    g.output("p", p);
    g.output("part", g.slice(p, 0, 0, 1));
    const Model model = compile(g, {{"p", Tensor::from({4}, {5, 6, 7, 8})}}, {.device = device});
    Session a = model.session(), b = model.session();
    const TensorMap in{{"x", Tensor::from({1}, {1})}};
    CHECK(a.run(in).at("p").floats()[3] == 8);
    const float hundred = 100;
    for (const char* name : {"p", "part"})
      copy(a.output(name).data(), device, &hundred, Device::cpu(), sizeof hundred);
    CHECK(b.run(in).at("y").floats()[0] == 6);
    CHECK(a.run(in).at("y").floats()[0] == 6);
    CHECK(a.run(in).at("p").floats()[0] == 5);
  }
}

TEST_CASE("model: empty and moved-from Models and Sessions are typed errors") {
  Graph g;
  g.output("y", g.mish(g.input("x", {4})));
  const TensorMap in{{"x", uniform({4}, 1)}};
  Model model;
  CHECK_ERROR(model.session(), invalid_argument, "empty", "compile()");
  CHECK_ERROR(model.graph(), invalid_argument, "empty");
  CHECK_ERROR(model.describe(), invalid_argument, "empty");
  Session session;
  CHECK_ERROR(session.run(in), invalid_argument, "empty", "session()");
  model = compile(g, {}, {.device = Device::cpu()});
  session = model.session();
  const Tensor expected = session.run(in).at("y");
  Session moved = std::move(session);
  CHECK_ERROR(session.run(in), invalid_argument, "moved from");
  CHECK_ERROR(session.execute(), invalid_argument, "moved from");
  CHECK_ERROR(session.synchronize(), invalid_argument, "moved from");
  CHECK_ERROR(session.output("y"), invalid_argument, "moved from");
  CHECK_ERROR(session.profile(1), invalid_argument, "moved from");
  CHECK_ERROR(session.stream(), invalid_argument, "moved from");
  CHECK(same_bits(moved.run(in).at("y"), expected));
  session = std::move(moved);
  CHECK(same_bits(session.run(in).at("y"), expected));
}

TEST_CASE("compile: everything that is wrong with the weights is said at once") {
  Graph g;
  Value v = g.input("x", {1, 2, 4, 4});
  for (int i = 0; i < 30; ++i)
    v = g.conv2d(v, g.parameter("layer" + std::to_string(i) + ".weight", {2, 2, 1, 1}));
  g.output("y", v);
  TensorMap weights{{"layer0.weight", uniform({2, 3, 1, 1}, 1)},
                    {"model.layer1.weight", uniform({2, 2, 1, 1}, 2)}};
  CHECK_ERROR(compile(g, weights, {.device = Device::cpu()}), invalid_argument, "layer0.weight",
              "[2, 3, 1, 1]", "\"layer1.weight\" was given", "layer19.weight", "10 more",
              "model.layer1.weight", "of 30 weights 30");
  weights.left_out["layer1.weight"] = "F64";
  CHECK_ERROR(compile(g, weights, {.device = Device::cpu()}), invalid_argument, "is there, as F64");
  CHECK_ERROR(compile(g, weights, {.device = Device::cpu(), .conv = "winograd"}), invalid_argument,
              "winograd", "im2col", "rows");
}

TEST_CASE("compile: a missing weight is shown with the name most like it, and then what is surplus") {
  Graph g;
  const Value x = g.input("x", {1, 2, 4, 4});
  Value v = g.conv2d(x, g.parameter("layer1.0.conv1.weight", {2, 2, 1, 1}));
  v = g.conv2d(v, g.parameter("layer1.0.downsample.0.weight", {2, 2, 1, 1}));
  g.output("y", g.conv2d(v, g.parameter("2.weight", {2, 2, 1, 1})));
  const Tensor w = uniform({2, 2, 1, 1}, 1);
  const auto message = [&](const TensorMap& weights) {
    try {
      compile(g, weights, {.device = Device::cpu()});
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const auto has = [](const std::string& text, const std::string& words) {
    return text.find(words) != std::string::npos;
  };
  // Surplus is no error, and not a word is said of it.
  TensorMap right{
      {"layer1.0.conv1.weight", w}, {"layer1.0.downsample.0.weight", w}, {"2.weight", w}, {"fc.bias", w}};
  right.left_out["bn.num_batches_tracked"] = "I64";
  CHECK(message(right).empty());

  // What another parameter uses is no candidate, however alike it is.
  TensorMap other = right;
  other.erase("layer1.0.downsample.0.weight");
  other["layer1.0.shortcut.0.weight"] = uniform({2, 2, 3, 3}, 2);
  std::string text = message(other);
  CAPTURE(text);
  CHECK(has(text, "of 3 weights 1 cannot be used"));
  CHECK(has(text, "closest is \"layer1.0.shortcut.0.weight\", float32 [2, 2, 3, 3]"));
  CHECK(has(text, "not asked for: \"fc.bias\", \"layer1.0.shortcut.0.weight\""));
  CHECK(!has(text, "strip_prefix"));
  CHECK(!has(text, "num_batches_tracked"));

  // A prefix that all of them have.
  TensorMap behind;
  for (const auto& [name, tensor] : right) behind["net." + name] = tensor;
  text = message(behind);
  CHECK(has(text, "of 3 weights 3"));
  CHECK(has(text, "closest is \"net.2.weight\""));
  CHECK(has(text, "behind \"net.\": load_safetensors(path, {.strip_prefix = \"net.\"})"));
  behind.strip_prefix("net.");
  CHECK(message(behind).empty());

  // Nothing alike, and nothing at all.
  text = message({{"embedding", w}});
  CHECK(!has(text, "closest"));
  CHECK(has(text, "not asked for: \"embedding\""));
  CHECK(has(message({}), "no weights were given at all"));

  TensorMap many = other;
  for (int i = 0; i < 30; ++i) many["surplus" + std::to_string(i)] = w;
  CHECK(has(message(many), "\"surplus24\" and 12 more"));
}

TEST_CASE("data: PyTorch's convolution and double mish, from the files it wrote") {
  const TensorMap weights = load_safetensors(SOLDER_TEST_DATA "/headline_small.safetensors");
  const Tensor x = load_npy(SOLDER_TEST_DATA "/headline_small_x.npy");
  const Tensor expected =
      load_npy(SOLDER_TEST_DATA "/headline_small_y.npy");  // computed in float64, rounded once
  Graph g;
  const Value w = g.parameter("conv.weight", weights.at("conv.weight").shape());
  const Value b = g.parameter("conv.bias", weights.at("conv.bias").shape());
  g.output("y", g.mish(g.mish(g.conv2d(g.input("x", x.shape()), w, b))));
  for (const Device device : devices()) {
    for (const Math math : {Math::fp32, Math::tf32}) {
      const Tensor y = run(g, weights, {{"x", x}}, {.device = device, .math = math});
      REQUIRE(y.shape() == expected.shape());
      double error = 0, norm = 0;
      for (size_t i = 0; i < y.floats().size(); ++i) {
        const double difference = double{y.floats()[i]} - expected.floats()[i];
        error += difference * difference;
        norm += double{expected.floats()[i]} * expected.floats()[i];
      }
      INFO(to_string(device), " ", std::string(to_string(math)), ": relative Frobenius error ",
           std::sqrt(error / norm));
      CHECK(std::sqrt(error / norm) <= (math == Math::fp32 || !device.is_cuda() ? 1e-6 : 5e-4));
    }
  }
}

TEST_CASE("model: a session beyond host memory says so, with the node at its peak") {
  Graph g;
  g.output("y", g.name(g.mish(g.input("x", {int64_t{1} << 46})), "biggest"));
  const Model model = compile(g, {}, {.device = Device::cpu()});
  CHECK_ERROR(model.session(), out_of_memory, "a session", "biggest", "562949953421312");
}

GPU_TEST_CASE("model: device memory taken is what the plan says, and comes back") {
  Graph g;
  const Value x = g.input("x", {4, 64, 64, 64}), w = g.parameter("w", {128, 64, 3, 3}),
              b = g.parameter("b", {128});
  g.output("y", g.mish(g.mish(g.conv2d(x, w, b))));
  const TensorMap weights{{"w", uniform({128, 64, 3, 3}, 1)}, {"b", uniform({128}, 2)}};
  const Device gpu = Device::cuda(0);
  const int64_t before = device_bytes_in_use(gpu);
  {
    const Model model = compile(g, weights, {.device = gpu});
    Session session = model.session();
    session.run({{"x", uniform({4, 64, 64, 64}, 3)}});
    const int64_t values = 4 * (int64_t{4} * 64 * 64 * 64 + int64_t{4} * 128 * 62 * 62);
    CHECK(model.peak_bytes() <= values + model.weights_bytes() + (256 << 20) + (1 << 20));
    CHECK(device_bytes_in_use(gpu) - before == model.peak_bytes());
  }
  CHECK(device_bytes_in_use(gpu) == before);
}

GPU_TEST_CASE("model: compile() says how far it is, and throws what is thrown there") {
  std::vector<int> done;
  int of = 0;
  CompileOptions options{.device = Device::cuda(0)};
  options.progress = [&](int count, int all) { done.push_back(count), of = all; };
  compile(small_net(), small_weights(), options);
  REQUIRE(!done.empty());
  CHECK(std::is_sorted(done.begin(), done.end()));
  CHECK(done.front() == 0);
  CHECK(done.back() + 1 == of);
  options.progress = [](int, int) { throw std::runtime_error("stop here"); };
  CHECK_THROWS_WITH_AS(compile(small_net(), small_weights(), options), "stop here", std::runtime_error);
  options.progress = nullptr;
  CHECK_NOTHROW(compile(small_net(), small_weights(), options));
}

GPU_TEST_CASE("model: out of device memory is a typed error, and the next run gives the same bits") {
  const Tensor x = uniform({2, 3, 12, 12}, 4);
  const Model model = compile(small_net(), small_weights(), {.device = Device::cuda(0)});
  const Tensor expected = model.session().run({{"x", x}}).at("y");
  Graph huge;
  huge.output("y", huge.matmul(huge.input("a", {1 << 19, 1 << 19}), huge.input("b", {1 << 19, 1 << 19})));
  const Model too_big = compile(huge, {}, {.device = Device::cuda(0)});
  for (int i = 0; i < 3; ++i) {
    CHECK_ERROR(too_big.session(), out_of_memory, "matmul", "bytes", "free");
    CHECK(same_bits(model.session().run({{"x", x}}).at("y"), expected));
  }
}
