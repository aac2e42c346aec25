// ElementwisePass: what it plans (no GPU needed), and that each way to run it gives the interpreter's bits.

#include "ops/elementwise/pass.h"

#include "ops/elementwise/table.h"
#include "runtime/context.h"
#include "runtime/memory.h"
#include "tests/cases/programs.h"
#include "tests/support/gpu.h"

using namespace solder;
using namespace solder::test;

namespace {

Value mish(Graph& g, const std::vector<Value>& v) { return g.mish(v[0]); }

// A GPU for plans: they ask only whether there is one.
const DeviceInfo kSomeGpu{};

std::string planned(const std::vector<TensorType>& inputs,
                    Value (*build)(Graph&, const std::vector<Value>&)) {
  return bound(inputs, build).pass(&kSomeGpu).words();
}

}  // namespace

TEST_CASE("elementwise pass: what runs a program on a GPU") {
  const auto unary = [&](int64_t size, DType dtype) { return planned({{{size}, dtype}}, gate); };
  CHECK(unary(int64_t{1} << 24, DType::float32) == "generated");
  CHECK(unary(int64_t{1} << 24, DType::float16) == "table");
  CHECK(unary(int64_t{1} << 24, DType::bfloat16) == "table");
  CHECK(unary(4096, DType::float32) == "interpreted");
  CHECK(unary(4096, DType::float16) == "interpreted");
  CHECK(planned({{{5}}}, mish) == "hand-written");
  CHECK(planned({{{int64_t{1} << 24}, DType::float16}}, mish) == "table");
  // Memory takes as long as the interpreter.
  CHECK(planned({{{int64_t{1} << 28}}},
                [](Graph& g, const std::vector<Value>& v) { return g.add(v[0], 1); }) == "interpreted");
  const int64_t n = int64_t{1} << 20;
  CHECK(planned({{{n, 8}, DType::float16}, {{8}, DType::float16}, {{8}, DType::float16}}, scale_bias_mish) ==
        "generated");
  CHECK(bound({{{5}}}, mish).pass(nullptr).words() == "loops, CPU");
}

TEST_CASE("elementwise pass: only a table needs constants, every bit pattern in order") {
  CHECK(bound({{{int64_t{1} << 24}}}, gate).pass(&kSomeGpu).constants().empty());
  CHECK(bound({{{int64_t{1} << 24}, DType::float16}}, gate).pass(nullptr).constants().empty());
  const std::vector<std::byte> table =
      bound({{{int64_t{1} << 24}, DType::float16}}, gate).pass(&kSomeGpu).constants();
  REQUIRE(table.size() == 2 * kTableElems);
  int64_t bad = 0;
  for (size_t i = 0; i < kTableElems; ++i)
    bad += static_cast<size_t>(table[2 * i]) + 256 * static_cast<size_t>(table[2 * i + 1]) != i;
  CHECK(bad == 0);
}

TEST_CASE("elementwise pass: bound as often as one likes, to tensors like those it was planned for") {
  Bound b = bound({{{3, 4}}, {{4}}}, [](Graph& g, const std::vector<Value>& v) { return g.sub(v[0], v[1]); });
  const ElementwisePass pass = b.pass(nullptr);
  for (const float first : {1.0f, 5.0f}) {
    std::vector<float> x(12), row{1, 2, 3, 4}, y(12, NAN);
    for (size_t i = 0; i < 12; ++i) x[i] = first + static_cast<float>(i);
    b.operands[0].data = x.data(), b.operands[1].data = row.data(), b.outputs[0].data = y.data();
    const Launch launch = pass.bind(nullptr, b.operands, b.outputs, nullptr);
    for (int run = 0; run < 2; ++run) {
      launch();
      for (size_t i = 0; i < 12; ++i) CHECK(y[i] == x[i] - row[i % 4]);
      x[7] += 1;
    }
  }

  // A view with strides of its own is planned for as such.
  std::vector<float> columns(24), row{1, 2, 3, 4}, y(12, NAN);
  for (size_t i = 0; i < 24; ++i) columns[i] = static_cast<float>(i * i);
  Bound strided = b;
  strided.operands[0] = {columns.data(), DType::float32, {3, 4}, {8, 2}};
  strided.operands[1].data = row.data(), strided.outputs[0].data = y.data();
  strided.pass(nullptr).bind(nullptr, strided.operands, strided.outputs, nullptr)();
  for (size_t i = 0; i < 12; ++i) CHECK(y[i] == columns[i / 4 * 8 + i % 4 * 2] - row[i % 4]);

  const auto refused = [&](const Bound& other) {
    CHECK_ERROR(pass.bind(nullptr, other.operands, other.outputs, nullptr), invalid_argument, "planned");
  };
  refused(strided);
  Bound other = b;
  other.operands[1].dtype = DType::float16;
  refused(other);
  other = b;
  other.operands[0].shape = other.outputs[0].shape = {6, 4};
  refused(other);
}

TEST_CASE(
    "elementwise pass: what cannot be bound is refused when it is planned, and fits_elementwise knows") {
  const Shape space(8, 2), even{2, 1, 2, 1, 2, 1, 2, 1}, low{1, 1, 1, 1, 2, 2, 2, 2};
  Program add;
  add.num_operands = 2;
  add.push({.op = Op::add, .source = Source::operand, .index = 1});
  add.push({.op = Op::store_output});
  const auto fits = [&](const Shape& shape, const Shape& a, const Shape& b) {
    const std::vector<TensorView> operands{dense_view(nullptr, DType::float32, a),
                                           dense_view(nullptr, DType::float32, b)},
        outputs{dense_view(nullptr, DType::float32, shape)};
    bool planned = true;
    try {
      ElementwisePass(add, operands, outputs, nullptr);
    } catch (const Error&) {
      planned = false;
    }
    CHECK(planned == fits_elementwise(shape, operands));
    return planned;
  };
  CHECK(fits(space, space, low));
  CHECK_FALSE(fits(space, space, even));
  CHECK_FALSE(fits(space, even, low));
  CHECK(fits({0, 2, 2, 2, 2, 2, 2, 2}, {0, 2, 2, 2, 2, 2, 2, 2}, {1, 1, 2, 1, 2, 1, 2, 1}));
  CHECK_FALSE(fits({2, 3}, {2, 3}, {2}));
  // The case that two broadcasts fit one by one and not together.
  const Shape seven(7, 2), a{2, 2, 1, 1, 2, 2, 1}, b{1, 2, 2, 1, 1, 2, 2};
  CHECK(fits(seven, seven, a));
  CHECK(fits(seven, seven, b));
  CHECK_FALSE(fits(seven, a, b));

  const std::vector<TensorView> many(kMaxOperands + 1, dense_view(nullptr, DType::float32, {4}));
  CHECK(fits_elementwise({4}, std::span(many).first(kMaxOperands)));
  CHECK_FALSE(fits_elementwise({4}, many));
}

#if SOLDER_WITH_CUDA
namespace {

// The program by each way to run it, `offset` elements off a 16-byte line, against the interpreter.
void check_path(const Bound& planned, const std::string& words, int64_t offset) {
  const Device gpu = Device::cuda(0);
  const Context context(gpu);
  ElementwiseKernels kernels;
  ElementwisePass pass = planned.pass(&context.info());
  const std::vector<std::byte> seed = pass.constants();
  Tensor constants =
      Tensor::empty({std::max<int64_t>(1, static_cast<int64_t>(seed.size()))}, DType::float16, gpu);
  copy(constants.data(), gpu, seed.data(), Device::cpu(), static_cast<int64_t>(seed.size()));
  pass.prepare(context, kernels, constants.data());
  CHECK(pass.words().substr(0, words.size()) == words);

  Bound b = planned;
  const int64_t size = num_elements(b.outputs[0].shape);
  std::vector<Tensor> memory;
  const auto place = [&](TensorView& view) {
    const int64_t count = num_elements(view.shape) + offset;
    memory.push_back(uniform({count}, memory.size() + 1, -3, 3).to(view.dtype).to(gpu));
    view.data = static_cast<std::byte*>(memory.back().data()) + offset * size_of(view.dtype);
  };
  for (TensorView& operand : b.operands) place(operand);
  const auto run = [&](auto bind) {
    place(b.outputs[0]);
    const Launch launch = bind();
    launch();
    context.synchronize();
    const Tensor whole = memory.back().to(Device::cpu());
    Tensor y = Tensor::empty({size}, whole.dtype());
    std::memcpy(y.data(), static_cast<std::byte*>(whole.data()) + offset * size_of(whole.dtype()),
                static_cast<size_t>(y.num_bytes()));
    return y;
  };
  const Tensor expected = run([&] {
    return bind_elementwise_cuda(context, ElementwisePath::interpreted, b.program, b.args(), nullptr,
                                 nullptr);
  });
  CHECK(
      same_bits(run([&] { return pass.bind(&context, b.operands, b.outputs, constants.data()); }), expected));
}

}  // namespace

GPU_TEST_CASE("elementwise pass: each path gives the interpreter's bits, aligned or not") {
  const CacheFolder cache;
  const int64_t large = (int64_t{1} << 22) + 5;
  const auto add = [](Graph& g, const std::vector<Value>& v) { return g.add(v[0], v[1]); };
  for (const int64_t offset : {0, 1, 3}) {
    check_path(bound({{{large}}}, mish), "hand-written", offset);
    check_path(bound({{{large}}}, [](Graph& g, const std::vector<Value>& v) { return g.mish(g.mish(v[0])); }),
               "hand-written", offset);
    check_path(bound({{{large}, DType::float16}}, gate), "table", offset);
    check_path(bound({{{large}}}, gate), "generated", offset);
    check_path(bound({{{large / 8, 8}, DType::bfloat16}, {{8}, DType::bfloat16}, {{8}, DType::bfloat16}},
                     scale_bias_mish),
               "generated", offset);
    check_path(bound({{{17, 9}}, {{9}}}, add), "interpreted", offset);
    check_path(bound({{{0, 9}}, {{9}}}, add), "interpreted", offset);
  }
}
#endif
