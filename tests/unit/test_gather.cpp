// Gather by constant indices: any bits, from any view.

#include "tests/cases/view_cases.h"

using namespace solder;
using namespace solder::test;

namespace {

struct GatherCase {
  Shape x;
  int axis;
  std::vector<int64_t> indices;
};

std::vector<GatherCase> gather_cases() {
  std::vector<int64_t> many;
  for (int64_t i = 0; i < 3000; ++i) many.push_back(i * 7919 % 37 - 18);
  return {{{1}, 0, {0}},
          {{5}, 0, {4, -1, 0, 0, 2, -5}},
          {{4, 3}, 0, {3, 1}},
          {{4, 3}, -1, {2, 2, 0, 1, 1}},
          {{3, 5, 8}, 1, {4, 0, 0, 3}},
          {{2, 5, 3, 7}, 1, {0, 2, 4}},
          {{2, 5, 4, 64}, 2, {3, -3}},
          {{2, 2, 3, 2, 2, 3}, 4, {1, 0, 1}},
          {{37, 6}, 0, many},
          {{37}, 0, many},
          {{4, 3}, 1, {}},
          {{0, 3}, 1, {2, 0}},
          {{2, 3, 0}, 1, {1, 1}}};
}

}  // namespace

TEST_CASE("gather: every index along every axis, over every kind of view") {
  for (const GatherCase& c : gather_cases()) {
    const auto axis = static_cast<size_t>(c.axis < 0 ? c.axis + static_cast<int>(c.x.size()) : c.axis);
    for_views(
        c.x, [&](Graph& g, Value x) { return g.gather(x, c.axis, c.indices); },
        [&](const Tensor& x, const Tensor& y, const std::string&) {
          Shape expected = c.x;
          expected[axis] = static_cast<int64_t>(c.indices.size());
          REQUIRE(y.shape() == expected);
          int64_t inner = 1, wrong = 0;
          for (size_t d = axis + 1; d < c.x.size(); ++d) inner *= c.x[d];
          for (int64_t i = 0; i < y.num_elems(); ++i) {
            int64_t index = c.indices[static_cast<size_t>(i / inner % expected[axis])];
            if (index < 0) index += c.x[axis];
            const int64_t from = (i / inner / expected[axis] * c.x[axis] + index) * inner + i % inner;
            wrong += bits_of(load_as_float(x.data(), x.dtype(), from)) !=
                     bits_of(load_as_float(y.data(), y.dtype(), i));
          }
          INFO("axis ", c.axis, ", ", c.indices.size(), " indices");
          CHECK(wrong == 0);
        });
  }
}

TEST_CASE("gather: NaN's payloads, infinities and -0 pass; parameters; refusals") {
  Tensor x = Tensor::from({2, 3}, std::vector<float>{NAN, INFINITY, -0.0f, 1e-45f, 1, -INFINITY});
  x.floats()[0] = std::bit_cast<float>(0x7fc12345u);
  for (const Device device : devices()) {
    Graph g;
    g.output("given", g.gather(g.input("x", {2, 3}), 1, {2, 0, 1, 0}));
    g.output("parameter", g.gather(g.parameter("p", {2, 3}), 1, {2, 0, 1, 0}));
    const TensorMap y = compile(g, {{"p", x}}, {.device = device}).session().run({{"x", x}});
    for (const char* name : {"given", "parameter"}) {
      int wrong = 0;
      for (size_t i = 0; i < 8; ++i)
        wrong += bits_of(y.at(name).floats()[i]) !=
                 bits_of(x.floats()[i / 4 * 3 + std::vector<size_t>{2, 0, 1, 0}[i % 4]]);
      CHECK(wrong == 0);
    }
  }
  Graph g;
  const Value v = g.input("x", {2, 3});
  CHECK_ERROR(g.gather(v, 1, {0, 3}), invalid_argument, "gather_1", "index 3", "axis 1", "-3 to 2");
  CHECK_ERROR(g.gather(v, 1, {-4}), invalid_argument, "index -4");
  CHECK_ERROR(g.gather(v, 2, {0}), invalid_argument, "axis 2");
  CHECK_ERROR(g.gather(g.input("empty", {0, 3}), 0, {0}), invalid_argument, "index 0");
}
