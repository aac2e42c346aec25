// Softmax and its logarithm against a naive oracle in double.

#include <algorithm>
#include <limits>

#include "tests/cases/view_cases.h"

using namespace solder;
using namespace solder::test;

namespace {

struct SoftmaxCase {
  Shape x;
  int axis;
};

const std::vector<SoftmaxCase> kCases = {
    {{1}, 0},       {{7}, -1},         {{4, 10}, 1},         {{3, 129}, 1},      {{2, 600}, -1},
    {{2, 1000}, 1}, {{3, 1029}, 1},    {{2, 4100}, 1},       {{2, 21, 5, 7}, 1}, {{5, 9}, 0},
    {{130, 33}, 0}, {{2, 3, 1, 5}, 2}, {{2, 3, 2, 3, 2}, 3}, {{2, 0, 3}, 1},     {{2, 0, 3}, 2},
};

// Every row of x along the axis: row(elements' places).
template <class Row>
void for_rows(const Shape& shape, int axis, const Row& row) {
  const size_t a = static_cast<size_t>(axis < 0 ? axis + static_cast<int>(shape.size()) : axis);
  int64_t inner = 1, outer = 1;
  for (size_t d = 0; d < shape.size(); ++d) (d < a ? outer : inner) *= d == a ? 1 : shape[d];
  std::vector<int64_t> places(static_cast<size_t>(shape[a]));
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t i = 0; i < inner; ++i) {
      for (int64_t e = 0; e < shape[a]; ++e) places[static_cast<size_t>(e)] = (o * shape[a] + e) * inner + i;
      row(places);
    }
}

// Results that are further from the exact ones than Softmax says.
int64_t count_wrong(const Tensor& x, const Tensor& y, int axis, bool log) {
  int64_t wrong = 0;
  const DType dtype = x.dtype();
  for_rows(x.shape(), axis, [&](const std::vector<int64_t>& places) {
    double largest = -INFINITY, sum = 0;
    bool is_nan = false;
    for (const int64_t place : places) {
      const double value = load_as_float(x.data(), dtype, place);
      is_nan = is_nan || std::isnan(value) || value == INFINITY;
      largest = std::max(largest, value);
    }
    is_nan = is_nan || largest == -INFINITY;
    for (const int64_t place : places) sum += std::exp(load_as_float(x.data(), dtype, place) - largest);
    const double terms = static_cast<double>(places.size());
    for (const int64_t place : places) {
      const double d = largest - load_as_float(x.data(), dtype, place);
      const float found = load_as_float(y.data(), dtype, place);
      const double exact = log ? -d - std::log(sum) : std::exp(-d) / sum;
      if (is_nan || d > std::numeric_limits<float>::max()) {  // x - m is -infinity in float32
        wrong += is_nan ? !std::isnan(found) : !(double{found} == (log ? -INFINITY : 0.0));
        continue;
      }
      const double error = log ? (2 * d + 6 * std::log(terms) + terms / 32 + 16) * 0x1p-24
                               : (d + std::log(terms) + terms / 32 + 16) * 0x1p-24 * exact + 3 * 0x1p-149;
      const double rounding =
          dtype == DType::float32 ? 0 : rounding_of(dtype) * (std::abs(exact) + error) + half_step_of(dtype);
      wrong += !(std::abs(found - exact) <= error + rounding);
    }
  });
  return wrong;
}

// Softmax of a row on the CPU, the sum in the order that Softmax states.
std::vector<float> softmax_in_order(std::vector<float> row) {
  const float largest = *std::max_element(row.begin(), row.end());
  float partial[32] = {};
  for (size_t i = 0; i < row.size(); ++i) {
    row[i] = std::exp(row[i] - largest);
    partial[i % 128 / 4] += row[i];
  }
  for (size_t half = 16; half > 0; half /= 2)
    for (size_t j = 0; j < half; ++j) partial[j] += partial[j + half];
  for (float& value : row) value /= partial[0];
  return row;
}

}  // namespace

TEST_CASE("softmax: along every axis, over every kind of view, within its bound") {
  for (const SoftmaxCase& c : kCases) {
    for (const bool log : {false, true}) {
      for (const float reach : {2.0f, 60.0f}) {
        for_views(
            c.x, [&](Graph& g, Value x) { return log ? g.log_softmax(x, c.axis) : g.softmax(x, c.axis); },
            [&](const Tensor& x, const Tensor& y, const std::string&) {
              INFO("axis ", c.axis, log ? ", log" : "", ", values to ", reach);
              CHECK(y.shape() == x.shape());
              CHECK(count_wrong(x, y, c.axis, log) == 0);
            },
            -reach, reach);
      }
    }
  }
}

TEST_CASE("softmax: NaN, infinities, and nothing but -infinity, as PyTorch has them") {
  const std::vector<float> values = {-INFINITY, -INFINITY, -INFINITY, -INFINITY,  //
                                     -INFINITY, 1,         2,         -INFINITY,  //
                                     NAN,       1,         2,         3,          //
                                     INFINITY,  1,         2,         -INFINITY,  //
                                     3e38f,     -3e38f,    0,         1,          //
                                     -0.0f,     0,         -0.0f,     0,          //
                                     100,       -100,      0,         -3.5f};
  const Tensor x = Tensor::from({7, 4}, values);
  Tensor turned = Tensor::empty({4, 7});
  for (size_t i = 0; i < values.size(); ++i) turned.floats()[i % 4 * 7 + i / 4] = values[i];
  for (const Device device : devices()) {
    for (const bool log : {false, true}) {
      Graph g;
      const Value rows = g.input("x", {7, 4}), columns = g.input("turned", {4, 7});
      g.output("rows", log ? g.log_softmax(rows) : g.softmax(rows));
      g.output("columns", g.permute(log ? g.log_softmax(columns, 0) : g.softmax(columns, 0), {1, 0}));
      const TensorMap y = compile(g, {}, {.device = device}).session().run({{"x", x}, {"turned", turned}});
      INFO("log ", log, " on ", to_string(device));
      CHECK(count_wrong(x, y.at("rows"), 1, log) == 0);
      CHECK(same_bits(y.at("rows"), y.at("columns")));
      CHECK(std::isnan(y.at("rows").floats()[0]));
      CHECK(y.at("rows").floats()[4] == (log ? -INFINITY : 0));
    }
  }
}

TEST_CASE("softmax: the same bits for rows and columns and any number of threads; refusals") {
  for (const int64_t length : {1, 5, 127, 128, 129, 513, 1025, 5000}) {
    const Tensor x = uniform({24, length}, static_cast<uint64_t>(length), -9, 9);
    Tensor turned = Tensor::empty({length, 24});
    for (int64_t i = 0; i < x.num_elems(); ++i)
      turned.floats()[static_cast<size_t>(i % length * 24 + i / length)] = x.floats()[static_cast<size_t>(i)];
    for (const Device device : devices()) {
      std::vector<Tensor> results;
      for (const int threads : {1, 3}) {
        Graph g;
        g.output("rows", g.softmax(g.input("x", x.shape())));
        g.output("columns", g.permute(g.softmax(g.input("turned", turned.shape()), 0), {1, 0}));
        const Model model = compile(g, {}, {.device = device, .threads = threads});
        const TensorMap y = model.session().run({{"x", x}, {"turned", turned}});
        results.push_back(y.at("rows"));
        results.push_back(y.at("columns"));
      }
      INFO("rows of ", length, " on ", to_string(device));
      for (const Tensor& result : results) CHECK(same_bits(result, results[0]));
      for (int64_t i = 0; i < 24 && !device.is_cuda(); ++i) {  // CUDA's exp is another one
        const auto row = x.floats().subspan(static_cast<size_t>(i * length), static_cast<size_t>(length));
        const std::vector<float> expected = softmax_in_order({row.begin(), row.end()});
        CHECK(std::equal(expected.begin(), expected.end(), results[0].floats().begin() + i * length));
      }
    }
  }
  Graph g;
  CHECK_ERROR(g.softmax(g.input("x", {2, 3}), 2), invalid_argument, "softmax_1", "axis 2", "-2 to 1");
  CHECK_ERROR(g.log_softmax(g.input("scalar", {})), invalid_argument, "log_softmax_2", "rank 0");
}
