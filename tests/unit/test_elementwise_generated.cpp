// Generated kernels and tables on a GPU, against the interpreter.

#include "tests/support/support.h"

#if SOLDER_WITH_CUDA
#include <cstdlib>

#include "ops/elementwise/table.h"
#include "tests/cases/programs.h"
#include "tests/support/gpu.h"

using namespace solder;
using namespace solder::test;

namespace {

int64_t num_programs() {
  const char* value = std::getenv("SOLDER_PROGRAMS");
  return value != nullptr ? std::atoll(value) : 40;
}

// Runs the program by the interpreter, by `source`, and by that in place, where the program allows it;
// compares every output, and what lies behind it.
void check_generated(const Bound& b, const std::string& source) {
  const Device gpu = Device::cuda(0);
  std::string how;
  const auto kernel = ElementwiseKernels().get(source, gpu, &how);
  REQUIRE_MESSAGE(kernel != nullptr, how);
  // Tensors like `view`, special values first, with 64 more elements behind them.
  const auto padded = [&](const TensorView& view, uint64_t seed) {
    const Tensor values = uniform({num_elements(view.shape) + 64}, seed, -3, 3);
    const float special[] = {NAN, INFINITY, -INFINITY, -0.0f, 1e-40f, -70.0f, 90.0f};
    std::copy(std::begin(special), std::end(special), values.floats().begin());
    return values.to(view.dtype).to(gpu);
  };
  const auto run = [&](const std::shared_ptr<const ElementwiseKernel>& with, bool in_place) {
    Bound here = b;
    std::vector<Tensor> inputs, outputs;
    for (TensorView& operand : here.operands) {
      inputs.push_back(padded(operand, inputs.size() + 1));
      operand.data = inputs.back().data();
    }
    std::vector<bool> taken(inputs.size());
    for (size_t o = 0; o < b.outputs.size(); ++o) {
      outputs.push_back(padded(b.outputs[o], 99));
      for (size_t i = 0; in_place && i < inputs.size(); ++i) {
        if (taken[i] || b.operands[i] != b.outputs[o] ||
            !may_overwrite(b.program, static_cast<int>(i), static_cast<int>(o)))
          continue;
        taken[i] = true;
        outputs.back() = inputs[i];
        break;
      }
      here.outputs[o].data = outputs.back().data();
    }
    run_program_on_gpu(b.program, here.args(), with);
    std::vector<Tensor> results;
    for (size_t o = 0; o < b.outputs.size(); ++o) {
      const Tensor all = outputs[o].to(Device::cpu());
      const int64_t count = num_elements(b.outputs[o].shape);
      Tensor result = Tensor::empty({count + (in_place ? 0 : 64)}, all.dtype());
      std::memcpy(result.data(), all.data(), static_cast<size_t>(result.num_bytes()));
      results.push_back(std::move(result));
    }
    return results;
  };
  const std::vector<Tensor> expected = run(nullptr, false), generated = run(kernel, false),
                            in_place = run(kernel, true), expected_in_place = run(nullptr, true);
  for (size_t o = 0; o < b.outputs.size(); ++o) {
    INFO("output ", o, " of ", to_string(b.program), "\n", source.substr(source.rfind("extern \"C\"")));
    CHECK(same_bits(expected[o], generated[o]));
    CHECK(same_bits(expected_in_place[o], in_place[o]));
    Tensor whole = Tensor::empty(in_place[o].shape(), in_place[o].dtype());
    std::memcpy(whole.data(), expected[o].data(), static_cast<size_t>(whole.num_bytes()));
    CHECK(same_bits(whole, in_place[o]));
  }
}

}  // namespace

GPU_TEST_CASE("elementwise_jit: random programs, generated and interpreted, bit for bit") {
  const CacheFolder cache;
  for_random_programs(static_cast<int>(num_programs()), [](const Bound& b) {
    std::string source = b.source();
    // Every other one as if its elements were too many for 32 bits.
    static int turn = 0;
    if (++turn % 2 == 0) source.replace(source.find("Index = uint32_t"), 16, "Index = uint64_t");
    check_generated(b, source);
  });
}

GPU_TEST_CASE("elementwise_jit: ragged sizes, every dtype") {
  const CacheFolder cache;
  for (const DType dtype : {DType::float32, DType::float16, DType::bfloat16}) {
    for (const int64_t size : {1, 3, 4, 7, 8, 9, 2047, 2048, 2049, 4099, 70001}) {
      Graph g;
      const Value x = g.input("x", {size}, dtype), row = g.input("row", {1}, dtype);
      g.output("y", g.mul(g.silu(g.add(x, g.input("z", {size}, dtype))), g.sub(row, x)));
      const Graph fused = fuse(g);
      const Bound b = bound(fused, fused.nodes().back());
      check_generated(b, b.source());
    }
  }
}

namespace {

using Build = Value (*)(Graph&, Value, Value);

// Each of `builds` over operands a and b of one shape each, generated and interpreted.
void check_builds(std::initializer_list<Build> builds, const Shape& a_shape = {3, 5001},
                  const Shape& b_shape = {5001}, DType dtype = DType::float32) {
  const CacheFolder cache;
  for (const Build build : builds) {
    Graph g;
    const Value a = g.input("a", a_shape, dtype), b = g.input("b", b_shape, dtype);
    g.output("y", build(g, a, b));
    const Graph fused = fuse(g);
    const Bound made = bound(fused, fused.nodes().back());
    check_generated(made, made.source());
  }
}

}  // namespace

GPU_TEST_CASE("elementwise_jit: operands in their order, and values beyond every tail") {
  check_builds({
      [](Graph& g, Value a, Value b) { return g.div(g.sub(a, g.exp(b)), g.add(b, 4)); },
      [](Graph& g, Value a, Value b) { return g.sub(b, g.pow(g.abs(a), b)); },
      [](Graph& g, Value a, Value b) { return g.div(2, g.sub(1, g.mul(a, b))); },
      [](Graph& g, Value a, Value b) { return g.max(g.sigmoid(g.mul(a, 40)), g.softplus(g.mul(b, 40))); },
      [](Graph& g, Value a, Value b) { return g.sub(g.silu(g.mul(a, 40)), g.mish(g.mul(b, 40))); },
      [](Graph& g, Value a, Value b) { return g.mish(g.sub(g.tanh(g.mul(a, 9)), g.leaky_relu(b, 20))); },
      [](Graph& g, Value a, Value b) { return g.gelu(g.mul(g.sigmoid(a), g.clip(b, -60, 0.25f))); },
  });
}

// By channel, by row, as one value; vectors inside a row, across two, and with the last one cut.
GPU_TEST_CASE("elementwise_jit: every way of broadcasting") {
  const std::pair<Shape, Shape> shapes[] = {
      {{2, 37, 129}, {37, 1}}, {{5, 3, 5, 7}, {3, 1, 1}}, {{65, 36}, {65, 1}},    {{3, 8, 512}, {8, 1}},
      {{2, 37, 129}, {129}},   {{7, 6, 5}, {7, 1, 5}},    {{7, 6, 5}, {7, 1, 1}}, {{3, 5001}, {1}},
  };
  for (const auto& [a_shape, b_shape] : shapes)
    for (const DType dtype : {DType::float32, DType::bfloat16})
      check_builds({[](Graph& g, Value a, Value b) { return g.sub(g.mul(a, b), g.sub(b, a)); }}, a_shape,
                   b_shape, dtype);
}

// Values just inside what the generator knows of them, where a formula may leave something out, and outside
// of it by little, where it may not. All of it is said of `a`, which has the full shape, so that it stays in
// one kernel.
GPU_TEST_CASE("elementwise_jit: values at the ends of what is known of them") {
  check_builds({
      [](Graph& g, Value a, Value b) { return g.sub(g.sigmoid(g.clip(a, -1, 1)), b); },
      [](Graph& g, Value a, Value b) { return g.sub(g.sigmoid(g.clip(a, -1, 1.04f)), b); },
      [](Graph& g, Value a, Value b) { return g.sub(g.sigmoid(g.clip(g.mul(a, 40), -1, 100)), b); },
      [](Graph& g, Value a, Value b) { return g.sub(g.sigmoid(g.clip(a, -1.04f, 100)), b); },
      [](Graph& g, Value a, Value b) { return g.sub(g.mish(g.clip(g.mul(a, 40), 1e-6f, 88)), b); },
      [](Graph& g, Value a, Value b) { return g.sub(g.mish(g.clip(g.mul(a, 40), -1, 88)), b); },
      [](Graph& g, Value a, Value b) { return g.sub(g.mish(g.clip(g.mul(a, 40), 1e-6f, 100)), b); },
      [](Graph& g, Value a, Value b) { return g.sub(g.tanh(g.clip(a, -0.54f, 0.54f)), b); },
      [](Graph& g, Value a, Value b) { return g.mul(g.leaky_relu(g.clip(a, 0, 2), -3), b); },
      [](Graph& g, Value a, Value b) { return g.mul(g.leaky_relu(g.clip(a, 1e-30f, 2), -3), b); },
      // What mish, sigmoid and tanh make of a range: their dip, their ends.
      [](Graph& g, Value a, Value b) { return g.mul(g.leaky_relu(g.add(g.mish(a), 0.2f), -3), b); },
      [](Graph& g, Value a, Value b) {
        return g.mul(g.leaky_relu(g.sub(-0.2f, g.mish(g.clip(a, -3, -2))), -3), b);
      },
      [](Graph& g, Value a, Value b) { return g.sub(g.tanh(g.sigmoid(g.mul(a, 3))), b); },
      [](Graph& g, Value a, Value b) { return g.sub(g.sigmoid(g.mul(g.tanh(a), 1.5f)), b); },
      [](Graph& g, Value a, Value b) { return g.sub(g.mish(g.sub(g.sigmoid(g.mish(a)), 0.5f)), b); },
  });
}

GPU_TEST_CASE("elementwise: a table gives what the interpreter gives, for every bit pattern") {
  const Device gpu = Device::cuda(0);
  for (const DType from : {DType::float16, DType::bfloat16}) {
    for (const DType to : {DType::float16, DType::bfloat16}) {
      const int64_t size = (int64_t{1} << 22) + 5;
      Graph g;
      const Value x = g.input("x", {size}, from);
      g.output("y", g.cast(g.mish(g.mul(g.softplus(x), g.exp(x))), to));
      std::vector<uint16_t> bits(static_cast<size_t>(size));
      for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<uint16_t>(i * 40503);
      const Tensor in = Tensor::view(bits.data(), {size}, from, Device::cpu());
      const Model model = compile(g, {}, {.device = gpu});
      CHECK(has(model.describe(), "one pass: table"));
      CHECK(model.weights_bytes() == kTableElems * 2);
      const Tensor by_table = model.session().run({{"x", in}}).at("y");

      const Program program = bound(model.graph(), model.graph().nodes().back()).program;
      const Tensor x_gpu = in.to(gpu), y_gpu = Tensor::empty({size}, to, gpu);
      const std::vector<TensorView> operands{dense_view(x_gpu.data(), from, {size})},
          outputs{dense_view(y_gpu.data(), to, {size})};
      run_program_on_gpu(program, bind_elementwise(operands, outputs));
      CHECK(same_bits(by_table, y_gpu.to(Device::cpu())));
    }
  }
}

GPU_TEST_CASE("elementwise_jit: a model generates once, shares it, and says so") {
  const CacheFolder cache;
  Graph g;
  const Value x = g.input("x", {1 << 23});
  const Value h = g.conv2d(g.input("image", {1, 4, 64, 64}), g.parameter("w", {4, 4, 3, 3}));
  g.output("y", gate(g, {x}));
  g.output("z", gate(g, {g.input("x2", {1 << 22})}));
  g.output("h", h);
  const TensorMap weights{{"w", uniform({4, 4, 3, 3}, 1)}};
  const Model cold = compile(g, weights, {.device = Device::cuda(0)});
  CHECK(has(cold.describe(), "one pass: generated, compiled in "));
  CHECK(cache.files().size() == 1);
  const Model warm = compile(g, weights, {.device = Device::cuda(0)});
  CHECK(has(warm.describe(), "one pass: generated, from the cache"));
  CHECK(!has(warm.describe(), "compiled"));
  const TensorMap inputs{{"x", uniform({1 << 23}, 2, -4, 4)},
                         {"x2", uniform({1 << 22}, 3, -4, 4)},
                         {"image", uniform({1, 4, 64, 64}, 4)}};
  const Model plain = compile(g, weights, {.device = Device::cuda(0), .fuse = false});
  const TensorMap expected = plain.session().run(inputs);
  for (const Model& model : {cold, warm, warm})
    for (const auto& [name, tensor] : model.session().run(inputs))
      CHECK(same_bits(tensor, expected.at(name)));
}

#endif
