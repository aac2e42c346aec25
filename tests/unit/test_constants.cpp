// What parameters alone determine is computed once, by compile(): how much is left to run, and the same bits.

#include <algorithm>

#include "tests/support/lying.h"

using namespace solder;
using namespace solder::test;

namespace {

int count_kind(const Model& model, NodeKind kind) {
  const std::vector<Node>& nodes = model.graph().nodes();
  return static_cast<int>(
      std::count_if(nodes.begin(), nodes.end(), [&](const Node& node) { return node.kind == kind; }));
}

// Nodes that compute, or show what others have in another way.
int num_working(const Model& model) {
  return static_cast<int>(model.graph().nodes().size()) - count_kind(model, NodeKind::input) -
         count_kind(model, NodeKind::parameter);
}

// Bytes of tensors of these sizes where weights are kept.
int64_t kept_bytes(const std::vector<int64_t>& sizes) {
  int64_t bytes = 0;
  for (const int64_t size : sizes) bytes += (size + 255) / 256 * 256;
  return bytes;
}

// Parameters p [4,4], q [4,2], h float16 [4,4] and v [4] become a matrix [4,4].
struct MatrixCase {
  const char* name;
  Value (*make)(Graph& g, Value p, Value q, Value h, Value v);
};

const std::vector<MatrixCase> kMatrices = {
    {"cast", [](Graph& g, Value, Value, Value h, Value) { return g.cast(h, DType::float32); }},
    {"cast there and back", [](Graph& g, Value p, Value, Value,
                               Value) { return g.cast(g.cast(p, DType::bfloat16), DType::float32); }},
    {"transposed",
     [](Graph& g, Value p, Value, Value, Value) {
       return g.permute(p, {1, 0});
     }},
    {"scaled", [](Graph& g, Value p, Value, Value, Value) { return g.mul(p, 0.3f); }},
    {"scaled by rows",
     [](Graph& g, Value p, Value, Value, Value v) { return g.mul(p, g.unsqueeze(v, {1})); }},
    {"reshaped",
     [](Graph& g, Value p, Value, Value, Value) {
       return g.reshape(g.flatten(p, 0), {4, -1});
     }},
    {"turned over", [](Graph& g, Value p, Value, Value, Value) { return g.slice(p, 0, -1, INT64_MIN, -1); }},
    {"joined",
     [](Graph& g, Value p, Value q, Value, Value) {
       return g.concat({q, g.slice(p, 1, 1, 3)}, 1);
     }},
    {"one twice",
     [](Graph& g, Value, Value q, Value, Value) {
       return g.concat({q, q}, 1);
     }},
    {"expanded",
     [](Graph& g, Value, Value, Value, Value v) {
       return g.expand(v, {4, 4});
     }},
    {"tiled",
     [](Graph& g, Value, Value q, Value, Value) {
       return g.tile(q, {1, 2});
     }},
    {"padded and gathered",
     [](Graph& g, Value, Value q, Value, Value) {
       return g.gather(g.pad(q, {0, 1}, {0, 1}), 0, {3, 1, 1, -4});
     }},
    {"a product", [](Graph& g, Value p, Value q, Value, Value) { return g.linear(q, g.slice(p, 1, 0, 2)); }},
    {"softmax less its mean",
     [](Graph& g, Value p, Value, Value, Value) {
       const Value s = g.softmax(p);
       return g.sub(s, g.mean(s, {0}));
     }},
    {"a chain",
     [](Graph& g, Value p, Value, Value h, Value v) {
       Value y = g.permute(g.add(g.mish(g.mish(p)), v), {1, 0});
       y = g.max(g.matmul(y, g.cast(h, DType::float32)), g.neg(y));
       return g.where(g.less(y, 0.1f), g.exp(y), g.concat({g.slice(y, 0, 2, 4), g.slice(y, 0, 0, 2)}, 0));
     }},
};

TensorMap matrix_weights() {
  return {{"p", uniform({4, 4}, 1)},
          {"q", uniform({4, 2}, 2)},
          {"h", uniform({4, 4}, 3).to(DType::float16)},
          {"v", uniform({4}, 4)}};
}

Value make_matrix(Graph& g, const MatrixCase& c) {
  const Value p = g.parameter("p", {4, 4}), q = g.parameter("q", {4, 2}),
              h = g.parameter("h", {4, 4}, DType::float16), v = g.parameter("v", {4});
  return c.make(g, p, q, h, v);
}

}  // namespace

TEST_CASE(
    "constants: made of parameters once, they are one parameter, and the bits of every run making them") {
  const Tensor x = uniform({3, 4}, 10);
  for (const MatrixCase& c : kMatrices) {
    Graph g;
    const Value m = make_matrix(g, c), xv = g.input("x", {3, 4});
    g.output("product", g.matmul(xv, m));
    g.output("sum", g.add(g.mean(xv, {}), m));
    for (const Device device : devices()) {
      CAPTURE(c.name);
      const Model model = compile(g, matrix_weights(), {.device = device});
      CHECK(num_working(model) == 3);  // the product, the mean, the sum
      CHECK(model.weights_bytes() == kept_bytes({64}));
      const TensorMap y = model.session().run({{"x", x}});
      const TensorMap plain =
          compile(g, matrix_weights(), {.device = device, .fuse = false}).session().run({{"x", x}});
      CHECK(same_bits(y.at("product"), plain.at("product")));
      CHECK(same_bits(y.at("sum"), plain.at("sum")));
    }
  }
}

TEST_CASE("constants: an output that they determine is worked out beforehand, and every run's own copy") {
  for (const MatrixCase& c : kMatrices) {
    Graph g;
    const Value m = make_matrix(g, c);
    g.output("m", m);
    g.output("again", m);
    g.output("turned", g.permute(m, {1, 0}));
    for (const Device device : devices()) {
      CAPTURE(c.name);
      const Model model = compile(g, matrix_weights(), {.device = device});
      CHECK(num_working(model) == 2);  // a copy of each
      Session session = model.session();
      const TensorMap first = session.run({}), second = session.run({});
      const Tensor plain =
          compile(g, matrix_weights(), {.device = device, .fuse = false}).session().run({}).at("m");
      CHECK(same_bits(first.at("m"), plain));
      CHECK(same_bits(first.at("again"), plain));
      CHECK(same_bits(first.at("turned"), second.at("turned")));
      for_each_index({4, 4}, [&](const Shape& i) {
        CHECK(bits_of(value_at(first.at("turned"), {i[1], i[0]})) == bits_of(value_at(plain, i)));
      });
    }
  }
}

TEST_CASE("constants: filters that are made of parameters run on the kernels that filters run on") {
  const Shape shape{64, 16, 3, 3};
  const Tensor w = uniform(shape, 20), x = uniform({2, 16, 12, 16}, 21);
  // w as its transpose in 16 bits, scaled by a power of two.
  const Tensor wide = w.to(DType::float16).to(DType::float32);
  const Tensor turned = filled({16, 64, 3, 3}, DType::float16, [&](const Shape& i) {
    return value_at(wide, {i[1], i[0], i[2], i[3]}) * 2;
  });
  Graph made, given;
  const Value half = made.cast(made.parameter("turned", turned.shape(), DType::float16), DType::float32);
  made.output("y", made.relu(made.conv2d(made.input("x", x.shape()),
                                         made.mul(made.permute(half, {1, 0, 2, 3}), 0.5f))));
  given.output("y", given.relu(given.conv2d(given.input("x", x.shape()), given.parameter("w", shape))));
  for (const Device device : devices()) {
    for (const Math math : {Math::fp32, Math::tf32}) {
      const CompileOptions options{.device = device, .math = math};
      const Model one = compile(made, {{"turned", turned}}, options),
                  other = compile(given, {{"w", wide}}, options);
      CHECK(num_working(one) == 1);
      CHECK(one.nodes().back().path == other.nodes().back().path);
      CHECK(one.weights_bytes() == other.weights_bytes());
      CHECK(same_bits(one.session().run({{"x", x}}).at("y"), other.session().run({{"x", x}}).at("y")));
    }
  }
}

TEST_CASE("constants: what is much larger than what it is made of stays a view of that") {
  Graph g;
  const Value v = g.parameter("v", {64});
  g.output("y",
           g.add(g.input("x", {64, 64, 64}), g.expand(g.mul(g.reshape(v, {64, 1, 1}), 2.0f), {64, 64, 64})));
  g.output("small", g.add(g.input("row", {64}), g.slice(g.expand(v, {16, 64}), 0, 3, 4)));
  const Tensor x = uniform({64, 64, 64}, 31), vt = uniform({64}, 30), row = uniform({64}, 32);
  for (const Device device : devices()) {
    const Model model = compile(g, {{"v", vt}}, {.device = device});
    CHECK(count_kind(model, NodeKind::expand) == 1);
    CHECK(count_kind(model, NodeKind::slice) == 0);
    CHECK(model.weights_bytes() == kept_bytes({256, 256}));
    const TensorMap y = model.session().run({{"x", x}, {"row", row}});
    int64_t num_wrong = 0;
    for_each_index(x.shape(), [&](const Shape& i) {
      num_wrong += bits_of(value_at(y.at("y"), i)) != bits_of(value_at(x, i) + value_at(vt, {i[0]}) * 2);
    });
    CHECK(num_wrong == 0);
    CHECK(value_at(y.at("small"), {0, 63}) == value_at(row, {63}) + value_at(vt, {63}));
  }
}

TEST_CASE("constants: a parameter may be read as it is and in other ways; bits of any kind stay") {
  Graph g;
  const Value p = g.parameter("p", {2, 3}), x = g.input("x", {2, 3});
  g.output("plain", g.where(x, p, x));
  g.output("turned", g.where(g.permute(x, {1, 0}), g.permute(p, {1, 0}), g.permute(x, {1, 0})));
  Tensor pt = uniform({2, 3}, 40);
  const float special[] = {-0.0f, std::bit_cast<float>(0x7fc12345u), INFINITY, 1e-42f, -INFINITY, 1};
  std::copy_n(special, 6, pt.floats().begin());
  for (const Device device : devices()) {
    const Model model = compile(g, {{"p", pt}}, {.device = device});
    CHECK(model.weights_bytes() == kept_bytes({24, 24}));
    const TensorMap y = model.session().run({{"x", Tensor::from({2, 3}, {1, 1, 1, 1, 1, 1})}});
    for_each_index({2, 3}, [&](const Shape& i) {
      CHECK(bits_of(value_at(y.at("plain"), i)) == bits_of(value_at(pt, i)));
      CHECK(bits_of(value_at(y.at("turned"), {i[1], i[0]})) == bits_of(value_at(pt, i)));
    });
  }
}

TEST_CASE("constants: made parameters take no name that an input, a parameter or an output has") {
  Graph g;
  const Value p = g.parameter("p", {2, 2});
  const Value a = g.name(g.mul(p, 2.0f), "x"), b = g.name(g.mul(p, 3.0f), "x"),
              c = g.name(g.mul(p, 5.0f), "p"), d = g.name(g.mul(p, 7.0f), "x'1");
  Value y = g.input("x", {2, 2});
  const Value taken = g.input("x'2", {2, 2});
  for (const Value value : {a, b, c, d, taken}) y = g.matmul(y, value);
  g.output("y", y);
  g.output("x", b);
  g.output("p", a);
  const TensorMap weights{{"p", uniform({2, 2}, 50)}};
  const TensorMap inputs{{"x", uniform({2, 2}, 51)}, {"x'2", uniform({2, 2}, 52)}};
  for (const Device device : devices()) {
    const TensorMap results = compile(g, weights, {.device = device}).session().run(inputs);
    const TensorMap plain = compile(g, weights, {.device = device, .fuse = false}).session().run(inputs);
    for (const char* name : {"y", "x", "p"}) CHECK(same_bits(results.at(name), plain.at(name)));
  }
}

TEST_CASE("constants: many of one name, and one weight behind many batch norms") {
  constexpr int kMany = 5000;  // in time that grows as its cube this would take hours
  Graph g;
  const Value p = g.parameter("p", {1}), w = g.parameter("w", {1, 1});
  Value y = g.input("x", {1, 1});
  for (int i = 0; i < kMany; ++i) y = g.batch_norm(g.matmul(y, w), p, p, p, p, 0);
  for (int i = 0; i < kMany; ++i) y = g.matmul(y, g.name(g.mul(w, 1.0f), "one"));
  g.output("y", y);
  const Model model = compile(g, {{"p", Tensor::from({1}, {1.0f})}, {"w", Tensor::from({1, 1}, {1.0f})}},
                              {.device = Device::cpu()});
  CHECK(num_working(model) == 2 * kMany);
  CHECK(model.session().run({{"x", Tensor::from({1, 1}, {0.25f})}}).at("y").floats()[0] == 0.25f);
}

TEST_CASE("constants: without elements, without axes, and of a graph without inputs") {
  Graph g;
  const Value empty = g.parameter("empty", {0, 3}), scalar = g.parameter("scalar", {});
  g.output("turned", g.permute(empty, {1, 0}));
  g.output("sum", g.sum(g.mul(empty, 2.0f), {0}));
  g.output("twice", g.mul(scalar, 2.0f));
  for (const Device device : devices()) {
    const TensorMap y = compile(g, {{"empty", Tensor::empty({0, 3})}, {"scalar", Tensor::from({}, {1.5f})}},
                                {.device = device})
                            .session()
                            .run({});
    CHECK(y.at("turned").shape() == Shape{3, 0});
    CHECK(y.at("sum").floats()[2] == 0);
    CHECK(y.at("twice").floats()[0] == 3);
  }
}

GPU_TEST_CASE("constants: of weights that lie on the GPU, the same bits as of weights that do not") {
  TensorMap on_gpu;
  for (const auto& [name, tensor] : matrix_weights()) on_gpu[name] = tensor.to(Device::cuda(0));
  for (const MatrixCase& c : kMatrices) {
    Graph g;
    g.output("y", g.matmul(g.input("x", {3, 4}), make_matrix(g, c)));
    for (const Device device : devices()) {
      CAPTURE(c.name);
      const TensorMap inputs{{"x", uniform({3, 4}, 60)}};
      CHECK(same_bits(run(g, on_gpu, inputs, {.device = device}),
                      run(g, matrix_weights(), inputs, {.device = device})));
    }
  }
}
