// Views: nodes that move no data, what reads them as they are, and what has them copied first.

#include <algorithm>

#include "graph/passes/passes.h"
#include "runtime/tensor_view.h"
#include "tests/support/oracle.h"
#include "tests/support/support.h"

using namespace solder;
using namespace solder::test;

namespace {

// Python's range(*slice(start, stop, step).indices(size)), by counting.
std::vector<int64_t> python_indices(int64_t size, int64_t start, int64_t stop, int64_t step) {
  const auto wrapped = [&](int64_t index) { return index < 0 && index >= -size ? index + size : index; };
  std::vector<int64_t> indices;
  start = wrapped(start), stop = stop < -size ? -1 - (step > 0 ? size : 0) : wrapped(stop);
  if (step > 0)
    for (int64_t i = std::max<int64_t>(start, 0); i < std::min(stop, size); i += step) indices.push_back(i);
  else
    for (int64_t i = std::min(start, size - 1); i >= 0 && i > stop; i += step) indices.push_back(i);
  return indices;
}

int count_runs(const Model& model) {
  return static_cast<int>(std::count_if(model.nodes().begin(), model.nodes().end(),
                                        [](const NodePlan& plan) { return !plan.path.empty(); }));
}

}  // namespace

TEST_CASE("slice: every start, stop and step of short axes is Python's, on each device") {
  for (const Device device : devices()) {
    for (const int64_t size : {0, 1, 2, 5}) {
      std::vector<float> values(static_cast<size_t>(size * 3));
      for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
      const Tensor x = Tensor::from({size, 3}, values);
      for (int64_t step : {1, 2, 3, 7, -1, -2, -7}) {
        Graph g;
        const Value input = g.input("x", x.shape());
        std::vector<std::vector<int64_t>> expected;
        for (int64_t start = -7; start <= 7; ++start) {
          for (const int64_t stop : {INT64_MIN, int64_t{-7}, int64_t{-3}, int64_t{-1}, int64_t{0}, int64_t{2},
                                     int64_t{5}, INT64_MAX}) {
            g.output(std::to_string(expected.size()), g.mul(g.slice(input, 0, start, stop, step), 2.0f));
            expected.push_back(python_indices(size, start, stop, step));
          }
        }
        const TensorMap y = compile(g, {}, {.device = device}).session().run({{"x", x}});
        int64_t wrong = 0;
        for (size_t i = 0; i < expected.size(); ++i) {
          const Tensor& result = y.at(std::to_string(i));
          wrong += result.shape() != Shape{expected[i].size(), 3};
          for (int64_t e = 0; e < result.num_elems(); ++e)
            wrong += result.floats()[static_cast<size_t>(e)] !=
                     2 * static_cast<float>(expected[i][static_cast<size_t>(e / 3)] * 3 + e % 3);
        }
        CAPTURE(size);
        CAPTURE(step);
        CHECK(wrong == 0);
      }
    }
  }
}

TEST_CASE("slice: refused where it means nothing") {
  Graph g;
  const Value x = g.input("x", {2, 3}), scalar = g.input("s", {});
  CHECK_ERROR(g.slice(x, 2, 0, 1), invalid_argument, "axis 2", "-2 to 1");
  CHECK_ERROR(g.slice(x, -3, 0, 1), invalid_argument, "axis -3");
  CHECK_ERROR(g.slice(scalar, 0, 0, 1), invalid_argument, "axis 0");
  CHECK_ERROR(g.slice(x, 0, 0, 1, 0), invalid_argument, "step of 0");
  CHECK_ERROR(g.slice(x, 0, 0, 1, INT64_MIN), invalid_argument, "step");
  CHECK(g.type(g.slice(x, -1, 0, 2)).shape == Shape{2, 2});
}

TEST_CASE("views: nothing runs and nothing is placed for them; what needs dense memory gets a copy, once") {
  Graph g;
  const Value x = g.input("x", {4, 3, 8, 8});
  const Value batch = g.slice(x, 0, 1, 3), channels = g.slice(x, 1, 2, 0, -1);
  g.output("relu", g.relu(channels));
  const Model plain = compile(g, {}, {.device = Device::cpu()});
  CHECK(count_runs(plain) == 1);
  CHECK(plain.memory().values_bytes == 4 * (4 * 3 * 8 * 8) + 4 * (4 * 2 * 8 * 8));

  const Value w = g.parameter("w", {5, 3, 3, 3}), narrow = g.parameter("narrow", {5, 2, 3, 3});
  g.output("a", g.conv2d(batch, w));  // dense: some images of a dense tensor
  g.output("b", g.conv2d(channels, narrow));
  g.output("c", g.conv2d(channels, narrow, {.padding = 1}));
  const TensorMap weights{{"w", uniform({5, 3, 3, 3}, 1)}, {"narrow", uniform({5, 2, 3, 3}, 2)}};
  for (const Device device : devices()) {
    const Model model = compile(g, weights, {.device = device});
    CHECK(count_runs(model) == 1 + 3 + 1);  // relu, the convolutions, one copy of `channels` for two of them
    const Tensor xt = uniform({4, 3, 8, 8}, 3);
    const TensorMap y = model.session().run({{"x", xt}});

    Graph whole;  // the same with the slices given as tensors
    Tensor batch_t = Tensor::empty({2, 3, 8, 8}), channels_t = Tensor::empty({4, 2, 8, 8});
    std::copy_n(xt.floats().data() + 3 * 64, batch_t.num_elems(), batch_t.floats().data());
    for (int64_t n = 0; n < 4; ++n)
      for (int64_t c = 0; c < 2; ++c)
        std::copy_n(xt.floats().data() + (n * 3 + 2 - c) * 64, 64,
                    channels_t.floats().data() + (n * 2 + c) * 64);
    const Value wb = whole.parameter("w", {5, 3, 3, 3}), wn = whole.parameter("narrow", {5, 2, 3, 3});
    const Value b = whole.input("batch", batch_t.shape()), c = whole.input("channels", channels_t.shape());
    whole.output("a", whole.conv2d(b, wb));
    whole.output("b", whole.conv2d(c, wn));
    whole.output("c", whole.conv2d(c, wn, {.padding = 1}));
    const TensorMap expected = compile(whole, weights, {.device = device})
                                   .session()
                                   .run({{"batch", batch_t}, {"channels", channels_t}});
    for (const char* name : {"a", "b", "c"}) CHECK(same_bits(y.at(name), expected.at(name)));
  }
}

TEST_CASE("views: of views, of parameters and of epilogue operands, in 16 bits too") {
  for (const Device device : devices()) {
    for (const DType dtype : {DType::float32, DType::float16, DType::bfloat16}) {
      Graph g;
      const Value x = g.input("x", {6, 10}, dtype), p = g.parameter("p", {20}, dtype);
      const Value row = g.slice(g.slice(p, 0, 1, 20, 2), 0, -1, INT64_MIN, -1);  // 19, 17, ... 1
      g.output("sum", g.add(g.slice(g.slice(x, 0, 5, 1, -2), 1, 9, INT64_MIN, -1), row));
      g.output("row", row);
      const Tensor xt = uniform({6, 10}, 1).to(dtype), pt = uniform({20}, 2).to(dtype);
      const TensorMap y = compile(g, {{"p", pt}}, {.device = device}).session().run({{"x", xt}});
      const Tensor x32 = xt.to(DType::float32), p32 = pt.to(DType::float32);
      Tensor sum = Tensor::empty({2, 10}), expected_row = Tensor::empty({10});
      for (size_t j = 0; j < 10; ++j) {
        expected_row.floats()[j] = p32.floats()[19 - 2 * j];
        for (size_t i = 0; i < 2; ++i)
          sum.floats()[i * 10 + j] = x32.floats()[(5 - 2 * i) * 10 + 9 - j] + p32.floats()[19 - 2 * j];
      }
      CHECK(same_bits(y.at("sum"), sum.to(dtype)));
      CHECK(same_bits(y.at("row"), expected_row.to(dtype)));
    }
    // A strided bias and a strided residual of a convolution and of a matrix product.
    Graph g;
    const Value x = g.input("x", {1, 2, 4, 4}), r = g.input("r", {1, 6, 4, 4}), b = g.input("b", {6});
    const Value w = g.parameter("w", {3, 2, 1, 1}), m = g.parameter("m", {4, 4});
    const Value y = g.conv2d(x, w, g.slice(b, 0, 0, 6, 2));
    g.output("conv", g.relu(g.add(y, g.slice(r, 1, 5, INT64_MIN, -2))));
    g.output("matmul",
             g.mish(g.add(g.matmul(g.slice(x, 2, 3, INT64_MIN, -1), m), g.slice(x, 3, 3, INT64_MIN, -1))));
    const TensorMap weights{{"w", uniform({3, 2, 1, 1}, 1)}, {"m", uniform({4, 4}, 2)}};
    const TensorMap inputs{
        {"x", uniform({1, 2, 4, 4}, 3)}, {"r", uniform({1, 6, 4, 4}, 4)}, {"b", uniform({6}, 5)}};
    const TensorMap fused = compile(g, weights, {.device = device}).session().run(inputs);
    const TensorMap unfused = compile(g, weights, {.device = device, .fuse = false}).session().run(inputs);
    for (const char* name : {"conv", "matmul"}) CHECK(same_bits(fused.at(name), unfused.at(name)));
    const auto at = [&](const TensorMap& map, const char* name, size_t i) {
      return map.at(name).floats()[i];
    };
    for (size_t k = 0; k < 3; ++k) {
      const float sum =
          at(inputs, "x", 0) * at(weights, "w", k * 2) + at(inputs, "x", 16) * at(weights, "w", k * 2 + 1);
      const float value = sum + at(inputs, "b", 2 * k) + at(inputs, "r", (5 - 2 * k) * 16);
      CHECK(at(fused, "conv", k * 16) == doctest::Approx(std::max(value, 0.0f)).epsilon(1e-5));
    }
  }
}

TEST_CASE("view_as: other shapes of the same elements, where the strides allow it") {
  TensorView view = dense_view(nullptr, DType::float32, {2, 3, 4}), result;
  CHECK(view_as(view, {6, 4}, &result));
  CHECK(result.strides == Shape{4, 1});
  view.strides[2] = 2;  // no longer dense
  CHECK_FALSE(is_dense(view));
  CHECK(view_as(view, {2, 1, 3, 1, 4}, &result));
  CHECK(result.strides[0] == 12);
  CHECK(result.strides[4] == 2);
  CHECK_FALSE(view_as(view, {6, 4}, &result));
  CHECK_FALSE(view_as(view, {2, 12}, &result));
  view.shape = {0, 3, 4};
  CHECK(is_dense(view));
}
