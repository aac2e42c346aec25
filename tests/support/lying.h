#pragma once
// A tensor that an op reads, and its result, lying in memory in every way that the graph has; and the comparison with
// an oracle in double.

#include <functional>
#include <limits>

#include "tests/support/support.h"

namespace solder::test {

/// How the op's input and its result lie.
enum class Lies {
  dense,
  backwards,  ///< x: every other element of the last axis, from its end
  turned,     ///< x: axes reversed
  expanded,   ///< x: repeated along its first two axes by strides of 0; what they hold is that of index 0
  joined      ///< the result: twice, as the parts of a concat along the last axis
};
inline constexpr Lies kAllLies[] = {Lies::dense, Lies::backwards, Lies::turned, Lies::expanded, Lies::joined};

/// Places of `shape` in row-major order: calls body(index) for each.
inline void for_each_index(const Shape& shape, const std::function<void(const Shape& index)>& body) {
  Shape index(shape.size());
  for (int64_t i = num_elements(shape); i > 0; --i) {
    body(index);
    for (size_t axis = shape.size(); axis-- > 0 && ++index[axis] == shape[axis];) index[axis] = 0;
  }
}

inline int64_t offset_of(const Shape& shape, const Shape& index) {
  int64_t offset = 0;
  for (size_t axis = 0; axis < shape.size(); ++axis) offset = offset * shape[axis] + index[axis];
  return offset;
}

inline float value_at(const Tensor& tensor, const Shape& index) {
  return load_as_float(tensor.data(), tensor.dtype(), offset_of(tensor.shape(), index));
}

/// A tensor of `shape` whose element at `index` is from(index).
inline Tensor filled(const Shape& shape, DType dtype, const std::function<float(const Shape& index)>& from) {
  Tensor tensor = Tensor::empty(shape, dtype);
  int64_t i = 0;
  for_each_index(shape,
                 [&](const Shape& index) { store_from_float(tensor.data(), dtype, i++, from(index)); });
  return tensor;
}

using Build = std::function<Value(Graph& g, Value x)>;

/// build(x) on `device` by way of `lies`; x has at least two axes. Of `expanded` x must be what is said there.
inline Tensor run_lying(const Build& build, const Tensor& x, Lies lies, Device device, int threads = 0) {
  Graph g;
  Shape shape = x.shape();
  const size_t last = shape.size() - 1;
  Tensor given = x;
  Value value;
  if (lies == Lies::backwards) {
    const int64_t width = shape[last];
    shape[last] = 2 * width + 1;
    given = filled(shape, x.dtype(), [&](Shape index) {
      if (index[last] % 2 == 0) return std::numeric_limits<float>::quiet_NaN();  // nobody reads it
      index[last] = width - 1 - index[last] / 2;
      return value_at(x, index);
    });
    value = g.slice(g.input("x", shape, x.dtype()), static_cast<int>(last), -2, INT64_MIN, -2);
  } else if (lies == Lies::turned) {
    std::reverse(shape.begin(), shape.end());
    given = filled(shape, x.dtype(), [&](Shape index) {
      std::reverse(index.begin(), index.end());
      return value_at(x, index);
    });
    std::vector<int> axes;
    for (size_t axis = shape.size(); axis-- > 0;) axes.push_back(static_cast<int>(axis));
    value = g.permute(g.input("x", shape, x.dtype()), axes);
  } else if (lies == Lies::expanded) {
    shape[0] = shape[1] = 1;
    given = filled(shape, x.dtype(),
                   [&](const Shape& index) { return x.num_elems() > 0 ? value_at(x, index) : 0; });
    value = g.expand(g.input("x", shape, x.dtype()), x.shape());
  } else {
    value = g.input("x", shape, x.dtype());
  }
  Value y = build(g, value);
  const Shape result = g.type(y).shape;
  if (lies == Lies::joined) y = g.concat({build(g, value), y}, -1);
  g.output("y", y);
  const Tensor whole =
      compile(g, {}, {.device = device, .threads = threads}).session().run({{"x", given}}).at("y");
  if (lies != Lies::joined) return whole;
  const auto half = [&](int64_t start) {
    return filled(result, x.dtype(), [&](Shape index) {
      index.back() += start;
      return value_at(whole, index);
    });
  };
  const Tensor second = half(result.back());
  CHECK(same_bits(half(0), second));
  return second;
}

/// What an oracle says of one element: its value, and how far from it what is stored may lie before rounding.
struct Expected {
  double value = 0, bound = 0;
};

/// How many elements of y lie farther from oracle(index) than its bound and one rounding to y's dtype; NaN must be NaN
/// and infinity itself.
inline int64_t num_wrong(const Tensor& y, const std::function<Expected(const Shape& index)>& oracle) {
  const double unit = y.dtype() == DType::float32 ? 0x1p-24 : y.dtype() == DType::float16 ? 0x1p-11 : 0x1p-8;
  const double smallest = y.dtype() == DType::float16 ? 0x1p-25 : 0x1p-134;
  int64_t wrong = 0, i = 0;
  for_each_index(y.shape(), [&](const Shape& index) {
    const Expected expected = oracle(index);
    const double value = load_as_float(y.data(), y.dtype(), i++);
    const double allowed = expected.bound + (expected.bound > 0 || y.dtype() != DType::float32
                                                 ? unit * std::abs(expected.value) + smallest
                                                 : 0.0);
    if (std::isnan(expected.value) || std::isinf(expected.value))
      wrong += std::isnan(expected.value) ? !std::isnan(value) : value != expected.value;
    else
      wrong += !(std::abs(value - expected.value) <= allowed);
  });
  return wrong;
}

/// x in [-2, 2) with some NaN, infinities and zeros of either sign; for `expanded` the same along the first two axes.
inline Tensor with_specials(const Shape& shape, DType dtype, uint64_t seed, bool specials = true,
                            bool repeats = false) {
  Tensor x = uniform(shape, seed, -2, 2);
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const float special[] = {std::numeric_limits<float>::quiet_NaN(), kInf, -kInf, -0.0f, 0.0f};
  for (size_t i = 0; specials && i < x.floats().size(); ++i)
    if ((i * 2654435761u >> 8) % 13 == 0) x.floats()[i] = special[i % 5];
  if (!repeats) return x.to(dtype);
  return filled(shape, dtype, [&](Shape index) {
    index[0] = index[1] = 0;
    return value_at(x, index);
  });
}

}  // namespace solder::test
