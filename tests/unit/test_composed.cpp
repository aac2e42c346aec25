// What the builder makes of several nodes, or of one that shows another's values: each against its definition.

#include <algorithm>
#include <numeric>

#include "tests/cases/view_cases.h"
#include "tests/support/lying.h"

using namespace solder;
using namespace solder::test;

namespace {

// y[i] = x[from(i)]: values that are moved, bit for bit.
struct MoveCase {
  std::string name;
  Shape x, y;
  std::function<Value(Graph& g, Value x)> build;
  std::function<Shape(const Shape& i)> from;
};

// Place number `at` of a shape in row-major order.
Shape index_of(const Shape& shape, int64_t at) {
  Shape index(shape.size());
  for (size_t axis = shape.size(); axis-- > 0; at /= shape[axis]) index[axis] = at % shape[axis];
  return index;
}

MoveCase reshaping(const std::string& name, const Shape& x, const Shape& y,
                   const std::function<Value(Graph& g, Value x)>& build) {
  return {name, x, y, build, [x, y](const Shape& i) { return index_of(x, offset_of(y, i)); }};
}

std::vector<MoveCase> reshapes() {
  return {
      reshaping("reshape: -1", {2, 3, 4}, {6, 4},
                [](Graph& g, Value x) {
                  return g.reshape(x, {-1, 4});
                }),
      reshaping("reshape: 0 copies", {2, 3, 4}, {2, 12},
                [](Graph& g, Value x) {
                  return g.reshape(x, {0, -1});
                }),
      reshaping("reshape: 0 and -1 at the end", {2, 3, 4, 5}, {2, 3, 20},
                [](Graph& g, Value x) {
                  return g.reshape(x, {0, 0, -1});
                }),
      reshaping("reshape: -1 that is 1", {2, 3}, {1, 6},
                [](Graph& g, Value x) {
                  return g.reshape(x, {-1, 6});
                }),
      reshaping("reshape: to a number", {1, 1}, {}, [](Graph& g, Value x) { return g.reshape(x, {}); }),
      reshaping("reshape: of a number", {}, {1, 1, 1},
                [](Graph& g, Value x) {
                  return g.reshape(x, {1, -1, 1});
                }),
      reshaping("reshape: of what is permuted", {2, 3}, {2, 3},
                [](Graph& g, Value x) {
                  return g.permute(g.reshape(g.permute(x, {1, 0}), {3, 2}), {1, 0});
                }),
      reshaping("flatten", {2, 3, 4, 5}, {2, 60}, [](Graph& g, Value x) { return g.flatten(x); }),
      reshaping("flatten: all", {2, 3, 4}, {24}, [](Graph& g, Value x) { return g.flatten(x, 0); }),
      reshaping("flatten: the last axis", {2, 3, 4}, {2, 3, 4},
                [](Graph& g, Value x) { return g.flatten(x, -1); }),
      reshaping("flatten: behind the last axis", {2, 3}, {2, 3, 1},
                [](Graph& g, Value x) { return g.flatten(x, 2); }),
      reshaping("flatten: no elements", {2, 0, 3}, {2, 0}, [](Graph& g, Value x) { return g.flatten(x); }),
      reshaping("squeeze: all", {1, 2, 1, 3, 1}, {2, 3}, [](Graph& g, Value x) { return g.squeeze(x); }),
      reshaping("squeeze: some", {1, 2, 1, 3, 1}, {2, 3, 1},
                [](Graph& g, Value x) {
                  return g.squeeze(x, {-3, 0});
                }),
      reshaping("squeeze: nothing to do", {2, 3}, {2, 3}, [](Graph& g, Value x) { return g.squeeze(x); }),
      reshaping("unsqueeze", {2, 3}, {1, 2, 1, 3, 1},
                [](Graph& g, Value x) {
                  return g.unsqueeze(x, {-1, 0, 2});
                }),
      reshaping("unsqueeze: nowhere", {2, 3}, {2, 3}, [](Graph& g, Value x) { return g.unsqueeze(x, {}); }),
      reshaping("per_channel", {5}, {5, 1, 1}, [](Graph& g, Value x) { return g.per_channel(x); }),
  };
}

MoveCase tiling(const Shape& x, const std::vector<int64_t>& repeats, const Shape& y) {
  return {"tile", x, y, [repeats](Graph& g, Value v) { return g.tile(v, repeats); },
          [x, y](const Shape& i) {
            Shape from(x.size());
            for (size_t axis = 0; axis < x.size(); ++axis)
              from[axis] = i[axis + y.size() - x.size()] % x[axis];
            return from;
          }};
}

std::vector<MoveCase> repetitions() {
  std::vector<MoveCase> cases{tiling({2, 3}, {2, 2}, {4, 6}),
                              tiling({2, 3}, {3}, {2, 9}),
                              tiling({3}, {2, 3}, {2, 9}),
                              tiling({2, 1, 3}, {1, 4, 1}, {2, 4, 3}),
                              tiling({2, 3, 2}, {3, 1, 2}, {6, 3, 4}),
                              tiling({2, 3}, {1, 1}, {2, 3}),
                              tiling({2, 3}, {0, 2}, {0, 6}),
                              tiling({}, {2, 3}, {2, 3}),
                              tiling({2, 3, 4}, {}, {2, 3, 4})};
  cases.push_back({"expand",
                   {3, 1},
                   {2, 3, 4},
                   [](Graph& g, Value x) {
                     return g.expand(x, {2, -1, 4});
                   },
                   [](const Shape& i) {
                     return Shape{i[1], 0};
                   }});
  cases.push_back({"expand: to no elements",
                   {1, 3},
                   {0, 3},
                   [](Graph& g, Value x) {
                     return g.expand(x, {0, 3});
                   },
                   [](const Shape& i) {
                     return Shape{0, i[1]};
                   }});
  return cases;
}

std::vector<MoveCase> permutations() {
  std::vector<MoveCase> cases;
  const Shape x{2, 3, 4, 5};
  std::vector<int> axes{0, 1, 2, 3};
  do {
    Shape y;
    for (const int axis : axes) y.push_back(x[static_cast<size_t>(axis)]);
    std::vector<int> given = axes;
    given[1] -= 4;  // counted from the end
    cases.push_back({"permute " + to_string(Shape(axes.begin(), axes.end())), x, y,
                     [given](Graph& g, Value v) { return g.permute(v, given); },
                     [axes](const Shape& i) {
                       Shape from(4);
                       for (size_t axis = 0; axis < 4; ++axis)
                         from[static_cast<size_t>(axes[axis])] = i[axis];
                       return from;
                     }});
  } while (std::next_permutation(axes.begin(), axes.end()));
  return cases;
}

// ONNX's DepthToSpace and SpaceToDepth: pixel (h, w) of channel c comes from its place in the block.
std::vector<MoveCase> blocks() {
  std::vector<MoveCase> cases;
  for (const int64_t b : {1, 2, 3}) {
    const Shape deep{2, 2 * b * b, 3, 2}, wide{2, 2, 3 * b, 2 * b};
    const auto dcr = [b](const Shape& i) {
      return Shape{i[0], (i[2] % b * b + i[3] % b) * 2 + i[1], i[2] / b, i[3] / b};
    };
    const auto crd = [b](const Shape& i) {  // torch.nn.PixelShuffle
      return Shape{i[0], i[1] * b * b + i[2] % b * b + i[3] % b, i[2] / b, i[3] / b};
    };
    const auto back = [b](const Shape& i) {
      return Shape{i[0], i[1] % 2, i[2] * b + i[1] / 2 / b, i[3] * b + i[1] / 2 % b};
    };
    cases.push_back(
        {"depth_to_space", deep, wide, [b](Graph& g, Value x) { return g.depth_to_space(x, b); }, dcr});
    cases.push_back({"depth_to_space, crd", deep, wide,
                     [b](Graph& g, Value x) { return g.depth_to_space(x, b, true); }, crd});
    cases.push_back(
        {"space_to_depth", wide, deep, [b](Graph& g, Value x) { return g.space_to_depth(x, b); }, back});
    cases.push_back({"and back", wide, wide,
                     [b](Graph& g, Value x) { return g.depth_to_space(g.space_to_depth(x, b), b); },
                     [](const Shape& i) { return i; }});
  }
  return cases;
}

void check_moves(const std::vector<MoveCase>& cases) {
  for (const MoveCase& c : cases) {
    for (const DType dtype : all_dtypes()) {
      // Stored by itself, and as what an elementwise function reads.
      Graph g;
      const Value y = c.build(g, g.input("x", c.x, dtype));
      CAPTURE(c.name);
      REQUIRE(g.type(y) == TensorType{c.y, dtype});
      g.output("y", y);
      g.output("negative", g.neg(y));
      const Tensor x = uniform(c.x, 7, -2, 2).to(dtype);
      for (const Device device : devices()) {
        const TensorMap results = compile(g, {}, {.device = device}).session().run({{"x", x}});
        int64_t num_wrong = 0;
        for_each_index(c.y, [&](const Shape& i) {
          const float expected = value_at(x, c.from(i));
          num_wrong += bits_of(value_at(results.at("y"), i)) != bits_of(expected);
          num_wrong += bits_of(value_at(results.at("negative"), i)) != bits_of(-expected);
        });
        CHECK(num_wrong == 0);
      }
    }
  }
}

}  // namespace

TEST_CASE("composed: reshape, flatten, squeeze, unsqueeze, per_channel") { check_moves(reshapes()); }

TEST_CASE(
    "composed: a vector meets the last axis, and where it has the channels' length the error names "
    "per_channel") {
  Graph g;
  const Value x = g.input("x", {2, 3, 4, 5}), channels = g.input("c", {3}), columns = g.input("w", {5}),
              other = g.input("o", {7});
  CHECK_ERROR(g.mul(x, channels), shape_mismatch, "[2, 3, 4, 5]", "[3]", "per_channel()");
  CHECK_ERROR(g.sub(channels, x), shape_mismatch, "per_channel()");
  CHECK(g.type(g.mul(x, columns)).shape == Shape{2, 3, 4, 5});
  CHECK(g.type(g.mul(x, g.per_channel(channels))).shape == Shape{2, 3, 4, 5});
  try {
    g.mul(x, other);
    CHECK(false);
  } catch (const Error& error) {
    CHECK(std::string(error.what()).find("per_channel") == std::string::npos);
  }
}
TEST_CASE("composed: tile and expand") { check_moves(repetitions()); }
TEST_CASE("composed: every order of four axes") { check_moves(permutations()); }
TEST_CASE("composed: depth_to_space and space_to_depth") { check_moves(blocks()); }

TEST_CASE("composed: global pools are the mean and the maximum of each channel") {
  for (const Shape& shape :
       std::vector<Shape>{{2, 3, 7}, {2, 3, 5, 6}, {1, 2, 3, 4, 5}, {2, 3, 1, 1}, {2, 3, 0, 4}}) {
    for (const DType dtype : all_dtypes()) {
      Graph g;
      const Value xv = g.input("x", shape, dtype);
      g.output("mean", g.global_avg_pool(xv));
      g.output("max", g.global_max_pool(xv));
      Tensor x = uniform(shape, 11).to(dtype);
      if (x.num_elems() > 0) store_from_float(x.data(), dtype, 0, NAN);
      for (const Device device : devices()) {
        CAPTURE(to_string(shape));
        const TensorMap y = compile(g, {}, {.device = device}).session().run({{"x", x}});
        const int64_t plane = x.num_elems() / (shape[0] * shape[1]);
        Shape expected(shape.size(), 1);
        expected[0] = shape[0], expected[1] = shape[1];
        REQUIRE(y.at("mean").shape() == expected);
        REQUIRE(y.at("max").shape() == expected);
        const auto over_plane = [&](const Shape& i, bool is_max) {
          double sum = 0, size = 0, largest = -INFINITY;
          for (int64_t e = 0; e < plane; ++e) {
            const double v = load_as_float(x.data(), dtype, (i[0] * shape[1] + i[1]) * plane + e);
            sum += v, size += std::abs(v);
            largest = std::isnan(v) || std::isnan(largest) ? NAN : std::max(largest, v);
          }
          const double count = static_cast<double>(plane);
          return is_max ? Expected{largest, 0} : Expected{sum / count, (count + 1) * 0x1p-24 * size / count};
        };
        CHECK(num_wrong(y.at("mean"), [&](const Shape& i) { return over_plane(i, false); }) == 0);
        CHECK(num_wrong(y.at("max"), [&](const Shape& i) { return over_plane(i, true); }) == 0);
      }
    }
  }
}
