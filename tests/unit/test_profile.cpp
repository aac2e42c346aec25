#include "tests/support/support.h"

using namespace solder;
using namespace solder::test;

namespace {

// conv 3x3 -> mish -> linear -> tanh, whose work is counted by hand below.
Graph small_net() {
  Graph g;
  const Value x = g.input("x", {2, 3, 12, 10});
  const Value w = g.parameter("w", {8, 3, 3, 3}), b = g.parameter("b", {8}), w2 = g.parameter("w2", {5, 10});
  g.output("y", g.tanh(g.linear(g.mish(g.conv2d(x, w, b, {.padding = 1, .name = "conv"})), w2)));
  return g;
}

TensorMap small_weights() {
  return {{"w", uniform({8, 3, 3, 3}, 1)}, {"b", uniform({8}, 2)}, {"w2", uniform({5, 10}, 3)}};
}

}  // namespace

TEST_CASE("profile: every node that runs, its work and its times") {
  for (const Device device : devices()) {
    for (const bool capture : {true, false}) {
      INFO(to_string(device), capture ? ", captured" : ", launch by launch");
      const Model model = compile(small_net(), small_weights(), {.device = device, .capture = capture});
      Session session = model.session();
      const Tensor x = uniform({2, 3, 12, 10}, 4);
      const Tensor expected = session.run({{"x", x}}).at("y");
      const Profile profile = session.profile(5);

      REQUIRE(profile.nodes.size() == 2);
      CHECK(profile.nodes[0].name == "conv");
      CHECK(profile.nodes[0].kind == NodeKind::conv2d);
      CHECK(!profile.nodes[0].path.empty());
      constexpr int64_t kElems = 2 * 8 * 12 * 10;
      CHECK(profile.nodes[0].flops == 2 * kElems * 3 * 3 * 3);
      CHECK(profile.nodes[0].bytes == 4 * (2 * 3 * 12 * 10 + 8 * 3 * 3 * 3 + 8 + kElems));
      CHECK(profile.nodes[1].kind == NodeKind::matmul);
      CHECK(profile.nodes[1].flops == 2 * kElems * 5);
      CHECK(profile.nodes[1].bytes == 4 * (kElems + 5 * 10 + kElems / 2));

      double before = 0;
      for (size_t run = 0; run < 5; ++run) {
        for (const NodeProfile& node : profile.nodes) {
          REQUIRE(node.spans.size() == 5);
          CHECK(node.spans[run].start_ms >= before);
          CHECK(node.spans[run].end_ms > node.spans[run].start_ms);
          before = node.spans[run].end_ms;
        }
      }
      CHECK((profile.copy_bytes_per_s > 0) == device.is_cuda());
      CHECK(same_bits(session.output("y").to(Device::cpu()), expected));  // its runs are real ones
      CHECK(same_bits(session.run({{"x", x}}).at("y"), expected));
      CHECK_ERROR(session.profile(0), invalid_argument, "0 iterations");
    }
  }
}

TEST_CASE("profile: a tensor read twice counts once, and a graph that runs nothing has no nodes") {
  Graph g;
  const Value x = g.input("x", {4, 4}), row = g.input("row", {4});
  g.output("y", g.mul(g.add(x, row), x));
  Session session = compile(g, {}, {.device = Device::cpu()}).session();
  session.run({{"x", uniform({4, 4}, 1)}, {"row", uniform({4}, 2)}});
  const Profile profile = session.profile(1);
  REQUIRE(profile.nodes.size() == 1);
  CHECK(profile.nodes[0].bytes == 4 * (16 + 4 + 16));

  Graph square;  // one tensor as both operands, which no pass merges
  const Value a = square.input("a", {4, 4});
  square.output("y", square.matmul(a, a));
  const Profile product = compile(square, {}, {.device = Device::cpu()}).session().profile(1);
  REQUIRE(product.nodes.size() == 1);
  CHECK(product.nodes[0].bytes == 4 * (16 + 16));

  Graph empty;
  empty.output("y", empty.input("x", {4}));
  const Profile nothing = compile(empty, {}, {.device = Device::cpu()}).session().profile(2);
  CHECK(nothing.nodes.empty());
  CHECK(nothing.total_ms() == 0);
}

TEST_CASE("profile: medians and bounds") {
  const NodeProfile node{.bytes = 3000000, .flops = 8000000, .spans = {{0, 5}, {10, 11}, {20, 22}}};
  CHECK(node.median_ms() == 2);
  CHECK(NodeProfile{}.median_ms() == 0);
  const NodeProfile next{.spans = {{5, 6}, {11, 14}, {22, 22.5}}};
  Profile profile{.nodes = {node, next}};
  CHECK(profile.total_ms() == 4);
  CHECK(profile.bound_ms(node) == 0);
  profile.copy_bytes_per_s = 1e9;
  CHECK(profile.bound_ms(node) == doctest::Approx(3));
  profile.peak_flops_per_s = 2e9;
  CHECK(profile.bound_ms(node) == doctest::Approx(4));
  profile.peak_flops_per_s = 1e12;
  CHECK(profile.bound_ms(node) == doctest::Approx(3));

  // The white papers' dense fp16 rates: 989.4 TFLOP/s at 1.83 GHz, 312 TFLOP/s at 1.41 GHz.
  const DeviceInfo h100{.cc_major = 9, .num_sms = 132};
  const DeviceInfo a100{.cc_major = 8, .num_sms = 108};
  CHECK(peak_flops_per_s(h100, 1.83e9, Math::tf32) == doctest::Approx(989.4e12).epsilon(0.001));
  CHECK(peak_flops_per_s(h100, 1.83e9, Math::fp32) == doctest::Approx(989.4e12 / 3).epsilon(0.001));
  CHECK(peak_flops_per_s(a100, 1.41e9, Math::tf32) == doctest::Approx(312e12).epsilon(0.001));
  CHECK(peak_flops_per_s({.cc_major = 8, .cc_minor = 6, .num_sms = 84}, 1e9, Math::tf32) == 0);
}
