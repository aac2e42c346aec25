// layer_norm, group_norm and lrn against their definitions in double, and what the builders of several nodes refuse.

#include <algorithm>

#include "tests/cases/view_cases.h"
#include "tests/support/lying.h"

using namespace solder;
using namespace solder::test;

namespace {

// Mean and variance of the elements of x for which `holds`, and how large they are.
struct Moments {
  double mean = 0, variance = 0, largest = 0;
};

Moments moments_of(const Tensor& x, const std::function<bool(const Shape& i)>& holds) {
  Moments m;
  std::vector<double> values;
  for_each_index(x.shape(), [&](const Shape& i) {
    if (holds(i)) values.push_back(value_at(x, i));
  });
  for (const double v : values) m.mean += v / static_cast<double>(values.size());
  for (const double v : values) {
    m.variance += (v - m.mean) * (v - m.mean) / static_cast<double>(values.size());
    m.largest = std::max(m.largest, std::abs(v));
  }
  return m;
}

// (x - mean) / sqrt(variance + eps) * weight + bias. The mean is within 2^-20 of the largest |x| here, the variance
// likewise of itself.
Expected normalized(double x, const Moments& m, double eps, double weight, double bias) {
  const double scale = weight / std::sqrt(m.variance + eps);
  const double y = (x - m.mean) * scale;
  return {y + bias, 0x1p-20 * (std::abs(scale) * m.largest + std::abs(y)) + 0x1p-22 * std::abs(bias)};
}

struct Given {
  Tensor x, weight, bias;
};

Given draw(const Shape& x, const Shape& weight, DType dtype) {
  return {uniform(x, 1, -1, 3).to(dtype), uniform(weight, 2, -2, 2).to(dtype), uniform(weight, 3).to(dtype)};
}

Tensor run_norm(const Given& given, Device device, bool fuse,
                const std::function<Value(Graph& g, Value x, Value weight, Value bias)>& build) {
  Graph g;
  const DType dtype = given.x.dtype();
  g.output("y",
           build(g, g.input("x", given.x.shape(), dtype), g.parameter("weight", given.weight.shape(), dtype),
                 g.parameter("bias", given.bias.shape(), dtype)));
  return run(g, {{"weight", given.weight}, {"bias", given.bias}}, {{"x", given.x}},
             {.device = device, .fuse = fuse});
}

}  // namespace

TEST_CASE("layer_norm: over the last axes, one, two or all of them") {
  struct Case {
    Shape x;
    int num_axes;
  };
  for (const Case& c : std::vector<Case>{{{5, 9}, 1},
                                         {{2, 3, 33}, 1},
                                         {{2, 3, 4, 5}, 2},
                                         {{3, 7}, 2},
                                         {{2, 1}, 1},
                                         {{2, 2, 3, 2, 3}, 3},
                                         {{0, 4}, 1},
                                         {{6}, 1}}) {
    for (const DType dtype : all_dtypes()) {
      const size_t first = c.x.size() - static_cast<size_t>(c.num_axes);
      const Given given =
          draw(c.x, Shape(c.x.begin() + static_cast<std::ptrdiff_t>(first), c.x.end()), dtype);
      for (const Device device : devices()) {
        for (const bool fuse : {true, false}) {
          CAPTURE(to_string(c.x));
          const Tensor y = run_norm(given, device, fuse, [&](Graph& g, Value x, Value weight, Value bias) {
            return g.layer_norm(x, weight, bias, c.num_axes, 1e-3f);
          });
          REQUIRE(y.shape() == c.x);
          REQUIRE(y.dtype() == dtype);
          CHECK(num_wrong(y, [&](const Shape& i) {
                  const Moments m = moments_of(given.x, [&](const Shape& other) {
                    return std::equal(i.begin(), i.begin() + static_cast<std::ptrdiff_t>(first),
                                      other.begin());
                  });
                  const Shape at(i.begin() + static_cast<std::ptrdiff_t>(first), i.end());
                  return normalized(value_at(given.x, i), m, 1e-3f, value_at(given.weight, at),
                                    value_at(given.bias, at));
                }) == 0);
        }
      }
    }
  }
}

TEST_CASE("group_norm: over the channels of each group; of one group, and of groups of one channel") {
  struct Case {
    Shape x;
    int64_t groups;
  };
  for (const Case& c : std::vector<Case>{{{2, 6, 4, 5}, 3},
                                         {{2, 6, 4, 5}, 1},
                                         {{2, 4, 3}, 4},
                                         {{3, 8}, 2},
                                         {{1, 4, 2, 3, 2}, 2},
                                         {{0, 4, 3}, 2}}) {
    for (const DType dtype : all_dtypes()) {
      const Given given = draw(c.x, {c.x[1]}, dtype);
      const int64_t group_channels = c.x[1] / c.groups;
      for (const Device device : devices()) {
        for (const bool fuse : {true, false}) {
          CAPTURE(to_string(c.x));
          const Tensor y = run_norm(given, device, fuse, [&](Graph& g, Value x, Value weight, Value bias) {
            return g.group_norm(x, weight, bias, c.groups, 1e-3f);
          });
          REQUIRE(y.shape() == c.x);
          REQUIRE(y.dtype() == dtype);
          CHECK(num_wrong(y, [&](const Shape& i) {
                  const Moments m = moments_of(given.x, [&](const Shape& other) {
                    return other[0] == i[0] && other[1] / group_channels == i[1] / group_channels;
                  });
                  return normalized(value_at(given.x, i), m, 1e-3f, value_at(given.weight, {i[1]}),
                                    value_at(given.bias, {i[1]}));
                }) == 0);
        }
      }
    }
  }
}

TEST_CASE("lrn: windows of odd and even sizes lie as PyTorch's do") {
  for (const Shape& shape :
       std::vector<Shape>{{2, 7, 3, 4}, {1, 5}, {2, 3, 4}, {1, 4, 2, 2, 3}, {2, 3, 0}, {2, 0, 3}}) {
    for (const int64_t size : {1, 2, 3, 4, 5, 9}) {
      for (const DType dtype : all_dtypes()) {
        const Tensor x = uniform(shape, 21, -3, 3).to(dtype);
        Graph g;
        g.output("y", g.lrn(g.input("x", shape, dtype), size, 0.5f, 0.75f, 2));
        for (const Device device : devices()) {
          CAPTURE(to_string(shape));
          CAPTURE(size);
          const Tensor y = run(g, {}, {{"x", x}}, {.device = device});
          REQUIRE(y.shape() == shape);
          CHECK(num_wrong(y, [&](const Shape& i) {
                  double sum = 0;  // of size channels, of which size / 2 lie before
                  for (int64_t c = i[1] - size / 2; c < i[1] - size / 2 + size; ++c) {
                    Shape at = i;
                    at[1] = c;
                    if (c >= 0 && c < shape[1]) sum += double{value_at(x, at)} * value_at(x, at);
                  }
                  const double exact =
                      value_at(x, i) / std::pow(2 + 0.5 * sum / static_cast<double>(size), 0.75);
                  return Expected{exact, 0x1p-20 * std::abs(exact) + 0x1p-140};
                }) == 0);
        }
      }
    }
  }
}

TEST_CASE("conv2d: of three axes, with bias, strides, dilation, groups and one-sided padding") {
  struct Case {
    Shape x, w;
    Conv2dOptions options;
  };
  for (const Case& c :
       std::vector<Case>{{{2, 3, 11}, {4, 3, 3}, {}},
                         {{1, 4, 12}, {6, 2, 3}, {.stride = 2, .padding = 1, .groups = 2}},
                         {{2, 2, 15}, {3, 2, 4}, {.padding = {7, 2, 7, 1}, .dilation = 3}},
                         {{2, 5, 9}, {5, 1, 5}, {.stride = {9, 3}, .padding = 2, .groups = 5}},
                         {{1, 1, 1}, {1, 1, 1}, {}},
                         {{0, 3, 5}, {2, 3, 2}, {}}}) {
    const auto& o = c.options;
    for (const DType dtype : all_dtypes()) {
      const Tensor x = uniform(c.x, 31, -2, 2).to(dtype), w = uniform(c.w, 32).to(dtype),
                   b = uniform({c.w[0]}, 33).to(dtype);
      Graph g;
      const Value xv = g.input("x", c.x, dtype), wv = g.parameter("w", c.w, dtype);
      g.output("y", g.conv2d(xv, wv, g.parameter("b", {c.w[0]}, dtype), o));
      const int64_t width =
          (c.x[2] + o.padding.left + o.padding.right - o.dilation.w * (c.w[2] - 1) - 1) / o.stride.w + 1;
      for (const Device device : devices()) {
        CAPTURE(to_string(c.x));
        if (dtype == DType::float32) {  // the bias is its epilogue
          const Model model = compile(g, {{"w", w}, {"b", b}}, {.device = device});
          CHECK(std::ranges::none_of(model.graph().nodes(),
                                     [](const Node& node) { return node.kind == NodeKind::elementwise; }));
        }
        const Tensor y = run(g, {{"w", w}, {"b", b}}, {{"x", x}}, {.device = device});
        REQUIRE(y.shape() == Shape{c.x[0], c.w[0], width});
        CHECK(
            num_wrong(y, [&](const Shape& i) {
              double sum = 0, sum_abs = 0;
              for (int64_t channel = 0; channel < c.w[1]; ++channel)
                for (int64_t s = 0; s < c.w[2]; ++s) {
                  const int64_t at = i[2] * o.stride.w + s * o.dilation.w - o.padding.left;
                  if (at < 0 || at >= c.x[2]) continue;
                  const int64_t from = i[1] / (c.w[0] / o.groups) * c.w[1] + channel;
                  const double term = double{value_at(x, {i[0], from, at})} * value_at(w, {i[1], channel, s});
                  sum += term, sum_abs += std::abs(term);
                }
              const double bias = value_at(b, {i[1]});
              const double terms = static_cast<double>(c.w[1] * c.w[2] + 1);
              return Expected{sum + bias, terms * 0x1p-24 * (sum_abs + std::abs(bias)) + 0x1p-140};
            }) == 0);
      }
    }
  }
}

TEST_CASE("builders of several nodes: what is refused leaves the graph as it was, and says why") {
  Graph g;
  const Value x = g.input("x", {2, 8, 4, 6}), row = g.input("row", {2, 4, 9}),
              w1 = g.parameter("w1", {4, 4, 3}), w = g.parameter("w", {8, 3, 2, 2}),
              c = g.parameter("c", {8}), c3 = g.parameter("c3", {3}),
              half = g.input("half", {8}, DType::float16), flat = g.input("flat", {3}),
              w16 = g.parameter("w16", {8, 3, 2, 2}, DType::float16),
              empty = g.input("empty", {1, 0, int64_t{1} << 40, 1}),
              deep = g.input("deep", {1, int64_t{1} << 40, 0, 0});
  g.output("y", x);
  const Graph before = g;
  constexpr int64_t kHuge = int64_t{1} << 62, kBlock = (int64_t{1} << 31) - 1;
  CHECK_ERROR(g.tile(x, {1, 1, -1, 2}), invalid_argument, "tile_11", "-1 repeats", "axis 2");
  CHECK_ERROR(g.tile(x, {kHuge, 1, 1, 2}), invalid_argument);
  CHECK_ERROR(g.tile(flat, {-1, 2, 2}), invalid_argument, "tile");
  CHECK_ERROR(g.depth_to_space(x, 3), shape_mismatch, "depth_to_space_11", "block of 3", "[2, 8, 4, 6]");
  CHECK_ERROR(g.depth_to_space(x, 0), shape_mismatch, "block of 0");
  CHECK_ERROR(g.depth_to_space(flat, 1), shape_mismatch, "[3]");
  CHECK_ERROR(g.depth_to_space(empty, kBlock), invalid_argument, "depth_to_space");
  CHECK_ERROR(g.space_to_depth(x, 4), shape_mismatch, "space_to_depth_11", "block of 4");
  CHECK_ERROR(g.space_to_depth(deep, kBlock), invalid_argument, "space_to_depth");
  CHECK_ERROR(g.global_avg_pool(flat), shape_mismatch, "global_avg_pool", "[3]");
  CHECK_ERROR(g.global_max_pool(flat), shape_mismatch, "global_max_pool", "[3]");
  CHECK_ERROR(g.layer_norm(x, c, c, 1), shape_mismatch, "layer_norm_11", "[6]", "[8]");
  CHECK_ERROR(g.layer_norm(x, c, c, 5), invalid_argument, "5 axes");
  CHECK_ERROR(g.layer_norm(x, c, c, 0), invalid_argument, "0 axes");
  CHECK_ERROR(g.group_norm(x, c, c, 3), shape_mismatch, "group_norm_11", "3 groups");
  CHECK_ERROR(g.group_norm(x, c, c3, 2), shape_mismatch, "[8]", "[3]");
  CHECK_ERROR(g.group_norm(x, c, half, 2), shape_mismatch, "float16");
  CHECK_ERROR(g.lrn(x, 0), shape_mismatch, "lrn_11", "size");
  CHECK_ERROR(g.lrn(x, kHuge), shape_mismatch, "lrn_11", "size from 1 to 2^31 - 1");
  CHECK_ERROR(g.lrn(flat, 3), shape_mismatch, "lrn", "[3]");
  CHECK_ERROR(g.conv2d(row, w1, {.padding = -9}), shape_mismatch, "conv2d");
  CHECK_ERROR(g.conv2d(row, w1, c, {}), shape_mismatch, "bias", "[4]", "[8]");
  CHECK_ERROR(g.conv2d(row, w), shape_mismatch, "conv2d_11", "[2, 4, 9]");
  CHECK_ERROR(g.conv_transpose2d(x, w, {.padding = 99}), shape_mismatch);
  CHECK_ERROR(g.conv_transpose2d(x, w16), invalid_argument, "float16", "cast");
  CHECK_ERROR(g.conv_transpose2d(x, w, {.dilation = INT64_MAX}), unsupported, "dilations");
  CHECK_ERROR(g.conv_transpose2d(x, w, {.padding = INT64_MIN}), unsupported, "paddings");
  CHECK_ERROR(g.conv_transpose2d(x, w, c), shape_mismatch, "conv_transpose2d_11", "bias", "[3]", "[8]");
  CHECK_ERROR(g.conv_transpose2d(x, w, Value{}), invalid_argument, "not of this graph");
  CHECK_ERROR(g.linear(x, c3, c3), shape_mismatch, "linear");
  CHECK_ERROR(g.split(x, 1, {4, 3}), invalid_argument, "split_11");
  CHECK_ERROR(g.where(x, half, half), invalid_argument, "where");
  CHECK(g == before);
  CHECK(g.type(g.conv_transpose2d(x, w, c3)).shape == Shape{2, 3, 5, 7});  // and it goes on
}
