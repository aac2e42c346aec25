// pad against its definition, however x and the result lie.

#include "tests/cases/image_cases.h"
#include "tests/support/lying.h"

using namespace solder;
using namespace solder::test;

namespace {

// The node of the case; of those with fillers between neighbours as passes and builders make it.
Value build_pad(Graph& g, Value x, const PadCase& c) {
  if (c.interior.empty()) return g.pad(x, c.before, c.after, c.mode, c.value);
  Node node{.kind = NodeKind::pad, .name = "spread", .inputs = {x}};
  node.attributes = PadAttributes{
      .before = c.before, .after = c.after, .interior = c.interior, .mode = c.mode, .value = c.value};
  return g.add_node(std::move(node));
}

// Which places of x an axis of the result shows (-1: the value), by writing them out and taking off or adding at
// both ends.
std::vector<int64_t> places_of(const PadCase& c, size_t axis) {
  std::vector<int64_t> places;
  const int64_t extent = c.x[axis], between = c.interior.empty() ? 0 : c.interior[axis];
  for (int64_t i = 0; i < extent; ++i) {
    if (i > 0) places.insert(places.end(), static_cast<size_t>(between), -1);
    places.push_back(i);
  }
  // Where a mirror or an edge is added, it is of all of x, and what is cropped is taken off afterwards.
  const auto filler = [&](int64_t distance, bool at_end) -> int64_t {
    if (c.mode == PadMode::constant) return -1;
    if (c.mode == PadMode::edge) return at_end ? extent - 1 : 0;
    return at_end ? extent - 1 - distance : distance;
  };
  for (int64_t d = 1; d <= c.before[axis]; ++d) places.insert(places.begin(), filler(d, false));
  for (int64_t d = 1; d <= c.after[axis]; ++d) places.push_back(filler(d, true));
  const auto cut = [&](int64_t count) { return std::min(static_cast<int64_t>(places.size()), count); };
  if (c.before[axis] < 0) places.erase(places.begin(), places.begin() + cut(-c.before[axis]));
  if (c.after[axis] < 0) places.erase(places.end() - cut(-c.after[axis]), places.end());
  return places;
}

Tensor padded(const PadCase& c, const Tensor& x) {
  std::vector<std::vector<int64_t>> places;
  Shape shape;
  for (size_t axis = 0; axis < c.x.size(); ++axis) {
    places.push_back(places_of(c, axis));
    shape.push_back(static_cast<int64_t>(places.back().size()));
  }
  return filled(shape, x.dtype(), [&](Shape index) {
    for (size_t axis = 0; axis < index.size(); ++axis) {
      index[axis] = places[axis][static_cast<size_t>(index[axis])];
      if (index[axis] < 0) return c.value;
    }
    return value_at(x, index);
  });
}

}  // namespace

TEST_CASE("pad: each case, dtype and way to lie is its definition, bit for bit, on each device") {
  uint64_t seed = 1;
  for (const PadCase& c : pad_cases()) {
    for (const DType dtype : {DType::float32, DType::float16, DType::bfloat16}) {
      for (const Lies lies : kAllLies) {
        const Tensor x = with_specials(c.x, dtype, ++seed, true, lies == Lies::expanded);
        for (const Device device : devices()) {
          CAPTURE(c.name);
          CAPTURE(to_string(dtype));
          CAPTURE(static_cast<int>(lies));
          CHECK(same_bits(run_lying([&](Graph& g, Value v) { return build_pad(g, v, c); }, x, lies, device),
                          padded(c, x)));
        }
      }
    }
  }
}

TEST_CASE("pad: the same bits on any number of threads, of large tensors and short rows") {
  for (const PadCase& c : {PadCase{"rows", {3, 5, 130, 257}, {0, 0, 1, 2}, {0, 0, 3, 1}, PadMode::reflect, 0},
                           PadCase{"short rows", {30000, 3}, {1, 1}, {2, 1}, PadMode::constant, 7}}) {
    const Tensor x = uniform(c.x, 3);
    const Build build = [&](Graph& g, Value v) { return build_pad(g, v, c); };
    const Tensor expected = padded(c, x);
    for (const int threads : {1, 2, 3})
      CHECK(same_bits(expected, run_lying(build, x, Lies::dense, Device::cpu(), threads)));
    if (has_gpu()) CHECK(same_bits(expected, run_lying(build, x, Lies::dense, Device::cuda(0))));
  }
}

TEST_CASE("pad: between elementwise neighbours") {
  const PadCase c{"", {2, 3, 5}, {0, 1, 2}, {1, 0, 2}, PadMode::constant, -1};
  const Tensor x = uniform(c.x, 9, -2, 2);
  const Tensor positive = filled(x.shape(), DType::float32,
                                 [&](const Shape& index) { return std::max(value_at(x, index), 0.0f); });
  const Tensor expected = padded(c, positive);
  for (const Device device : devices()) {
    const Tensor y = run_lying([&](Graph& g, Value v) { return g.add(build_pad(g, g.relu(v), c), 1.0f); }, x,
                               Lies::dense, device);
    CHECK(same_bits(y, filled(expected.shape(), DType::float32,
                              [&](const Shape& index) { return value_at(expected, index) + 1.0f; })));
  }
}

TEST_CASE("pad: crops of more than memory could hold leave what the other side has made") {
  constexpr int64_t kFar = INT64_MAX - 2;  // UBSan sees addresses that overflow
  const Tensor x = Tensor::from({1, 2}, {3, 4});
  for (const PadMode mode : {PadMode::constant, PadMode::edge}) {
    const bool is_edge = mode == PadMode::edge;
    const auto cropped = [&](int64_t before) {
      return [=](Graph& g, Value v) { return g.pad(v, {0, before}, {0, -before}, mode, 7); };
    };
    for (const Device device : devices()) {
      const float low = is_edge ? 3 : 7, high = is_edge ? 4 : 7;
      CHECK(same_bits(run_lying(cropped(kFar), x, Lies::dense, device), Tensor::from({1, 2}, {low, low})));
      CHECK(same_bits(run_lying(cropped(-kFar), x, Lies::dense, device), Tensor::from({1, 2}, {high, high})));
    }
  }
}

TEST_CASE("pad: refused where it means nothing") {
  Graph g;
  const Value x = g.input("x", {2, 5}), empty = g.input("empty", {2, 0}), scalar = g.input("scalar", {});
  CHECK_ERROR(g.pad(x, {1}, {1, 1}), invalid_argument, "pad_3", "[2, 5]", "needs 2 of each");
  CHECK_ERROR(g.pad(x, {0, 5}, {0, 0}, PadMode::reflect), invalid_argument, "reflect of 5", "axis 1",
              "less than its 5");
  CHECK_ERROR(g.pad(x, {0, 0}, {2, 0}, PadMode::reflect), invalid_argument, "2 after axis 0");
  CHECK_ERROR(g.pad(x, {0, -3}, {0, -3}), shape_mismatch, "axis 1", "no extent");
  CHECK_ERROR(g.pad(x, {INT64_MAX, 0}, {INT64_MAX, 0}), shape_mismatch, "axis 0");
  CHECK_ERROR(g.pad(empty, {0, 1}, {0, 0}, PadMode::edge), shape_mismatch, "no edge");
  CHECK_ERROR(build_pad(g, x, {"", {}, {0, 0}, {0, 0}, PadMode::edge, 0, {0, 1}}), invalid_argument, "spread",
              "constant mode");
  CHECK_ERROR(build_pad(g, x, {"", {}, {0, 0}, {0, 0}, PadMode::constant, 0, {0, -1}}), invalid_argument,
              "-1 fillers");
  CHECK(g.type(g.pad(scalar, {}, {})).shape.empty());
  const Value deep = g.input("deep", {2, 2, 2, 2, 2, 2, 2});
  CHECK_ERROR(g.pad(deep, {1, 1, 1, 1, 1, 1, 1}, {0, 0, 0, 0, 0, 0, 0}), unsupported, "pads 7 axes",
              "at most 6");
}

TEST_CASE("pad: graphs are equal where every attribute is, values by their bits") {
  const auto padded = [](std::vector<int64_t> before, std::vector<int64_t> after, PadMode mode, float value) {
    Graph g;
    g.output("y", g.pad(g.input("x", {4, 4}), std::move(before), std::move(after), mode, value));
    return g;
  };
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Graph plain = padded({1, 0}, {0, 1}, PadMode::constant, nan);
  CHECK(plain == padded({1, 0}, {0, 1}, PadMode::constant, nan));
  CHECK_FALSE(plain == padded({0, 1}, {0, 1}, PadMode::constant, nan));
  CHECK_FALSE(plain == padded({1, 0}, {1, 0}, PadMode::constant, nan));
  CHECK_FALSE(plain == padded({1, 0}, {0, 1}, PadMode::edge, nan));
  CHECK_FALSE(padded({1, 0}, {0, 1}, PadMode::constant, 0.0f) ==
              padded({1, 0}, {0, 1}, PadMode::constant, -0.0f));
  PadAttributes filled{.before = {0}, .after = {0}, .interior = {1}};
  CHECK(filled == PadAttributes{.before = {0}, .after = {0}, .interior = {1}});
  CHECK_FALSE(filled == PadAttributes{.before = {0}, .after = {0}});
}
