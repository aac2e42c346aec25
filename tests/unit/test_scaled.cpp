// Math::tf32 keeps what lies between convolutions scaled (ops/scaled.h): which values, and that results are as exact as
// float32 between them would make them, whatever the magnitude of an image.

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "graph/nodes/node_def.h"
#include "graph/passes/passes.h"
#include "tests/support/planning.h"
#include "tests/support/support.h"

using namespace solder;
using namespace solder::test;

namespace {

// A made-up network of what such values pass through: a stem, pools, residuals before and after activations, a concat of
// two branches, slices, a mean.
struct Network {
  Graph graph;
  TensorMap weights;

  Value conv(Value x, int64_t out, int64_t kernel, int stride, float leak = -1) {
    const int64_t in = graph.type(x).shape[1];
    const std::string name = "c" + std::to_string(weights.size());
    const float bound = std::sqrt(3.0f / static_cast<float>(in * kernel * kernel));
    weights[name + ".w"] = uniform({out, in, kernel, kernel}, weights.size() + 1, -bound, bound);
    weights[name + ".b"] = uniform({out}, weights.size() + 1, -1e-3f, 1e-3f);
    const Value w = graph.parameter(name + ".w", {out, in, kernel, kernel}),
                b = graph.parameter(name + ".b", {out});
    const Value y =
        graph.conv2d(x, w, b, {.stride = stride, .padding = static_cast<int>(kernel / 2), .name = name});
    return leak < 0 ? y : graph.leaky_relu(y, leak);
  }
};

Network make_network(int64_t batch, bool has_biases = true) {
  Network net;
  Graph& g = net.graph;
  Value x = g.relu(net.conv(g.input("x", {batch, 3, 37, 41}), 32, 7, 2));
  x = g.max_pool2d(x, {.kernel = 3, .stride = 2, .padding = 1});
  const Value wide = g.mish(net.conv(x, 128, 1, 1));
  const Value left = g.slice(wide, 1, 0, 64), right = g.slice(wide, 1, 64, 128);
  Value y = g.silu(net.conv(right, 64, 3, 1));
  y = g.relu(g.add(net.conv(y, 64, 3, 1), right));
  y = g.add(g.mish(net.conv(y, 64, 1, 1)), y);
  Value z = g.mish(g.mish(net.conv(g.concat({left, y}, 1), 96, 1, 1)));
  z = net.conv(z, 256, 3, 2, 1.5f);
  z = g.avg_pool2d(z, {.kernel = 2, .stride = 1});
  const Value last = net.conv(z, 40, 3, 1);
  g.output("planes", last);
  g.output("mean", g.mean(g.relu(net.conv(z, 512, 1, 1)), {2, 3}));
  if (!has_biases)
    for (auto& [name, tensor] : net.weights)
      if (name.ends_with(".b")) std::ranges::fill(tensor.floats(), 0.0f);
  return net;
}

// Images of other magnitudes.
Tensor images_of(std::span<const float> magnitudes) {
  Tensor x = uniform({static_cast<int64_t>(magnitudes.size()), 3, 37, 41}, 99);
  const size_t elems = x.floats().size() / magnitudes.size();
  for (size_t i = 0; i < x.floats().size(); ++i) x.floats()[i] *= magnitudes[i / elems];
  return x;
}

std::span<const float> image(const Tensor& tensor, size_t index) {
  const size_t elems = tensor.floats().size() / static_cast<size_t>(tensor.shape()[0]);
  return tensor.floats().subspan(index * elems, elems);
}

double relative_error(std::span<const float> got, std::span<const float> want) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    error += (double{got[i]} - want[i]) * (double{got[i]} - want[i]);
    norm += double{want[i]} * want[i];
  }
  return norm == 0 ? std::sqrt(error) : std::sqrt(error / norm);
}

std::set<std::string> scaled_nodes(const Graph& graph) {
  std::set<std::string> names;
  for (const Node& node : graph.nodes())
    if (!node.scaled.empty()) names.insert(node.name);
  return names;
}

// Whether this build has a kernel for such values, and the device runs it.
bool scales_on(Device device) { return has_family("nhwc") && device_info(device).cc_major == 9; }

TEST_CASE("scaled: exponents put a bound where float16 holds it, of any finite float") {
  for (const float bound : {1.0f, 0.7f, 65504.0f, 3e38f, 1e-30f, 1.2e-38f, INFINITY}) {
    const int exponent = range_exponent(bits_of(bound), kTopExponent);
    CAPTURE(bound);
    CHECK(std::abs(exponent) <= kMaxRangeExponent);
    CHECK(std::min(bound, 3.4e38f) * double{power_of_two(exponent)} < 32768);
    CHECK((bound < 1e-30f || std::min(bound, 3.4e38f) * double{power_of_two(exponent)} >= 8192));
  }
  CHECK(range_exponent(0, kTopExponent) == kMaxRangeExponent);
}

// The network on a GPU, and on the CPU in float32; by image.
void check_images(std::span<const float> magnitudes, bool has_biases) {
  const Network net = make_network(static_cast<int64_t>(magnitudes.size()), has_biases);
  const Tensor x = images_of(magnitudes);
  const Model model = compile(net.graph, net.weights, {.device = Device::cuda(0), .math = Math::tf32});
  const TensorMap got = model.session().run({{"x", x}});
  const TensorMap want = compile(net.graph, net.weights, {.device = Device::cpu()}).session().run({{"x", x}});
  for (const auto& [name, tensor] : got)
    for (size_t i = 0; i < magnitudes.size(); ++i) {
      const double error = relative_error(image(tensor, i), image(want.at(name), i));
      INFO(name, " of the image of magnitude ", magnitudes[i], " is off by ", error);
      CHECK(error <= 2e-3);
    }
}

GPU_TEST_CASE("scaled: images of every magnitude are as exact as others") {
  constexpr float kMagnitudes[] = {1, 1e-5f, 1e6f, 0, 1e-30f, 1e30f, 1e-36f, 300};
  check_images(kMagnitudes, true);
  check_images(kMagnitudes, false);
}

GPU_TEST_CASE("scaled: the values between convolutions are, and nothing copies them") {
  const Network net = make_network(2);
  const Model model = compile(net.graph, net.weights, {.device = Device::cuda(0), .math = Math::tf32});
  const std::set<std::string> names = scaled_nodes(model.graph());
  CHECK(names.empty() != scales_on(Device::cuda(0)));
  if (names.empty()) return;
  CHECK(names.size() >= 12);  // seven convolutions, two pools, two slices, a concat
  for (size_t i = 0; i < model.nodes().size(); ++i) {
    const Node& node = model.graph().nodes()[i];
    INFO(node.name, ": ", model.nodes()[i].path);
    CHECK(node.kind != NodeKind::elementwise);
    if (node.kind == NodeKind::conv2d) CHECK(model.nodes()[i].path.find("nhwc, scaled") == 0);
    if (node.kind == NodeKind::concat) CHECK(model.nodes()[i].path == "in place");
  }
}

GPU_TEST_CASE("scaled: an image's bits depend on nothing beside it, and repeat") {
  constexpr float kMagnitudes[] = {1, 1e4f, 1e-4f, 7};
  const Network net = make_network(4);
  const Model model = compile(net.graph, net.weights, {.device = Device::cuda(0), .math = Math::tf32});
  const Tensor x = images_of(kMagnitudes);
  Session session = model.session();
  const TensorMap first = session.run({{"x", x}});
  for (int run = 0; run < (is_sanitized() ? 2 : 100); ++run) {
    const TensorMap again = session.run({{"x", x}});
    for (const auto& [name, tensor] : first) CHECK(same_bits(again.at(name), tensor));
  }
  // Other images, NaN and infinity among them, change nothing.
  Tensor other = Tensor::from(x.shape(), x.floats());
  const size_t elems = other.floats().size() / 4;
  for (size_t i = 0; i < elems; ++i) other.floats()[i] *= -3e5f;
  other.floats()[2 * elems + 77] = NAN;
  other.floats()[3 * elems + 500] = INFINITY;
  const TensorMap changed = session.run({{"x", other}});
  for (const auto& [name, tensor] : first) {
    const std::span<const float> a = image(tensor, 1), b = image(changed.at(name), 1);
    CHECK(std::ranges::equal(a, b));
    const auto is_lost = [](float value) { return !std::isfinite(value); };
    CHECK(std::ranges::any_of(image(changed.at(name), 2), is_lost));
    CHECK(std::ranges::none_of(b, is_lost));
  }
}

GPU_TEST_CASE("scaled: what infinity and NaN do not reach is right") {
  Graph g;
  const Shape shape{1, 3, 24, 24};
  const Value x = g.input("x", shape), w1 = g.parameter("w1", {16, 3, 3, 3}),
              w2 = g.parameter("w2", {8, 16, 3, 3});
  g.output("y", g.conv2d(g.relu(g.conv2d(x, w1, {.padding = 1})), w2, {.padding = 1}));
  const TensorMap weights{{"w1", uniform({16, 3, 3, 3}, 1)}, {"w2", uniform({8, 16, 3, 3}, 2)}};
  for (const float special : {NAN, INFINITY, -INFINITY, 1e30f}) {
    Tensor in = uniform(shape, 3);
    in.floats()[5 * 24 + 6] = special;
    const Tensor got = run(g, weights, {{"x", in}}, {.device = Device::cuda(0), .math = Math::tf32});
    const Tensor want = run(g, weights, {{"x", in}}, {.device = Device::cpu()});
    double worst = 0;
    CAPTURE(special);
    for (size_t i = 0; i < got.floats().size(); ++i) {
      const float a = got.floats()[i], b = want.floats()[i];
      CHECK(std::isfinite(a) == std::isfinite(b));
      if (std::isfinite(b) && special != 1e30f) worst = std::max(worst, std::abs(double{a} - b));
    }
    CHECK(worst < 0.05);  // of values up to 20
  }
}

GPU_TEST_CASE("scaled: planes of float32 are packed for a convolution that is no stem") {
  for (const int64_t channels : {24, 64, 65}) {
    Graph g;
    const Shape shape{3, channels, 17, 15};
    const Value x = g.input("x", shape), w1 = g.parameter("w1", {48, channels, 3, 3}),
                w2 = g.parameter("w2", {40, 48, 1, 1});
    g.output("y", g.conv2d(g.relu(g.conv2d(x, w1, {.padding = 1})), w2));
    const TensorMap weights{{"w1", uniform(g.type(w1).shape, 1)}, {"w2", uniform(g.type(w2).shape, 2)}};
    Tensor in = uniform(shape, 3);
    const size_t elems = in.floats().size() / 3;
    for (size_t i = 0; i < in.floats().size(); ++i)
      in.floats()[i] *= i < elems ? 1e-7f : i < 2 * elems ? 1 : 1e9f;
    const Model model = compile(g, weights, {.device = Device::cuda(0), .math = Math::tf32, .conv = "nhwc"});
    CHECK(scaled_nodes(model.graph()).size() == (scales_on(Device::cuda(0)) ? 1 : 0));
    const Tensor got = model.session().run({{"x", in}}).at("y");
    const Tensor want = run(g, weights, {{"x", in}}, {.device = Device::cpu()});
    for (size_t i = 0; i < 3; ++i) CHECK(relative_error(image(got, i), image(want, i)) <= 1e-3);
  }
}

// A bound of a bound is measured; a residual counts as what else is read.
TEST_CASE("scaled: of two convolutions one after the other one is measured") {
  Network net;
  Graph& g = net.graph;
  const Value a = g.relu(net.conv(g.input("x", {2, 3, 32, 32}), 64, 3, 1)), b = g.relu(net.conv(a, 64, 3, 1)),
              c = g.relu(net.conv(b, 64, 3, 1)), d = g.relu(g.add(net.conv(b, 64, 3, 1), c));
  const Value both = g.concat({b, d}, 1);
  g.output("y", g.mean(net.conv(g.relu(net.conv(both, 64, 3, 1)), 64, 1, 1), {2, 3}));
  const Graph scaled = scale_values(fuse(g), planning_of_ones(gpu_of(9)));
  std::string measured;  // by convolution, in their order
  for (const Node& node : scaled.nodes())
    if (node.kind == NodeKind::conv2d && !node.scaled.empty())
      measured += node.scaled[0].is_measured ? "m" : "b";
  CHECK(measured == (has_family("nhwc") ? "bmbmbm" : ""));
}

// A graph with one reader that cannot take scaled values keeps float32 there.
TEST_CASE("scaled: what others read stays float32") {
  Network net;
  Graph& g = net.graph;
  Value a = g.relu(net.conv(g.input("x", {2, 3, 32, 32}), 16, 3, 1));
  const Value b = g.relu(net.conv(a, 16, 3, 1)), c = g.relu(net.conv(b, 16, 3, 1)),
              d = g.relu(net.conv(c, 16, 3, 1));
  g.output("y", g.mul(g.sigmoid(b), net.conv(d, 16, 3, 1)));
  NodePlanning planning = planning_of_ones(gpu_of(9));
  const Graph scaled = scale_values(fuse(g), planning);
  const std::set<std::string> names = scaled_nodes(scaled);
  CAPTURE(names.size());
  CHECK(names.contains("c0") ==
        has_family("nhwc"));  // a; b is read by sigmoid, d by a convolution with a gate behind it
  CHECK(!names.contains("c2"));
  CHECK(!names.contains("c6"));
  // Two images, of a result and of the float32 x that each of these reads.
  CHECK(num_scaled_images(scaled) == 2 * 2 * static_cast<int64_t>(names.size()));
  // Nor does what is no product's.
  Network means;
  const Value y = means.conv(means.graph.input("x", {2, 3, 32, 32}), 16, 3, 1);
  means.graph.output("y", means.graph.mean(y, {2, 3}));
  CHECK(scaled_nodes(scale_values(fuse(means.graph), planning)).empty());
  // Nor what is made of 16-bit values that a graph declares.
  Graph mixed;
  const Value half = mixed.conv2d(mixed.input("x", {2, 8, 32, 32}, DType::float16),
                                  mixed.parameter("w", {16, 8, 3, 3}, DType::float16));
  mixed.output("y", mixed.conv2d(mixed.cast(half, DType::float32), mixed.parameter("v", {16, 16, 3, 3})));
  CHECK(scaled_nodes(scale_values(fuse(mixed), planning)).empty());
  planning.conv = "window";
  CHECK(scaled_nodes(scale_values(fuse(g), planning)).empty());
}

}  // namespace
