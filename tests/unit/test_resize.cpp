// resize against ONNX's definition, however x and the result lie.

#include "tests/cases/image_cases.h"
#include "tests/support/lying.h"

using namespace solder;
using namespace solder::test;

namespace {

// One axis, by ONNX's formulas.
struct Axis {
  int64_t in, out;
  long double scale;  // 0: out / in, without the error of a division
  ResizeCoordinates mode;

  long double scaled(long double value) const {
    return scale > 0 ? value / scale : value * static_cast<long double>(in) / static_cast<long double>(out);
  }
  long double coordinate(int64_t i) const {
    const auto at = static_cast<long double>(i);
    switch (mode) {
      case ResizeCoordinates::half_pixel: return scaled(at + 0.5L) - 0.5L;
      case ResizeCoordinates::half_pixel_symmetric: {
        const auto width = static_cast<long double>(in);
        const long double adjustment = scale > 0 ? static_cast<long double>(out) / (width * scale) : 1;
        return width / 2 * (1 - adjustment) + scaled(at + 0.5L) - 0.5L;
      }
      case ResizeCoordinates::pytorch_half_pixel: return out > 1 ? scaled(at + 0.5L) - 0.5L : 0;
      case ResizeCoordinates::align_corners:
        return out > 1 ? at * static_cast<long double>(in - 1) / static_cast<long double>(out - 1) : 0;
      case ResizeCoordinates::asymmetric: return scaled(at);
    }
    return NAN;
  }
  int64_t cut(int64_t index) const { return std::clamp<int64_t>(index, 0, in - 1); }

  int64_t nearest(int64_t i, ResizeRounding rounding) const {
    const long double at = coordinate(i), low = std::floor(at), rest = at - low;
    const auto floor = static_cast<int64_t>(low);
    switch (rounding) {
      case ResizeRounding::floor: return cut(floor);
      case ResizeRounding::ceil: return cut(floor + (rest > 0));
      case ResizeRounding::round_prefer_floor: return cut(floor + (rest > 0.5L));
      case ResizeRounding::round_prefer_ceil: return cut(floor + (rest >= 0.5L));
    }
    return -1;
  }
};

struct Oracle {
  Oracle(const Tensor& x_, const Shape& y, const ResizeOptions& o) : x(x_), options(o) {
    const auto usual =
        o.mode == ResizeMode::nearest ? ResizeCoordinates::asymmetric : ResizeCoordinates::half_pixel;
    const ResizeCoordinates mode = o.coordinates.value_or(usual);
    h = {x.shape()[2], y[2], o.scale.h, mode};
    w = {x.shape()[3], y[3], o.scale.w, mode};
  }

  Expected at(const Shape& index) const {
    if (options.mode == ResizeMode::nearest)
      return {value_at(x, {index[0], index[1], h.nearest(index[2], options.rounding),
                           w.nearest(index[3], options.rounding)}),
              0};
    const double row = static_cast<double>(h.coordinate(index[2])),
                 column = static_cast<double>(w.coordinate(index[3]));
    double sum = 0, largest = 0;
    for (const double i : {std::floor(row), std::floor(row) + 1}) {
      for (const double j : {std::floor(column), std::floor(column) + 1}) {
        const double weight = (1 - std::abs(row - i)) * (1 - std::abs(column - j));
        if (weight == 0) continue;  // its value does not count, infinite or not
        const double value =
            value_at(x, {index[0], index[1], h.cut(static_cast<int64_t>(i)), w.cut(static_cast<int64_t>(j))});
        sum += weight * value, largest = std::max(largest, std::abs(value));
      }
    }
    return {sum, 0x1p-21 * largest};
  }

  Tensor x;
  ResizeOptions options;
  Axis h{}, w{};
};

}  // namespace

TEST_CASE("resize: each case, dtype and way to lie is its definition, on each device") {
  uint64_t seed = 1;
  for (const ResizeCase& c : resize_cases()) {
    for (const DType dtype : {DType::float32, DType::float16, DType::bfloat16}) {
      for (const Lies lies : kAllLies) {
        ++seed;
        // Infinities in some images of exact weights; NaN and zeros of either sign in nearest.
        const bool specials = c.options.mode == ResizeMode::nearest || c.name == "nothing to do";
        const Tensor x = with_specials(c.x, dtype, seed, specials, lies == Lies::expanded);
        Tensor on_cpu;
        for (const Device device : devices()) {
          const Tensor y =
              run_lying([&](Graph& g, Value v) { return g.resize(v, c.options); }, x, lies, device);
          const Oracle oracle(x, y.shape(), c.options);
          CAPTURE(c.name);
          CAPTURE(to_string(y.shape()));
          CAPTURE(static_cast<int>(c.options.mode));
          CAPTURE(static_cast<int>(c.options.rounding));
          CAPTURE(to_string(dtype));
          CAPTURE(static_cast<int>(lies));
          const auto extent = [](int64_t in, int64_t size, double scale) {
            return size > 0 ? size : static_cast<int64_t>(std::floor(static_cast<double>(in) * scale));
          };
          REQUIRE(y.shape() == Shape{c.x[0], c.x[1], extent(c.x[2], c.options.size.h, c.options.scale.h),
                                     extent(c.x[3], c.options.size.w, c.options.scale.w)});
          CHECK(num_wrong(y, [&](const Shape& index) { return oracle.at(index); }) == 0);
          if (!device.is_cuda()) on_cpu = y;
          CHECK(same_bits(y, on_cpu));
        }
      }
    }
  }
}

TEST_CASE("resize: nearest by whole numbers repeats pixels exactly, whatever the extents") {
  Graph g;
  const Value x = g.input("x", {1, 1, 1, 1000});
  for (int64_t factor = 1; factor <= 50; ++factor)
    g.output(std::to_string(factor), g.resize(x, {.size = {1, 1000 * factor}}));
  for (int64_t factor = 2; factor <= 50; ++factor)  // and back
    g.output("by " + std::to_string(factor), g.resize(x, {.size = {1, 1000 / factor}}));
  Tensor values = Tensor::empty({1, 1, 1, 1000});
  for (size_t i = 0; i < 1000; ++i) values.floats()[i] = static_cast<float>(i);
  const TensorMap y = compile(g, {}, {.device = Device::cpu()}).session().run({{"x", values}});
  int64_t wrong = 0;
  for (int64_t factor = 1; factor <= 50; ++factor) {
    const Tensor& up = y.at(std::to_string(factor));
    for (int64_t i = 0; i < up.num_elems(); ++i)
      wrong += up.floats()[static_cast<size_t>(i)] != static_cast<float>(i / factor);
    if (factor == 1 || 1000 % factor != 0) continue;
    const Tensor& down = y.at("by " + std::to_string(factor));
    for (int64_t i = 0; i < down.num_elems(); ++i)
      wrong += down.floats()[static_cast<size_t>(i)] != static_cast<float>(i * factor);
  }
  CHECK(wrong == 0);
}

TEST_CASE("resize: a neighbour of weight 0 does not count, NaN spreads as far as its weight does") {
  const Tensor x = Tensor::from({1, 1, 1, 4}, {1, INFINITY, 3, NAN});
  for (const Device device : devices()) {
    const ResizeOptions corners{
        .size = {1, 7}, .mode = ResizeMode::bilinear, .coordinates = ResizeCoordinates::align_corners};
    const Tensor y =
        run_lying([&](Graph& g, Value v) { return g.resize(v, corners); }, x, Lies::dense, device);
    CHECK(same_bits(y, Tensor::from({1, 1, 1, 7}, {1, INFINITY, INFINITY, INFINITY, 3, NAN, NAN})));
  }
}

TEST_CASE("resize: half_pixel_symmetric meets the middle exactly, whatever the scale") {
  const Tensor x = Tensor::from({1, 1, 1, 5}, {0, 1, 2, 3, INFINITY});
  constexpr double kTiny = 5e-324;  // by which the ends lie infinitely far outside
  for (const ResizeMode mode : {ResizeMode::nearest, ResizeMode::bilinear}) {
    for (const auto& [columns, scale, expected] :
         {std::tuple{1, 1.0 / 3, Tensor::from({1, 1, 1, 1}, {2})},
          {3, kTiny, Tensor::from({1, 1, 1, 3}, {0, 2, INFINITY})}}) {
      const ResizeOptions options{.size = {1, columns},
                                  .scale = {1, scale},
                                  .mode = mode,
                                  .coordinates = ResizeCoordinates::half_pixel_symmetric};
      for (const Device device : devices())
        CHECK(same_bits(
            run_lying([&](Graph& g, Value v) { return g.resize(v, options); }, x, Lies::dense, device),
            expected));
    }
  }
}

TEST_CASE("resize: the same bits on any number of threads, of large images") {
  const Tensor x = uniform({2, 5, 65, 130}, 3);
  for (const ResizeOptions& options :
       {ResizeOptions{.scale = 2}, ResizeOptions{.size = {111, 300}, .mode = ResizeMode::bilinear}}) {
    const Build build = [&](Graph& g, Value v) { return g.resize(v, options); };
    const Tensor one = run_lying(build, x, Lies::dense, Device::cpu(), 1);
    const Oracle oracle(x, one.shape(), options);
    CHECK(num_wrong(one, [&](const Shape& index) { return oracle.at(index); }) == 0);
    for (const int threads : {2, 3})
      CHECK(same_bits(one, run_lying(build, x, Lies::dense, Device::cpu(), threads)));
    if (has_gpu()) CHECK(same_bits(one, run_lying(build, x, Lies::dense, Device::cuda(0))));
  }
}

TEST_CASE("resize: between elementwise neighbours") {
  const Tensor x = uniform({2, 3, 5, 6}, 9, -2, 2);
  for (const Device device : devices()) {
    const Tensor y =
        run_lying([](Graph& g, Value v) { return g.add(g.resize(g.relu(v), {.scale = 2}), 1.0f); }, x,
                  Lies::dense, device);
    CHECK(same_bits(y, filled(y.shape(), DType::float32, [&](const Shape& i) {
                      return std::max(value_at(x, {i[0], i[1], i[2] / 2, i[3] / 2}), 0.0f) + 1.0f;
                    })));
  }
}

TEST_CASE("resize: refused where it means nothing") {
  Graph g;
  const Value x = g.input("x", {1, 3, 5, 6}), flat = g.input("flat", {5, 6}),
              none = g.input("none", {1, 3, 0, 6});
  CHECK_ERROR(g.resize(flat, {.scale = 2}), shape_mismatch, "resize_3", "[N, C, H, W]", "[5, 6]");
  CHECK_ERROR(g.resize(x, {}), invalid_argument, "resize_3", "needs a positive size or a positive scale");
  CHECK_ERROR(g.resize(x, {.size = {-1, 2}}), invalid_argument, "size -1");
  CHECK_ERROR(g.resize(x, {.scale = -2}), invalid_argument, "scale -2");
  CHECK_ERROR(g.resize(x, {.scale = NAN}), invalid_argument, "scale nan");
  CHECK_ERROR(g.resize(x, {.scale = INFINITY}), invalid_argument, "scale inf");
  CHECK_ERROR(g.resize(x, {.scale = 1e12}), invalid_argument, "more than 2147483647");
  CHECK_ERROR(g.resize(x, {.size = {int64_t{1} << 31, 1}}), invalid_argument, "5 rows to 2147483648");
  CHECK_ERROR(g.resize(x, {.scale = 0.1}), shape_mismatch, "5 rows", "cannot become 0");
  CHECK_ERROR(g.resize(none, {.size = 4}), shape_mismatch, "0 rows", "cannot become 4");
  CHECK(g.nodes().size() == 3);
}
