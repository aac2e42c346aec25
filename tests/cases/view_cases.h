#pragma once
// The ways in which a tensor may come to what reads it, and be stored by what makes it.

#include <string>
#include <vector>

#include "tests/support/support.h"

namespace solder::test {

/// A tensor that a graph sees under a given shape.
struct ViewCase {
  std::string name;
  Shape base;                                  ///< of the graph's input
  Value (*view)(Graph&, Value, const Shape&);  ///< to the shape
};

inline std::vector<ViewCase> view_cases(const Shape& shape) {
  const auto changed = [&](size_t axis, int64_t extent) {
    Shape base = shape;
    base[axis] = extent;
    return base;
  };
  std::vector<ViewCase> cases{{"dense", shape, [](Graph&, Value x, const Shape&) { return x; }}};
  if (shape.empty()) return cases;
  const size_t last = shape.size() - 1;
  cases.push_back({"every other, from the second on", changed(last, 2 * shape[last] + 1),
                   [](Graph& g, Value x, const Shape&) { return g.slice(x, -1, 1, INT64_MAX, 2); }});
  cases.push_back(
      {"backwards", shape, [](Graph& g, Value x, const Shape&) { return g.slice(x, 0, -1, INT64_MIN, -1); }});
  cases.push_back({"a part", changed(last / 2, shape[last / 2] + 5), [](Graph& g, Value x, const Shape& s) {
                     const int axis = static_cast<int>((s.size() - 1) / 2);
                     return g.slice(x, axis, 4, 4 + s[static_cast<size_t>(axis)]);
                   }});
  cases.push_back({"permuted", Shape(shape.rbegin(), shape.rend()), [](Graph& g, Value x, const Shape& s) {
                     std::vector<int> axes;
                     for (size_t axis = s.size(); axis-- > 0;) axes.push_back(static_cast<int>(axis));
                     return g.permute(x, axes);
                   }});
  cases.push_back(
      {"expanded", changed(last / 2, 1), [](Graph& g, Value x, const Shape& s) { return g.expand(x, s); }});
  return cases;
}

inline const std::vector<DType>& all_dtypes() {
  static const std::vector<DType> dtypes{DType::float32, DType::float16, DType::bfloat16};
  return dtypes;
}

/// u of a rounding to `dtype` to nearest, and half the distance of its smallest numbers.
inline double rounding_of(DType dtype) {
  return dtype == DType::float32 ? 0x1p-24 : dtype == DType::float16 ? 0x1p-11 : 0x1p-8;
}
inline double half_step_of(DType dtype) { return dtype == DType::float16 ? 0x1p-25 : 0x1p-134; }

/// What a computation of a tensor gives for x under each view, stored by itself and as the middle of a concat along
/// axis 0: `make` builds it, check(x as the graph sees it, result, words) judges it. All of both are bit-identical.
template <class Make, class Check>
void for_views(const Shape& shape, const Make& make, const Check& check, float low = -2, float high = 2) {
  for (const Device device : devices()) {
    for (const DType dtype : all_dtypes()) {
      for (const ViewCase& view : view_cases(shape)) {
        Graph g;
        const Value x = view.view(g, g.input("x", view.base, dtype), shape);
        const Value y = make(g, x);
        g.output("seen", g.mul(x, 1.0f));
        g.output("y", y);
        const Shape y_shape = g.type(y).shape;
        if (!y_shape.empty()) {
          // A computation of its own, which the concat alone reads: it lands in its place there.
          const Value part = make(g, x);
          g.output("joined", g.concat({g.mul(part, 2.0f), part, g.neg(part)}, 0));
        }
        const Tensor base = uniform(view.base, 7, low, high).to(dtype);
        const TensorMap results = compile(g, {}, {.device = device}).session().run({{"x", base}});
        const std::string words =
            view.name + " " + to_string(shape) + " " + to_string(dtype) + " on " + to_string(device);
        INFO(words);
        const Tensor& result = results.at("y");
        check(results.at("seen"), result, words);
        if (y_shape.empty()) continue;
        const Tensor& joined = results.at("joined");
        const auto bytes = static_cast<size_t>(result.num_bytes());
        const bool same =
            bytes == 0 ||  // memcmp takes no null
            std::memcmp(static_cast<std::byte*>(joined.data()) + bytes, result.data(), bytes) == 0;
        CHECK(same);
      }
    }
  }
}

}  // namespace solder::test
