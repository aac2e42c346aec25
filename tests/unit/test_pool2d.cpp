// max_pool2d and avg_pool2d against their definitions, however x and the result lie.

#include "tests/cases/image_cases.h"
#include "tests/support/lying.h"

using namespace solder;
using namespace solder::test;

namespace {

// One axis of a pool, window by window and place by place.
struct Axis {
  int64_t extent, size, stride, dilation, before, after;
  bool ceil_mode;

  int64_t num_windows() const {
    int64_t count = 0;
    // The room that the window lacks; rounded up, less than a stride of it may be missing.
    const auto lacks = [&](int64_t i) {
      return i * stride + dilation * (size - 1) + 1 - (before + extent + after);
    };
    while (ceil_mode ? lacks(count) < stride && count * stride < before + extent : lacks(count) <= 0) ++count;
    return count;
  }
  int64_t place(int64_t window, int64_t tap) const { return window * stride + tap * dilation - before; }
  bool is_padding(int64_t place) const {
    return (place >= -before && place < 0) || (place >= extent && place < extent + after);
  }
};

struct Oracle {
  Oracle(const Tensor& x_, const Pool2dOptions& o, bool is_max_)
      : x(x_),
        is_max(is_max_),
        count_padding(o.count_include_pad),
        h{x.shape()[2],     o.kernel.h, o.stride.h > 0 ? o.stride.h : o.kernel.h, o.dilation.h, o.padding.top,
          o.padding.bottom, o.ceil_mode},
        w{x.shape()[3],    o.kernel.w, o.stride.w > 0 ? o.stride.w : o.kernel.w, o.dilation.w, o.padding.left,
          o.padding.right, o.ceil_mode} {}

  Expected at(const Shape& index) const {
    double largest = -INFINITY, sum = 0, sum_abs = 0;
    int64_t num_places = 0, num_padding = 0;
    bool has_nan = false;
    for (int64_t r = 0; r < h.size; ++r) {
      for (int64_t s = 0; s < w.size; ++s) {
        const int64_t row = h.place(index[2], r), column = w.place(index[3], s);
        const bool row_inside = row >= 0 && row < h.extent, column_inside = column >= 0 && column < w.extent;
        if (!row_inside || !column_inside) {
          num_padding += (row_inside || h.is_padding(row)) && (column_inside || w.is_padding(column));
          continue;
        }
        const double value = value_at(x, {index[0], index[1], row, column});
        ++num_places;
        has_nan = has_nan || std::isnan(value);
        largest = std::max(largest, value);
        sum += value, sum_abs += std::abs(value);
      }
    }
    if (is_max) return {has_nan ? NAN : largest, 0};
    const double count = static_cast<double>(num_places + (count_padding ? num_padding : 0));
    return {sum / count, static_cast<double>(num_places + 1) * 0x1p-24 * sum_abs / count};
  }

  Tensor x;
  bool is_max, count_padding;
  Axis h, w;
};

}  // namespace

TEST_CASE("pool2d: each case, dtype and way to lie is its definition, on each device") {
  uint64_t seed = 1;
  for (const PoolCase& c : pool_cases()) {
    for (const DType dtype : {DType::float32, DType::float16, DType::bfloat16}) {
      for (const bool is_max : {true, false}) {
        for (const Lies lies : kAllLies) {
          const Tensor x = with_specials(c.x, dtype, seed, seed % 2 == 0, lies == Lies::expanded);
          ++seed;
          const Oracle oracle(x, c.options, is_max);
          const Build build = [&](Graph& g, Value value) {
            return is_max ? g.max_pool2d(value, c.options) : g.avg_pool2d(value, c.options);
          };
          Tensor on_cpu;
          for (const Device device : devices()) {
            const Tensor y = run_lying(build, x, lies, device);
            CAPTURE(c.name);
            CAPTURE(to_string(dtype));
            CAPTURE(is_max);
            CAPTURE(static_cast<int>(lies));
            REQUIRE(y.shape() == Shape{c.x[0], c.x[1], oracle.h.num_windows(), oracle.w.num_windows()});
            CHECK(num_wrong(y, [&](const Shape& index) { return oracle.at(index); }) == 0);
            if (!device.is_cuda()) on_cpu = y;
            CHECK(same_bits(y, on_cpu));
          }
        }
      }
    }
  }
}

TEST_CASE("pool2d: the same bits on any number of threads, and large images") {
  const Tensor x = uniform({2, 7, 130, 517}, 5);
  const Pool2dOptions options{.kernel = 3, .stride = 2, .padding = 1};
  for (const bool is_max : {true, false}) {
    const Build build = [&](Graph& g, Value v) {
      return is_max ? g.max_pool2d(v, options) : g.avg_pool2d(v, options);
    };
    const Tensor one = run_lying(build, x, Lies::dense, Device::cpu(), 1);
    const Oracle oracle(x, options, is_max);
    CHECK(num_wrong(one, [&](const Shape& index) { return oracle.at(index); }) == 0);
    for (const int threads : {2, 3})
      CHECK(same_bits(one, run_lying(build, x, Lies::dense, Device::cpu(), threads)));
    if (has_gpu()) CHECK(same_bits(one, run_lying(build, x, Lies::dense, Device::cuda(0))));
  }
}

TEST_CASE("pool2d: of zeros the first; an average of infinities of both signs is NaN") {
  for (const Device device : devices()) {
    const Tensor zeros = Tensor::from({1, 1, 1, 4}, {-0.0f, 0.0f, 0.0f, -0.0f});
    const auto pool = [](Graph& g, Value x) { return g.max_pool2d(x, {.kernel = {1, 2}}); };
    const Tensor y = run_lying(pool, zeros, Lies::dense, device);
    CHECK(bits_of(y.floats()[0]) == bits_of(-0.0f));
    CHECK(bits_of(y.floats()[1]) == bits_of(0.0f));
    const Tensor both = Tensor::from({1, 1, 1, 2}, {INFINITY, -INFINITY});
    const auto mean = [](Graph& g, Value x) { return g.avg_pool2d(x, {.kernel = {1, 2}}); };
    CHECK(std::isnan(run_lying(mean, both, Lies::dense, device).floats()[0]));
  }
}

TEST_CASE("pool2d: between elementwise neighbours") {
  const Tensor x = uniform({2, 3, 9, 9}, 9, -2, 2);
  Tensor positive = x;
  positive = filled(x.shape(), DType::float32,
                    [&](const Shape& index) { return std::max(value_at(x, index), 0.0f); });
  const Pool2dOptions options{.kernel = 3, .stride = 2, .padding = 1};
  for (const Device device : devices()) {
    const Tensor fused =
        run_lying([&](Graph& g, Value v) { return g.relu(g.sub(g.avg_pool2d(g.relu(v), options), 0.25f)); },
                  x, Lies::dense, device);
    const Tensor pooled =
        run_lying([&](Graph& g, Value v) { return g.avg_pool2d(v, options); }, positive, Lies::dense, device);
    CHECK(same_bits(fused, filled(pooled.shape(), DType::float32, [&](const Shape& index) {
                      return std::max(value_at(pooled, index) - 0.25f, 0.0f);
                    })));
  }
}

TEST_CASE("pool2d: refused where it means nothing") {
  Graph g;
  const Value x = g.input("x", {1, 3, 5, 6}), flat = g.input("flat", {5, 6});
  CHECK_ERROR(g.max_pool2d(flat, {.kernel = 2}), shape_mismatch, "max_pool2d_2", "[N, C, H, W]", "[5, 6]");
  CHECK_ERROR(g.max_pool2d(x, {.kernel = 0}), invalid_argument, "kernel", "is 0");
  CHECK_ERROR(g.avg_pool2d(x, {.kernel = 2, .stride = {1, 0}}), invalid_argument, "avg_pool2d",
              "stride of columns");
  CHECK_ERROR(g.max_pool2d(x, {.kernel = 2, .dilation = -1}), invalid_argument, "dilation");
  CHECK_ERROR(g.max_pool2d(x, {.kernel = 2, .padding = -1}), invalid_argument, "padding", "slice");
  CHECK_ERROR(g.max_pool2d(x, {.kernel = {6, 1}}), shape_mismatch, "rows", "reaches over 6", "[1, 3, 5, 6]");
  CHECK_ERROR(g.max_pool2d(x, {.kernel = 3, .dilation = {1, 3}}), shape_mismatch, "columns",
              "reaches over 7");
  CHECK_ERROR(g.max_pool2d(x, {.kernel = INT64_MAX}), invalid_argument, "kernel");
  CHECK(g.nodes().size() == 2);
}
