#include "graph/region.h"
#include "ops/elementwise/program.h"
#include "tests/cases/accuracy.h"
#include "tests/support/gpu.h"
#include "tests/support/oracle.h"
#include "tests/support/support.h"

using namespace solder;
using namespace solder::test;

namespace {

// Every exponent, many random bit patterns, the range where activations bend, special values.
std::vector<float> spread_inputs() {
  std::vector<float> inputs{0.0f,  -0.0f,  INFINITY, -INFINITY, NAN,     1.0f,
                            -1.0f, 1e-45f, -1e-45f,  3.4e38f,   -3.4e38f};
  std::mt19937 engine(5);
  for (int i = 0; i < 60000; ++i) {
    const float value = std::bit_cast<float>(static_cast<uint32_t>(engine()));
    if (!std::isnan(value)) inputs.push_back(value);
  }
  for (int i = 0; i < 60000; ++i) inputs.push_back(static_cast<float>(i - 30000) * 0.0037f);
  for (int i = 0; i < 20000; ++i) inputs.push_back(static_cast<float>(i - 10000) * 0.00041f);
  return inputs;
}

// doctest prints a plain char pointer as an address.
std::string name_of(Op op) { return to_string(op); }
std::string name_of(DType dtype) { return to_string(dtype); }

Tensor run_unary(Device device, Op op, float p, float q, const Tensor& x) {
  Graph g;
  g.output("y", g.unary(op, g.input("x", x.shape()), p, q));
  return run(g, {}, {{"x", x}}, {.device = device});
}

}  // namespace

TEST_CASE("elementwise: double_mish is mish twice, bit for bit") {
  const std::vector<float> inputs = spread_inputs();
  const Tensor x = Tensor::from({static_cast<int64_t>(inputs.size())}, inputs);
  for (const Device device : devices()) {
    const Tensor once = run_unary(device, Op::mish, 0, 0, x);
    CHECK(same_bits(run_unary(device, Op::double_mish, 0, 0, x), run_unary(device, Op::mish, 0, 0, once)));
  }
}

TEST_CASE("elementwise: binary functions with every kind of broadcast") {
  struct Pairing {
    Shape a, b;
  };
  const std::vector<Pairing> pairings = {{{2, 3, 5, 7}, {2, 3, 5, 7}},
                                         {{2, 3, 5, 7}, {3, 1, 1}},
                                         {{2, 3, 5, 8}, {1, 3, 1, 1}},
                                         {{4, 6}, {6}},
                                         {{4, 6}, {4, 1}},
                                         {{5, 1}, {1, 9}},
                                         {{3, 4, 5}, {}},
                                         {{1}, {257}},
                                         {{2, 1, 3, 1, 5}, {7, 1, 4, 1}},
                                         {{0, 3}, {1, 3}},
                                         {{1031}, {1031}},
                                         {{33, 4}, {33, 1}}};
  const std::map<std::string, double> bounds = stated_bounds();
  for (const Device device : devices()) {
    uint64_t seed = 1;
    for (const Pairing& pairing : pairings) {
      for (const OpInfo& info : kOps) {
        if (!is_binary(info.op)) continue;
        const Op op = info.op;
        const Tensor a = uniform(pairing.a, ++seed, -2, 2), b = uniform(pairing.b, ++seed, -2, 2);
        Graph g;
        g.output("y", g.binary(op, g.input("a", a.shape()), g.input("b", b.shape())));
        const Tensor y = run(g, {}, {{"a", a}, {"b", b}}, {.device = device});
        const Shape& shape = y.shape();
        std::vector<int64_t> coord(shape.size());
        int64_t bad = 0;
        for (int64_t i = 0; i < y.num_elems(); ++i) {
          int64_t rest = i;
          for (size_t d = shape.size(); d-- > 0; rest /= shape[d]) coord[d] = rest % shape[d];
          const auto element = [&](const Tensor& t) -> double {
            int64_t offset = 0, stride = 1;
            for (size_t j = 0; j < t.shape().size(); ++j) {
              const size_t axis = t.shape().size() - 1 - j;
              if (t.shape()[axis] != 1) offset += coord[shape.size() - 1 - j] * stride;
              stride *= t.shape()[axis];
            }
            return t.floats()[static_cast<size_t>(offset)];
          };
          const Deviation d =
              deviation(y.floats()[static_cast<size_t>(i)], exact_value(op, element(a), element(b)));
          bad += d.wrong || d.ulp > bounds.at(info.name) * (1 + 0x1p-20);
        }
        INFO(name_of(op), " of ", to_string(pairing.a), " and ", to_string(pairing.b), " on ",
             to_string(device));
        CHECK(bad == 0);
      }
    }
  }
}

TEST_CASE("elementwise: the builder takes what the table says, and nothing else") {
  Graph g;
  const Value x = g.input("x", {4});
  const auto same = [](Value (*by_name)(Graph&, Value), Op op) {
    Graph a, b;
    by_name(a, a.input("x", {4}));
    b.unary(op, b.input("x", {4}));
    return a == b;
  };
  CHECK(same([](Graph& h, Value v) { return h.leaky_relu(v); }, Op::leaky_relu));
  CHECK(same([](Graph& h, Value v) { return h.elu(v); }, Op::elu));
  CHECK(same([](Graph& h, Value v) { return h.mish(v); }, Op::mish));
  CHECK_ERROR(g.unary(Op::clip, x), invalid_argument, "clip_1", "low");
  CHECK_ERROR(g.unary(Op::clip, x, 6, 0), invalid_argument, "clip_1", "low 6", "high 0");
  CHECK_ERROR(g.clip(x, 6, 0), invalid_argument, "low 6");
  CHECK_ERROR(g.unary(Op::add, x), invalid_argument, "add");
  CHECK_ERROR(g.unary(Op::load, x), invalid_argument, "load");
  CHECK_ERROR(g.binary(Op::mish, x, x), invalid_argument, "mish");
  CHECK_ERROR(g.binary(Op::store_output, x, 1.0f), invalid_argument, "store_output");
  for (int number = static_cast<int>(Op::store_output) + 1; number < 256; ++number) {
    const Op none = static_cast<Op>(number);
    CHECK(name_of(none) == "(no op)");
    CHECK_ERROR(g.unary(none, x), invalid_argument, "(no op)");
    CHECK_ERROR(g.unary(none, x, 1), invalid_argument, "(no op)");
    CHECK_ERROR(g.binary(none, x, x), invalid_argument, "(no op)");
    CHECK_ERROR(g.binary(none, x, 1.0f), invalid_argument, "(no op)");
    CHECK_ERROR(g.binary(none, 1.0f, x), invalid_argument, "(no op)");
    Graph made = g;
    Node node{.kind = NodeKind::elementwise, .name = "y", .inputs = {x}, .outputs = {{{4}}}};
    node.epilogue = {{1, {{none, Arg::operand(0)}}, {Arg::expr(0)}}, {{4}}};
    made.output("y", made.append(node));
    CHECK_ERROR(compile(made, {}), invalid_argument, "(no op)");
  }
}

TEST_CASE("elementwise: NaN passes through min, max, relu, clip and pow; scalars on both sides") {
  const Tensor x = Tensor::from({4}, std::vector<float>{NAN, 2, -3, 0.5f});
  for (const Device device : devices()) {
    Graph g;
    const Value v = g.input("x", {4});
    g.output("min", g.min(v, 1.0f));
    g.output("max", g.max(v, 1.0f));
    g.output("relu", g.relu(v));
    g.output("clip", g.clip(v, -1, 1));
    g.output("pow", g.pow(v, 0.0f));
    g.output("sub", g.sub(1.0f, v));
    g.output("div", g.div(1.0f, v));
    g.output("swapped_pow", g.pow(2.0f, v));
    for (const bool fuse : {true, false}) {
      TensorMap y = compile(g, {}, {.device = device, .fuse = fuse}).session().run({{"x", x}});
      for (const auto& [name, tensor] : y) {
        INFO(name);
        CHECK(std::isnan(tensor.floats()[0]));
      }
      CHECK(y.at("min").floats()[1] == 1);
      CHECK(y.at("max").floats()[2] == 1);
      CHECK(y.at("relu").floats()[2] == 0);
      CHECK(y.at("clip").floats()[2] == -1);
      CHECK(y.at("pow").floats()[2] == 1);
      CHECK(y.at("sub").floats()[1] == -1);
      CHECK(y.at("div").floats()[3] == 2);
      CHECK(y.at("swapped_pow").floats()[1] == 4);
    }
  }
}

TEST_CASE("elementwise: sizes around every vector and tile edge") {
  for (const Device device : devices()) {
    for (const int64_t size :
         {0, 1, 2, 3, 4, 5, 7, 8, 255, 256, 257, 1023, 1024, 2047, 2048, 2049, 4099, 70001}) {
      const Tensor x = uniform({size}, static_cast<uint64_t>(size) + 1, -4, 4);
      Graph g;  // one op takes the hand-written kernel, a chain the interpreter
      const Value v = g.input("x", {size});
      g.output("mish", g.mish(v));
      g.output("chain", g.add(g.square(g.sub(v, 0.25f)), 1.0f));
      const TensorMap y = compile(g, {}, {.device = device, .fuse = false}).session().run({{"x", x}});
      int64_t bad = 0;
      for (size_t i = 0; i < static_cast<size_t>(size); ++i) {
        const float value = x.floats()[i], shifted = value - 0.25f;
        bad += ulp_distance(y.at("mish").floats()[i], static_cast<float>(mish_oracle(value))) > 4;
        const float squared = shifted * shifted;
        bad += y.at("chain").floats()[i] != squared + 1.0f;
      }
      INFO("size ", size, " on ", to_string(device));
      CHECK(bad == 0);
    }
  }
}

TEST_CASE("elementwise: 16-bit storage rounds once, on store; casts round where they stand") {
  const Tensor x = uniform({1003}, 3, -3, 3);
  for (const DType dtype : {DType::float16, DType::bfloat16}) {
    const Tensor x16 = x.to(dtype);
    for (const Device device : devices()) {
      Graph g;
      const Value v = g.input("x", {1003}, dtype);
      g.output("y", g.mul(g.add(v, 0.3f), 1.7f));
      const Tensor y = run(g, {}, {{"x", x16}}, {.device = device});
      Graph casts;
      casts.output("y", casts.cast(casts.cast(casts.input("x", {1003}), dtype), DType::float32));
      const Tensor rounded = run(casts, {}, {{"x", x}}, {.device = device});
      int64_t bad = 0;
      for (int64_t i = 0; i < 1003; ++i) {
        const float sum = load_as_float(x16.data(), dtype, i) + 0.3f;
        const Tensor expected = Tensor::from({1}, std::vector<float>{sum * 1.7f}).to(dtype);
        bad += load_as_float(y.data(), dtype, i) != load_as_float(expected.data(), dtype, 0);
        bad += rounded.floats()[static_cast<size_t>(i)] != load_as_float(x16.data(), dtype, i);
      }
      INFO(name_of(dtype), " on ", to_string(device));
      CHECK(bad == 0);
    }
  }
}

TEST_CASE("bind_elementwise: axes collapse, and what does not fit is refused") {
  const auto bind = [](const Shape& space, std::vector<Shape> shapes) {
    std::vector<TensorView> operands;
    for (Shape& shape : shapes) operands.push_back(dense_view(nullptr, DType::float32, shape));
    const std::vector<TensorView> outputs{dense_view(nullptr, DType::float32, space)};
    return bind_elementwise(operands, outputs);
  };
  CHECK(bind({2, 3, 4, 5}, {{2, 3, 4, 5}}).rank == 1);
  const ElementwiseArgs bias = bind({2, 3, 4, 5}, {{2, 3, 4, 5}, {3, 1, 1}});
  CHECK(bias.rank == 3);
  CHECK(bias.dims[2] == 20);
  CHECK(bias.operands[1].strides[1] == 1);
  CHECK(bias.operands[1].strides[2] == 0);
  CHECK(bind({2, 3, 4, 5}, {{}}).rank == 1);
  CHECK(bind({1, 1}, {{1}}).num_elems == 1);
  CHECK_ERROR(bind({2, 3}, {{2}}), shape_mismatch, "[2]", "[2, 3]");
  CHECK_ERROR(bind({3}, {{2, 3}}), shape_mismatch, "[2, 3]", "[3]");
  CHECK_ERROR(bind({2, 2, 2, 2, 2, 2, 2, 2}, {{2, 1, 2, 1, 2, 1, 2, 1}}), unsupported, "axes");
}

GPU_TEST_CASE("elementwise: arrays that start off a 16-byte line, and the bytes around them") {
  const Device gpu = Device::cuda(0);
  for (const int64_t size : {1, 3, 5, 64, 1001}) {
    for (int64_t offset = 0; offset < 5; ++offset) {
      Tensor host = uniform({size + 16}, 9);
      const Tensor memory = host.to(gpu);
      const Tensor result =
          Tensor::from({size + 16}, std::vector<float>(static_cast<size_t>(size + 16), NAN)).to(gpu);
      for (const Op op : {Op::mish, Op::square}) {
        Program program;
        program.push({.op = op});
        program.push({.op = Op::store_output});
        const std::vector<TensorView> in{
            dense_view(static_cast<float*>(memory.data()) + offset, DType::float32, {size})};
        const std::vector<TensorView> out{
            dense_view(static_cast<float*>(result.data()) + 4 + offset / 2, DType::float32, {size})};
        run_program_on_gpu(program, bind_elementwise(in, out));
        const Tensor back = result.to(Device::cpu());
        int64_t bad = 0;
        for (int64_t i = 0; i < size + 16; ++i) {
          const float value = back.floats()[static_cast<size_t>(i)];
          const int64_t element = i - 4 - offset / 2;
          if (element < 0 || element >= size) {
            bad += !std::isnan(value);
            continue;
          }
          const float x = host.floats()[static_cast<size_t>(element + offset)];
          bad +=
              op == Op::square ? value != x * x : ulp_distance(value, static_cast<float>(mish_oracle(x))) > 4;
        }
        INFO(name_of(op), " size ", size, " offset ", offset);
        CHECK(bad == 0);
      }
    }
  }
}
