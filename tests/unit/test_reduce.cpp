// Means, sums, maxima and minima against a naive oracle in double, from every kind of view and in every order of memory.

#include "ops/reduce/reduce.h"

#include <algorithm>

#include "tests/cases/view_cases.h"

using namespace solder;
using namespace solder::test;

namespace {

struct ReduceCase {
  Shape x;
  std::vector<int> axes;
};

const std::vector<ReduceCase> kCases = {
    {{}, {}},
    {{1}, {0}},
    {{7}, {}},
    {{2, 3, 7, 7}, {2, 3}},
    {{2, 3, 8, 8}, {-1, -2}},
    {{3, 5, 4, 6}, {1}},
    {{3, 5, 4, 6}, {0, 2}},
    {{3, 5, 4, 6}, {1, 3}},
    {{3, 5, 4, 6}, {}},
    {{2, 3, 2, 3, 2, 3}, {0, 2, 4}},
    {{33, 65}, {0}},
    {{33, 65}, {1}},
    {{2, 2100}, {1}},
    {{2100, 9}, {0}},
    {{3, 4101, 2}, {1}},
    {{1, 5, 1}, {0, 2}},
    {{2, 0, 3}, {1}},
    {{2, 0, 3}, {0}},
    {{0}, {0}},
};

struct Exact {
  double sum = 0, sum_abs = 0, largest = -INFINITY, smallest = INFINITY;
  int64_t count = 0;
  bool has_nan = false;
};

// By result, in row-major order of the axes that stay.
std::vector<Exact> exact_of(const Tensor& x, const std::vector<int>& axes) {
  const Shape& s = x.shape();
  const int rank = static_cast<int>(s.size());
  std::vector<bool> reduced(s.size(), axes.empty());
  for (const int axis : axes) reduced[static_cast<size_t>(axis < 0 ? axis + rank : axis)] = true;
  int64_t num_results = 1;
  for (size_t d = 0; d < s.size(); ++d) num_results *= reduced[d] ? 1 : s[d];
  std::vector<Exact> results(static_cast<size_t>(num_results));
  for (int64_t i = 0; i < x.num_elems(); ++i) {
    int64_t rest = i, place = 0, stride = 1;
    for (size_t d = s.size(); d-- > 0; rest /= s[d]) {
      if (reduced[d]) continue;
      place += rest % s[d] * stride;
      stride *= s[d];
    }
    Exact& to = results[static_cast<size_t>(place)];
    const double value = load_as_float(x.data(), x.dtype(), i);
    to.sum += value, to.sum_abs += std::abs(value), ++to.count;
    to.has_nan = to.has_nan || std::isnan(value);
    to.largest = std::max(to.largest, value), to.smallest = std::min(to.smallest, value);
  }
  return results;
}

// The bound of Reduce on the sum.
double sum_bound(const Exact& exact) {
  const double terms = static_cast<double>(exact.count);
  double levels = 1;
  for (double chunks = terms; chunks > 2048; chunks = std::ceil(chunks / 2048)) ++levels;
  return (levels == 1 ? terms / 8 + 8 : 263 * levels) * 0x1p-24 * exact.sum_abs;
}

bool is_right(Reduction reduction, const Exact& exact, float found, DType dtype) {
  double expected = exact.sum, error = sum_bound(exact);
  if (reduction == Reduction::mean)
    expected /= static_cast<double>(exact.count), error /= static_cast<double>(exact.count);
  if (reduction == Reduction::max) expected = exact.largest, error = 0;
  if (reduction == Reduction::min) expected = exact.smallest, error = 0;
  if (exact.has_nan) expected = NAN;
  if (std::isnan(expected) || std::isinf(expected))
    return std::isnan(expected) ? std::isnan(found) : double{found} == expected;
  const bool selects = reduction == Reduction::max || reduction == Reduction::min;
  const double u = reduction == Reduction::mean ? rounding_of(dtype) + 0x1p-24 : rounding_of(dtype);
  if (!selects) error += u * (std::abs(expected) + error) + half_step_of(dtype);
  return std::abs(found - expected) <= error;
}

Value reduced(Graph& g, Value x, const std::vector<int>& axes, bool keep_dims, Reduction reduction) {
  switch (reduction) {
    case Reduction::mean: return g.mean(x, axes, keep_dims);
    case Reduction::sum: return g.sum(x, axes, keep_dims);
    case Reduction::max: return g.reduce_max(x, axes, keep_dims);
    default: return g.reduce_min(x, axes, keep_dims);
  }
}

// A sum in the order that Reduce states.
float sum_in_order(std::vector<float> row) {
  do {
    std::vector<float> sums;
    for (size_t begin = 0; begin < row.size(); begin += 2048) {
      float partial[8] = {};
      for (size_t i = 0; i < std::min<size_t>(2048, row.size() - begin); ++i)
        partial[i % 32 / 4] += row[begin + i];
      sums.push_back(((partial[0] + partial[4]) + (partial[2] + partial[6])) +
                     ((partial[1] + partial[5]) + (partial[3] + partial[7])));
    }
    row = sums;
  } while (row.size() > 1);
  return row[0];
}

constexpr Reduction kAll[] = {Reduction::mean, Reduction::sum, Reduction::max, Reduction::min};

}  // namespace

TEST_CASE("reduce: every reduction over every kind of view, within its bound") {
  for (const ReduceCase& c : kCases) {
    for (const Reduction reduction : kAll) {
      for_views(
          c.x, [&](Graph& g, Value x) { return reduced(g, x, c.axes, true, reduction); },
          [&](const Tensor& x, const Tensor& y, const std::string&) {
            const std::vector<Exact> exact = exact_of(x, c.axes);
            REQUIRE(y.num_elems() == static_cast<int64_t>(exact.size()));
            int64_t wrong = 0;
            for (size_t i = 0; i < exact.size(); ++i)
              wrong += !is_right(reduction, exact[i],
                                 load_as_float(y.data(), y.dtype(), static_cast<int64_t>(i)), y.dtype());
            INFO("reduction ", static_cast<int>(reduction), " over ", to_string(Shape(c.axes)));
            CHECK(wrong == 0);
          });
    }
  }
}

TEST_CASE("reduce: shapes with and without the axes, global pools, and fused neighbours") {
  Graph g;
  const Value x = g.input("x", {2, 3, 4, 5});
  CHECK(g.type(g.mean(x, {1, -1})).shape == Shape{2, 4});
  CHECK(g.type(g.sum(x, {1, -1}, true)).shape == Shape{2, 1, 4, 1});
  CHECK(g.type(g.reduce_max(x, {})).shape == Shape{});
  CHECK(g.type(g.reduce_min(x, {}, true)).shape == Shape{1, 1, 1, 1});
  CHECK(g.type(g.global_avg_pool(x)).shape == Shape{2, 3, 1, 1});
  CHECK(g.type(g.global_max_pool(g.input("line", {2, 3, 9}))).shape == Shape{2, 3, 1});
  CHECK_ERROR(g.mean(x, {4}), invalid_argument, "mean_", "axis 4");
  CHECK_ERROR(g.sum(x, {1, -3}), invalid_argument, "sum_", "axis 1", "twice");
  CHECK_ERROR(g.global_avg_pool(g.input("flat", {2, 3})), shape_mismatch, "global_avg_pool", "[2, 3]");

  Graph chain;
  const Value in = chain.input("x", {2, 3, 4, 5});
  chain.output("y", chain.relu(chain.sub(chain.mean(chain.relu(in), {2, 3}), 0.3f)));
  const Tensor xt = uniform({2, 3, 4, 5}, 1);
  for (const Device device : devices()) {
    const Tensor y = run(chain, {}, {{"x", xt}}, {.device = device});
    for (size_t i = 0; i < 6; ++i) {
      double sum = 0;
      for (size_t j = 0; j < 20; ++j) sum += std::max(xt.floats()[i * 20 + j], 0.0f);
      CHECK(y.floats()[i] == doctest::Approx(std::max(sum / 20 - 0.3f, 0.0)).epsilon(1e-5));
    }
  }
}

TEST_CASE("reduce: NaN, infinities and zeros of both signs") {
  const std::vector<std::vector<float>> rows = {{1, NAN, 3, 4, 5},
                                                {INFINITY, 1, 2, 3, 4},
                                                {-INFINITY, 1, INFINITY, 2, 3},
                                                {-INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY},
                                                {NAN, INFINITY, -INFINITY, 0, 0},
                                                {-1, -2, -3, -4, NAN},
                                                {3e38f, 3e38f, -3e38f, -3e38f, 1}};
  std::vector<float> values;
  for (const auto& row : rows) values.insert(values.end(), row.begin(), row.end());
  const Tensor x = Tensor::from({rows.size(), 5}, values);
  Tensor turned = Tensor::empty({5, rows.size()});
  for (size_t i = 0; i < values.size(); ++i) turned.floats()[i % 5 * rows.size() + i / 5] = values[i];
  for (const Device device : devices()) {
    for (const Reduction reduction : kAll) {
      Graph g;
      g.output("rows", reduced(g, g.input("x", x.shape()), {1}, false, reduction));
      g.output("columns", reduced(g, g.input("turned", turned.shape()), {0}, false, reduction));
      const TensorMap y = compile(g, {}, {.device = device}).session().run({{"x", x}, {"turned", turned}});
      CHECK(same_bits(y.at("rows"), y.at("columns")));
      std::vector<Exact> exact = exact_of(x, {1});
      // Beyond float32 on the way: the first two alone.
      const bool adds = reduction == Reduction::mean || reduction == Reduction::sum;
      if (adds) exact.pop_back();
      for (size_t i = 0; i < exact.size(); ++i) {
        INFO("row ", i, ", reduction ", static_cast<int>(reduction), ": ", y.at("rows").floats()[i]);
        CHECK(is_right(reduction, exact[i], y.at("rows").floats()[i], DType::float32));
      }
    }
  }
}

TEST_CASE("reduce: the same bits for rows and columns, any number of threads and each device, however long") {
  for (const int64_t length : {1, 3, 31, 32, 33, 49, 2047, 2048, 2049, 6145, 2048 * 2048 + 5}) {
    const int64_t count = length > 100000 ? 1 : 24;
    const Tensor x = uniform({count, length}, static_cast<uint64_t>(length), -1, 3);
    Tensor turned = Tensor::empty({length, count});
    for (int64_t i = 0; i < x.num_elems(); ++i)
      turned.floats()[static_cast<size_t>(i % length * count + i / length)] =
          x.floats()[static_cast<size_t>(i)];
    std::vector<Tensor> results;
    for (const Device device : devices()) {
      for (const int threads : {1, 3}) {
        Graph g;
        g.output("rows", g.sum(g.input("x", x.shape()), {1}));
        g.output("columns", g.sum(g.input("turned", turned.shape()), {0}));
        const Model model = compile(g, {}, {.device = device, .threads = threads});
        const TensorMap y = model.session().run({{"x", x}, {"turned", turned}});
        results.push_back(y.at("rows"));
        results.push_back(y.at("columns"));
      }
    }
    const std::vector<Exact> exact = exact_of(x, {1});
    INFO("rows of ", length);
    for (const Tensor& result : results) CHECK(same_bits(result, results[0]));
    for (int64_t i = 0; i < count; ++i) {
      const auto row = x.floats().subspan(static_cast<size_t>(i * length), static_cast<size_t>(length));
      CHECK(bits_of(results[0].floats()[static_cast<size_t>(i)]) ==
            bits_of(sum_in_order({row.begin(), row.end()})));
    }
    for (size_t i = 0; i < exact.size(); ++i)
      CHECK(is_right(Reduction::sum, exact[i], results[0].floats()[i], DType::float32));
  }
}
