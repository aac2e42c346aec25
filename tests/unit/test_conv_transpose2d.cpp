// conv_transpose2d as the sum that it is: every pixel of x adds the filter, times itself, to the result.

#include "tests/support/lying.h"

using namespace solder;
using namespace solder::test;

namespace {

struct TransposeCase {
  std::string name;
  Shape x, w;
  ConvTranspose2dOptions options;
};

const std::vector<TransposeCase> kCases = {
    {"2x2, stride 2: an upscaling", {2, 3, 4, 5}, {3, 2, 2, 2}, {.stride = 2}},
    {"3x3", {1, 2, 5, 4}, {2, 3, 3, 3}, {}},
    {"padded", {1, 2, 5, 4}, {2, 3, 3, 3}, {.stride = 2, .padding = 1}},
    {"and its last row and column back",
     {1, 2, 5, 4},
     {2, 3, 3, 3},
     {.stride = 2, .padding = 1, .output_padding = 1}},
    {"sides that differ", {1, 2, 4, 6}, {2, 2, 3, 2}, {.stride = {3, 1}, .padding = {1, 0, 0, 1}}},
    {"cropped more than the filter reaches", {1, 2, 6, 6}, {2, 2, 2, 2}, {.padding = 2}},
    {"dilation", {1, 2, 4, 4}, {2, 2, 2, 3}, {.stride = {1, 2}, .padding = {1, 0}, .dilation = {2, 3}}},
    {"groups", {2, 6, 3, 4}, {6, 2, 2, 2}, {.stride = 2, .groups = 3}},
    {"one pixel", {1, 1, 1, 1}, {1, 2, 4, 4}, {.stride = 2, .padding = 1}},
    {"no images", {0, 2, 3, 3}, {2, 2, 2, 2}, {.stride = 2}},
};

}  // namespace

TEST_CASE("conv_transpose2d: each case is its definition, on each device") {
  uint64_t seed = 1;
  for (const TransposeCase& c : kCases) {
    const auto& [stride, padding, extra, dilation, groups] = c.options;
    const Tensor x = uniform(c.x, ++seed), w = uniform(c.w, ++seed), b = uniform({c.w[1] * groups}, ++seed);
    const int64_t group_c = c.w[0] / groups, group_k = c.w[1];
    const Shape shape{
        c.x[0], group_k * groups,
        (c.x[2] - 1) * stride.h - padding.top - padding.bottom + dilation.h * (c.w[2] - 1) + extra.h + 1,
        (c.x[3] - 1) * stride.w - padding.left - padding.right + dilation.w * (c.w[3] - 1) + extra.w + 1};
    std::vector<double> sums(static_cast<size_t>(num_elements(shape)), 0.0), sizes = sums;
    for_each_index({c.x[0], c.x[1], c.x[2], c.x[3], group_k, c.w[2], c.w[3]}, [&](const Shape& i) {
      const Shape to{i[0], i[1] / group_c * group_k + i[4], i[2] * stride.h + i[5] * dilation.h - padding.top,
                     i[3] * stride.w + i[6] * dilation.w - padding.left};
      if (to[2] < 0 || to[2] >= shape[2] || to[3] < 0 || to[3] >= shape[3]) return;
      const double term =
          double{value_at(x, {i[0], i[1], i[2], i[3]})} * value_at(w, {i[1], i[4], i[5], i[6]});
      sums[static_cast<size_t>(offset_of(shape, to))] += term;
      sizes[static_cast<size_t>(offset_of(shape, to))] += std::abs(term);
    });
    for (const Device device : devices()) {
      Graph g;
      g.output("y", g.conv_transpose2d(g.input("x", c.x), g.parameter("w", c.w), g.parameter("b", b.shape()),
                                       c.options));
      const Tensor y = run(g, {{"w", w}, {"b", b}}, {{"x", x}}, {.device = device});
      CAPTURE(c.name);
      REQUIRE(y.shape() == shape);
      const double terms = static_cast<double>(group_c * c.w[2] * c.w[3]) + 1;
      CHECK(num_wrong(y, [&](const Shape& index) {
              const size_t at = static_cast<size_t>(offset_of(shape, index));
              const double bias = value_at(b, {index[1]});
              return Expected{sums[at] + bias, terms * 0x1p-24 * (sizes[at] + std::abs(bias)) + 0x1p-30};
            }) == 0);
    }
  }
}

TEST_CASE("conv_transpose2d: refused where it means nothing") {
  Graph g;
  const Value x = g.input("x", {1, 4, 5, 5}), w = g.parameter("w", {4, 2, 3, 3}),
              odd = g.parameter("odd", {3, 2, 3, 3});
  CHECK_ERROR(g.conv_transpose2d(x, odd), shape_mismatch, "conv_transpose2d_3", "[1, 4, 5, 5]",
              "[3, 2, 3, 3]");
  for (const Shape& empty : {Shape{1, 4, 0, 5}, Shape{1, 4, 5, 0}}) {  // (0 - 1) * stride is no extent
    Graph other;
    const Value none = other.input("x", empty), filter = other.input("w", {4, 2, 3, 3});
    CHECK_ERROR(other.conv_transpose2d(none, filter, {.stride = 2}), shape_mismatch, "conv_transpose2d_2",
                "H and W at least 1");
  }
  CHECK_ERROR(g.conv_transpose2d(x, w, {.stride = 0}), invalid_argument, "stride");
  CHECK_ERROR(g.conv_transpose2d(x, w, {.groups = 3}), shape_mismatch, "groups 3");
  CHECK_ERROR(g.conv_transpose2d(x, w, {.padding = 9}), shape_mismatch, "no extent");
  const Value small = g.input("small", {1, 4, 1, 5}), tall = g.parameter("tall", {4, 3, 2, 1});
  CHECK_ERROR(g.conv_transpose2d(small, tall, {.padding = {1, 0}}), shape_mismatch,
              "leaves nothing of x [1, 4, 1, 5]", "w [4, 3, 2, 1]");
}
