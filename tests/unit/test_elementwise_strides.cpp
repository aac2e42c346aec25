// Elementwise outputs that are not dense: the parts of a concat, and any other strides.

#include "ops/elementwise/walk.h"
#include "runtime/context.h"
#include "runtime/divide.h"
#include "runtime/parallel.h"
#include "tests/cases/programs.h"
#include "tests/support/gpu.h"

using namespace solder;
using namespace solder::test;

namespace {

/// How an output lies in memory of its own.
struct Layout {
  const char* name;
  Shape strides;
  int64_t first, size;  ///< of its first element, and of the memory, in elements
};

// Dense strides of `shape` with the axes in the order `order`, outermost first, each `gap` elements further apart.
Layout layout(const char* name, const Shape& shape, const std::vector<size_t>& order, const Shape& gaps,
              int64_t first) {
  Layout result{name, Shape(shape.size()), first, 0};
  int64_t stride = 1;
  for (size_t i = order.size(); i-- > 0;) {
    stride += gaps[order[i]];
    result.strides[order[i]] = stride;
    stride *= shape[order[i]];
  }
  result.size = first + stride;
  return result;
}

std::vector<Layout> layouts(const Shape& s) {
  Layout backwards = layout("backwards", s, {0, 1, 2}, {0, 0, 0}, 0);
  backwards.first = backwards.strides[2] * (s[2] - 1), backwards.strides[2] *= -1;
  return {layout("dense", s, {0, 1, 2}, {0, 0, 0}, 0),
          layout("a concat's part", s, {0, 1, 2}, {8 * s[2], 0, 0}, 4 * s[2]),
          layout("a column of parts", s, {0, 1, 2}, {0, 3, 0}, 1),
          layout("every other", s, {0, 1, 2}, {0, 0, 1}, 1),
          layout("permuted", s, {2, 0, 1}, {0, 0, 0}, 0),
          layout("permuted with gaps", s, {1, 2, 0}, {2, 1, 3}, 5),
          backwards};
}

// A product, a sum that is broadcast along each axis, and an input, stored in three dtypes.
Bound three_outputs(const Shape& s) {
  Graph g;
  const Value x = g.input("x", s), y = g.input("y", {s[1], 1}, DType::float16), z = g.input("z", {s[2]});
  const Value product = g.mul(x, g.cast(y, DType::float32));
  g.output("a", g.cast(product, DType::float16));
  g.output("b", g.add(product, z));
  g.output("c", g.cast(g.sub(x, z), DType::bfloat16));
  Bound b;
  for (const TensorType& type : {g.type(x), g.type(y), g.type(z)})
    b.operands.push_back(dense_view(nullptr, type.dtype, type.shape));
  Region region{3, {}, {}};
  region.exprs = {{Op::mul, Arg::operand(0), Arg::operand(1)},
                  {Op::add, Arg::expr(0), Arg::operand(2)},
                  {Op::sub, Arg::operand(0), Arg::operand(2)}};
  region.outputs = {Arg::expr(0), Arg::expr(1), Arg::expr(2)};
  const std::vector<TensorType> types{{s, DType::float16}, {s, DType::float32}, {s, DType::bfloat16}};
  for (const TensorType& type : types) b.outputs.push_back(dense_view(nullptr, type.dtype, type.shape));
  b.program = lower(region, false, types);
  return b;
}

constexpr uint16_t kGuard = 0x5a5a;

// Runs `b` with outputs that lie as `layouts` say, in memory full of guards, `run` doing it: each must be, element by
// element, the dense result, and the gaps stay.
template <class Run>
void check_strided(Bound b, const std::vector<Layout>& layouts, Device device, const Run& run) {
  std::vector<Tensor> memory;
  for (TensorView& operand : b.operands) {
    memory.push_back(uniform(operand.shape, memory.size() + 1, -3, 3).to(operand.dtype));
    operand.data = memory.back().data();
  }
  const std::vector<TensorView> operands = b.operands;
  std::vector<Tensor> expected;
  for (TensorView& output : b.outputs) {
    expected.push_back(Tensor::empty(output.shape, output.dtype));
    output.data = expected.back().data();
  }
  elementwise_cpu(b.program, b.args());

  std::vector<Tensor> results;
  for (size_t i = 0; i < b.operands.size(); ++i) {
    memory.push_back(memory[i].to(device));
    b.operands[i].data = memory.back().data();
  }
  for (size_t i = 0; i < b.outputs.size(); ++i) {
    TensorView& output = b.outputs[i];
    Tensor guards = Tensor::empty({layouts[i].size}, output.dtype);
    std::fill_n(static_cast<uint16_t*>(guards.data()), guards.num_bytes() / 2, kGuard);
    results.push_back(guards.to(device));
    output.strides = layouts[i].strides;
    output.data = static_cast<std::byte*>(results.back().data()) + layouts[i].first * size_of(output.dtype);
  }
  run(b);

  for (size_t i = 0; i < b.outputs.size(); ++i) {
    const Tensor result = results[i].to(Device::cpu());
    std::vector<bool> is_written(static_cast<size_t>(layouts[i].size));
    const Shape& s = b.outputs[i].shape;
    int64_t wrong = 0;
    for (int64_t e = 0; e < num_elements(s); ++e) {
      int64_t offset = layouts[i].first, rest = e;
      for (size_t axis = s.size(); axis-- > 0; rest /= s[axis])
        offset += rest % s[axis] * layouts[i].strides[axis];
      is_written[static_cast<size_t>(offset)] = true;
      wrong += bits_of(load_as_float(result.data(), result.dtype(), offset)) !=
               bits_of(load_as_float(expected[i].data(), result.dtype(), e));
    }
    const auto* halves = static_cast<const uint16_t*>(result.data());
    const int64_t halves_each = size_of(result.dtype()) / 2;
    for (int64_t e = 0; e < layouts[i].size * halves_each; ++e)
      wrong += !is_written[static_cast<size_t>(e / halves_each)] && halves[e] != kGuard;
    INFO("output ", i, " of ", to_string(s), ", ", std::string(layouts[i].name), ", on ", to_string(device));
    CHECK(wrong == 0);
  }
}

// Every layout for every output, beside others and beside itself.
template <class Run>
void check_layouts(Device device, const Run& run) {
  for (const Shape& shape :
       {Shape{3, 5, 8}, Shape{2, 3, 7}, Shape{1, 4, 1}, Shape{2, 9, 260}, Shape{5, 1, 2}}) {
    const std::vector<Layout> all = layouts(shape);
    for (size_t i = 0; i < all.size(); ++i) {
      check_strided(three_outputs(shape), {all[i], all[i], all[i]}, device, run);
      check_strided(three_outputs(shape), {all[i], all[(i + 1) % all.size()], all[0]}, device, run);
    }
  }
}

}  // namespace

TEST_CASE("elementwise strides: outputs lie as they are told to, and what is between stays") {
  ThreadPool pool(3);
  check_layouts(Device::cpu(), [&](const Bound& b) { elementwise_cpu(b.program, b.args(), &pool); });
}

GPU_TEST_CASE("elementwise strides: outputs lie as they are told to, interpreted and generated") {
  check_layouts(Device::cuda(0), [](const Bound& b) { run_program_on_gpu(b.program, b.args()); });
#if SOLDER_WITH_CUDA
  const CacheFolder cache;
  ElementwiseKernels kernels;
  check_layouts(Device::cuda(0), [&](const Bound& b) {
    std::string how;
    run_program_on_gpu(b.program, b.args(), kernels.get(b.source(), Device::cuda(0), &how));
    CHECK(how.starts_with("generated"));
  });
#endif
}

TEST_CASE("elementwise strides: axes collapse as far as all tensors allow; what repeats is refused") {
  const Shape s{2, 3, 4, 5};
  TensorView x = dense_view(nullptr, DType::float32, s), part = x, dense = x;
  part.strides[0] *= 7;
  ElementwiseArgs args = bind_elementwise({&x, 1}, {&part, 1});
  CHECK(args.rank == 2);
  CHECK(args.dims[1] == 60);
  CHECK(args.outputs[0].strides[0] == 420);
  CHECK(walk_of(args).by_rows);
  CHECK(walk_of(args).length == 4);
  CHECK(bind_elementwise({&part, 1}, {&part, 1}).rank == 2);
  args = bind_elementwise({&x, 1}, {&dense, 1});
  CHECK(args.rank == 1);
  CHECK_FALSE(walk_of(args).by_rows);
  part.strides[2] = 0;
  CHECK_ERROR(bind_elementwise({&x, 1}, {&part, 1}), shape_mismatch, "[2, 3, 4, 5]", "repeat");
  part = dense_view(nullptr, DType::float32, {3, 0, 2});  // no element, none twice
  CHECK(bind_elementwise({&part, 1}, {&part, 1}).num_elems == 0);
}

TEST_CASE(
    "elementwise strides: what a concat joins is computed in its place, fused chains and several outputs "
    "too") {
  for (const Device device : devices()) {
    for (const DType dtype : {DType::float32, DType::float16}) {
      for (const int64_t width : {4, 3}) {
        Graph g, apart;
        const Shape s{3, 5, 2, width};
        const auto build = [&](Graph& to) {
          const Value x = to.input("x", s, dtype), row = to.input("row", {width}, dtype);
          const Value a = to.mish(to.add(x, row)), b = to.sub(a, 1.0f);
          return std::vector<Value>{a, b, to.mul(b, row)};
        };
        const std::vector<Value> parts = build(g), same = build(apart);
        g.output("joined", g.concat(parts, 1));
        for (size_t i = 0; i < 3; ++i) apart.output(std::to_string(i), same[i]);
        const Tensor x = uniform(s, 1).to(dtype), row = uniform({width}, 2).to(dtype);
        const Model model = compile(g, {}, {.device = device});
        CHECK(model.nodes().back().path == "in place");
        const Tensor joined = model.session().run({{"x", x}, {"row", row}}).at("joined");
        const auto placed = [](const Tensor& tensor) { return round_up(tensor.num_bytes(), 256); };
        CHECK(model.memory().values_bytes == placed(x) + placed(row) + placed(joined));
        const TensorMap expected =
            compile(apart, {}, {.device = device}).session().run({{"x", x}, {"row", row}});
        const size_t part_bytes = static_cast<size_t>(5 * 2 * width * size_of(dtype));
        int wrong = 0;
        for (size_t n = 0; n < 3; ++n)
          for (size_t i = 0; i < 3; ++i)
            wrong +=
                std::memcmp(static_cast<std::byte*>(joined.data()) + (n * 3 + i) * part_bytes,
                            static_cast<std::byte*>(expected.at(std::to_string(i)).data()) + n * part_bytes,
                            part_bytes) != 0;
        CHECK(wrong == 0);
      }
    }
  }
}
