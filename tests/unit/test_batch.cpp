// Model::batch(): the bits of a model compiled for that size, from the same weights; and what has one size alone.

#include <malloc.h>

#include <atomic>
#include <functional>
#include <thread>

#include "graph/passes/passes.h"
#include "tests/cases/random_graph.h"

using namespace solder;
using namespace solder::test;

namespace {

using Build = std::function<void(Graph&, int64_t n)>;

Graph built(const Build& build, int64_t n) {
  Graph g;
  build(g, n);
  return g;
}

// Values for all that `graph` is given.
TensorMap given(const Graph& graph, NodeKind kind, uint64_t seed = 1) {
  TensorMap tensors;
  for (const Node& node : graph.nodes())
    if (node.kind == kind)
      tensors[node.name] = uniform(node.outputs[0].shape, seed++).to(node.outputs[0].dtype);
  return tensors;
}

bool same_bits(const TensorMap& a, const TensorMap& b) {
  return a.size() == b.size() && std::ranges::all_of(a, [&](const auto& entry) {
           const auto other = b.find(entry.first);
           return other != b.end() && test::same_bits(entry.second, other->second);
         });
}

// For each n and device, batch(n) of what is built for `from` against what is built for n.
void check_sizes(const Build& build, int64_t from, const std::vector<int64_t>& sizes = {1, 2, 3, 16}) {
  const Graph graph = built(build, from);
  const TensorMap weights = given(graph, NodeKind::parameter);
  for (const Device device : devices()) {
    const Model model = compile(graph, weights, {.device = device});
    for (const int64_t n : sizes) {
      CAPTURE(from);
      CAPTURE(n);
      const Graph fresh = built(build, n);
      const Model expected = compile(fresh, weights, {.device = device}), got = model.batch(n);
      const TensorMap inputs = given(fresh, NodeKind::input, 50);
      CHECK(same_bits(got.session().run(inputs), expected.session().run(inputs)));
      CHECK(got.session_bytes() == expected.session_bytes());
      CHECK(got.weights_bytes() == expected.weights_bytes());
    }
  }
}

// Bytes of the C heap in use; 0 under sanitizers, which have their own.
int64_t heap_bytes() {
  const auto info = ::mallinfo2();
  return static_cast<int64_t>(info.uordblks + info.hblkhd);
}

void image_classifier(Graph& g, int64_t n) {
  const Value x = g.input("x", {n, 3, 8, 8});
  Value y = g.conv2d(x, g.parameter("w1", {8, 3, 3, 3}), g.parameter("b1", {8}), {.padding = 1});
  y = g.max_pool2d(g.mish(y), {.kernel = 2});
  const std::vector<Value> halves = g.split(y, 1, {4, 4});
  y = g.concat({g.relu(halves[1]), halves[0]}, 1);
  y = g.resize(g.pad(y, {0, 0, 1, 1}, {0, 0, 1, 1}, PadMode::edge),
               {.size = 8, .mode = ResizeMode::bilinear});
  y = g.batch_norm(y, g.parameter("gamma", {8}), g.parameter("beta", {8}), g.parameter("mean", {8}),
                   g.square(g.parameter("variance", {8})));
  y = g.group_norm(y, g.parameter("gamma2", {8}), g.parameter("beta2", {8}), 2);
  y = g.lrn(g.depth_to_space(g.space_to_depth(y, 2), 2, true), 3);
  y = g.gather(y, 1, {7, 0, 3});
  y = g.flatten(g.mean(y, {2, 3}, true));
  g.output("y", g.softmax(g.linear(y, g.parameter("fc", {5, 3}), g.parameter("fc.bias", {5}))));
}

// A transformer's block: a token that is the same for all images, heads that are merged with the batch, a mask.
void attention(Graph& g, int64_t n) {
  constexpr int64_t kTokens = 5, kHeads = 2, kWidth = 3, kAll = kHeads * kWidth;
  const Value x = g.input("x", {n, kTokens - 1, kAll});
  const Value token = g.expand(g.parameter("token", {1, 1, kAll}), {n, 1, kAll});
  const Value y = g.add(g.concat({token, x}, 1), g.parameter("position", {1, kTokens, kAll}));
  const auto heads = [&](const char* name) {
    const Value all = g.linear(y, g.parameter(name, {kAll, kAll}));
    return g.reshape(g.permute(g.reshape(all, {n, kTokens, kHeads, kWidth}), {0, 2, 1, 3}),
                     {n * kHeads, kTokens, kWidth});
  };
  const Value q = heads("q"), k = heads("k"), v = heads("v");
  Value scores = g.matmul(q, g.permute(k, {0, 2, 1}));
  scores = g.add(scores, g.parameter("mask", {kTokens, kTokens}));
  const Value mixed = g.matmul(g.softmax(scores), v);
  const Value back = g.permute(g.reshape(mixed, {n, kHeads, kTokens, kWidth}), {0, 2, 1, 3});
  g.output("y", g.layer_norm(g.reshape(back, {n, kTokens, kAll}), g.parameter("gamma", {kAll}),
                             g.parameter("beta", {kAll}), 1));
}

// The same with tokens in front, as torch.nn.MultiheadAttention has them: the batch is the second axis, and joined to
// the heads behind it or to the tokens before it.
void tokens_first(Graph& g, int64_t n) {
  const Value x = g.permute(g.input("x", {n, 6, 8}), {1, 0, 2});
  const Value flat = g.linear(g.reshape(x, {6 * n, 8}), g.parameter("w", {8, 8}));
  const Value heads = g.permute(g.reshape(g.reshape(flat, {6, n, 8}), {6, n * 2, 4}), {1, 0, 2});
  g.output("y", g.reshape(g.permute(g.softmax(heads), {1, 0, 2}), {6, n, 8}));
}

}  // namespace

TEST_CASE("batch: any size of any other gives the bits of a model compiled for it") {
  for (const Build& build : {Build(image_classifier), Build(attention), Build(tokens_first)})
    for (const int64_t from : {1, 4, 7, 16}) check_sizes(build, from);
}

TEST_CASE("batch: constants that each image has, views that take all of it, and inputs of another size") {
  check_sizes(
      [](Graph& g, int64_t n) {
        const Value x = g.input("x", {n, 4}), z = g.input("z", {n, 4});
        const Value table = g.input("table", {9, 4}), one = g.input("one", {1, 4});
        const Value per_image = g.expand(g.mul(g.parameter("p", {4}), 2.0f), {n, 4});
        const Value backwards = g.slice(g.slice(x, 0, 0, n), 0, -1, INT64_MIN, -1);
        g.output("sum", g.add(g.add(backwards, per_image), one));
        g.output("table", g.mish(table));
        g.output("z", g.sub(z, x));
        g.output("both", g.concat({x, per_image, table}, 0));
        g.output("mean", g.mean(x, {0}));
        g.output("all", g.reshape(x, {4 * n}));
        g.output("spread", g.expand(g.unsqueeze(x, {1}), {n, 3, 4}));
        g.output("scalar", g.sum(x, {0, 1}));
      },
      7, {2, 3, 16, 1});
}

TEST_CASE("batch: sizes of a size, the size itself, and a model that outlives the one it came from") {
  const Graph graph = built(image_classifier, 4);
  const TensorMap weights = given(graph, NodeKind::parameter);
  for (const Device device : devices()) {
    Model model = compile(graph, weights, {.device = device});
    const Model same = model.batch(4), three = model.batch(9).batch(1).batch(3);
    model = {};
    const TensorMap four = given(graph, NodeKind::input),
                    few = given(built(image_classifier, 3), NodeKind::input);
    CHECK(
        same_bits(same.session().run(four), compile(graph, weights, {.device = device}).session().run(four)));
    CHECK(same_bits(three.session().run(few),
                    compile(built(image_classifier, 3), weights, {.device = device}).session().run(few)));
  }
}

TEST_CASE("batch: random graphs") {
  int num_compared = 0, num_refused = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    CAPTURE(seed);
    const RandomGraph random = GraphGenerator(seed, 7).take();
    const CompileOptions options{.device = Device::cpu(), .fuse = seed % 5 != 0};
    const Model model = compile(random.graph, random.weights, options);
    for (const int64_t n : {1, 2, 3, 16}) {
      CAPTURE(n);
      const RandomGraph fresh = GraphGenerator(seed, n).take();
      // Where shapes that meet by chance lead elsewhere it is another program.
      const auto same_call = [](const Node& a, const Node& b) {
        return a.kind == b.kind && a.name == b.name && a.inputs == b.inputs;
      };
      if (!std::ranges::equal(random.graph.nodes(), fresh.graph.nodes(), same_call)) continue;
      try {
        const TensorMap got = model.batch(n).session().run(fresh.inputs);
        CHECK(same_bits(got, compile(fresh.graph, random.weights, options).session().run(fresh.inputs)));
        ++num_compared;
      } catch (const Error& error) {
        const std::string text = error.what();
        num_refused += text.find("has no batch size") == std::string::npos;
        CAPTURE(text);
        CHECK(num_refused == 0);
      }
    }
  }
  CHECK(num_compared > 800);
}

TEST_CASE("batch: what has one size alone is named") {
  const auto refused = [](const Build& build, int64_t from, int64_t n, ErrorKind kind,
                          const std::vector<const char*>& words) {
    const Graph graph = built(build, from);
    const Model model = compile(graph, given(graph, NodeKind::parameter), {.device = Device::cpu()});
    try {
      model.batch(n);
      FAIL_CHECK("no error; wanted " << std::string(words[0]));
    } catch (const Error& error) {
      const std::string text = error.what();
      CAPTURE(text);
      CHECK(error.kind() == kind);
      for (const char* word : words) CHECK(text.find(word) != std::string::npos);
    }
    const TensorMap inputs = given(graph, NodeKind::input);  // and the model goes on
    CHECK(model.session().run(inputs).size() == graph.outputs().size());
  };
  const Build plain = [](Graph& g, int64_t n) { g.output("y", g.mish(g.input("x", {n, 4}))); };
  for (const int64_t n : {int64_t{0}, int64_t{-3}, INT64_MIN})
    refused(plain, 2, n, ErrorKind::invalid_argument, {"batch", "must be positive"});
  refused(plain, 2, INT64_MAX, ErrorKind::invalid_argument, {"batch"});
  refused(plain, 0, 2, ErrorKind::invalid_argument, {"has no batch", "positive", "x [0, 4]"});
  refused(
      [](Graph& g, int64_t n) {
        g.output("y", g.mish(g.input("x", {n, 4})));
        g.output("z", g.mish(g.input("z", {n + 1, 4})));
      },
      2, 3, ErrorKind::invalid_argument, {"has no batch", "x [2, 4], z [3, 4]"});
  refused([](Graph& g, int64_t) { g.output("y", g.mish(g.input("x", {}))); }, 1, 2,
          ErrorKind::invalid_argument, {"has no batch"});
  refused([](Graph& g, int64_t) { g.output("y", g.mish(g.parameter("p", {2}))); }, 1, 2,
          ErrorKind::invalid_argument, {"has no batch"});

  const auto named = [&](const char* node, int64_t from, int64_t n, const Build& build,
                         std::vector<const char*> words = {}, ErrorKind kind = ErrorKind::unsupported) {
    words.insert(words.begin(), {node, "batch of"});
    refused(
        [&](Graph& g, int64_t size) {
          g.name(g.outputs().empty() ? (build(g, size), g.outputs().back().second) : Value(), node);
        },
        from, n, kind, words);
  };
  const auto x = [](Graph& g, int64_t n) { return g.input("x", {n, 4}); };
  named("halves", 8, 6,
        [&](Graph& g, int64_t n) {
          g.output("y", g.reshape(x(g, n), {2, 16}));
        },
        {"[2, 16]", "[8, 4]", "[6, 4]"});
  named("none", 1, 2, [&](Graph& g, int64_t) { g.output("y", g.reshape(g.input("x", {1}), {})); });
  named("first", 8, 3, [&](Graph& g, int64_t n) { g.output("y", g.slice(x(g, n), 0, 0, 4)); },
        {"takes 4 of the 8"});
  named("some", 8, 3, [&](Graph& g, int64_t n) { g.output("y", g.gather(x(g, n), 0, {0})); }, {"axis 0"});
  for (const int64_t n : {1, 3})
    named("sum", 8, n,
          [&](Graph& g, int64_t m) {
            g.output("y", g.add(x(g, m), g.parameter("p", {8, 4})));
          },
          {"[8, 4]"});
  named("outer", 1, 8,
        [&](Graph& g, int64_t n) {
          g.output("y", g.add(x(g, n), g.parameter("p", {8, 4})));
        },
        {"[8, 4]"});
  named("spread", 1, 8, [&](Graph& g, int64_t n) { g.output("y", g.expand(x(g, n), {8, 4})); }, {"8"});
  named(
      "joined", 8, 3,
      [&](Graph& g, int64_t n) {
        g.output("y", g.concat({x(g, n), g.parameter("p", {8, 1})}, 1));
      },
      {}, ErrorKind::shape_mismatch);
  // One image without its axis is told from several no longer.
  named("classes", 1, 3, [&](Graph& g, int64_t n) { g.output("y", g.softmax(g.reshape(x(g, n), {4}))); },
        {"compile()", "2 or more"});
  named("total", 1, 3,
        [&](Graph& g, int64_t n) {
          g.output("y", g.sum(g.reshape(x(g, n), {2, 2}), {0}));
        },
        {"compile()"});
}

TEST_CASE("batch: run() of another number of images says how") {
  const Graph graph = built(
      [](Graph& g, int64_t n) {
        g.output("y", g.add(g.add(g.input("x", {n, 4}), g.input("c", {5, 1, 4})), g.input("z", {n, 4})));
      },
      8);
  Session session = compile(graph, {}, {.device = Device::cpu()}).session();
  const Tensor c = uniform({5, 1, 4}, 1), z = uniform({8, 4}, 2);
  const auto run = [&](const Shape& x, const Tensor& table) {
    return session.run({{"x", uniform(x, 1)}, {"c", table}, {"z", z}});
  };
  CHECK_ERROR(run({3, 4}, c), shape_mismatch, "[3, 4]", "[8, 4]", "model.batch(3)");
  CHECK_ERROR(run({9, 4}, c), shape_mismatch, "model.batch(9)");
  const std::vector<std::pair<Shape, Tensor>> others{
      {{3, 5}, c}, {{0, 4}, c}, {{8, 4}, uniform({4, 1, 4}, 1)}};
  for (const auto& [x, table] : others) {
    try {
      run(x, table);
      FAIL_CHECK("ran");
    } catch (const Error& error) {
      CHECK(std::string(error.what()).find("batch(") == std::string::npos);
    }
  }
  CHECK_ERROR(Model().batch(1), invalid_argument, "empty");
}

TEST_CASE("batch: takes no memory for weights") {
  const Graph graph = built(
      [](Graph& g, int64_t n) {
        const Value y = g.linear(g.input("x", {n, 1024}), g.mul(g.parameter("w", {1024, 1024}), 2.0f));
        g.output("y", g.batch_norm(y, g.parameter("a", {1024}), g.parameter("b", {1024}),
                                   g.parameter("c", {1024}), g.parameter("d", {1024})));
      },
      4);
  TensorMap weights = given(graph, NodeKind::parameter);
  weights["d"] = uniform({1024}, 9, 0.5f, 2);
  const Model model = compile(graph, weights, {.device = Device::cpu()});
  weights = {};
  CHECK(model.weights_bytes() > 4 << 20);
  const int64_t before = heap_bytes();
  std::vector<Model> sizes;
  for (int64_t n = 1; n <= 10; ++n) sizes.push_back(model.batch(n));
  CHECK(heap_bytes() - before < 1 << 20);
  CHECK(sizes.back().weights_bytes() == model.weights_bytes());
}

TEST_CASE("batch: from many threads at once") {
  const Graph graph = built(image_classifier, 4);
  const TensorMap weights = given(graph, NodeKind::parameter);
  const Model model = compile(graph, weights, {.device = Device::cpu()});
  std::vector<TensorMap> inputs, expected;
  for (int64_t n = 1; n <= 4; ++n) {
    inputs.push_back(given(built(image_classifier, n), NodeKind::input));
    expected.push_back(
        compile(built(image_classifier, n), weights, {.device = Device::cpu()}).session().run(inputs.back()));
  }
  std::atomic<int> num_wrong = 0;
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < 8; ++i) {
        const size_t k = (t + i) % 4;
        const Model mine = model.batch(static_cast<int64_t>(k) + 1);
        num_wrong += !same_bits(mine.session().run(inputs[k]), expected[k]);
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(num_wrong == 0);
}
