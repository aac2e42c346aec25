// What follows a convolution whose result others read too: one kernel stores both, where there is such a kernel.

#include <algorithm>
#include <cmath>

#include "tests/support/planning.h"
#include "tests/support/support.h"

using namespace solder;
using namespace solder::test;

namespace {

// Blocks of a residual network that normalises first: what a block adds to is read as it is and activated.
struct Blocks {
  Graph graph;
  TensorMap weights;

  Value conv(Value x, int64_t out, int64_t kernel) {
    const int64_t in = graph.type(x).shape[1];
    const std::string name = "c" + std::to_string(weights.size());
    const float bound = std::sqrt(3.0f / static_cast<float>(in * kernel * kernel));
    weights[name] = uniform({out, in, kernel, kernel}, weights.size() + 1, -bound, bound);
    return graph.conv2d(x, graph.parameter(name, {out, in, kernel, kernel}),
                        {.padding = static_cast<int>(kernel / 2), .name = name});
  }
  // activation(x * scale + shift) by channel.
  Value norm_act(Value x, Op activation) {
    const int64_t channels = graph.type(x).shape[1];
    const auto parameter = [&](const char* kind, float low, float high) {
      const std::string name = kind + std::to_string(weights.size());
      weights[name] = uniform({channels}, weights.size() + 1, low, high);
      return graph.per_channel(graph.parameter(name, {channels}));
    };
    return graph.unary(activation,
                       graph.add(graph.mul(x, parameter("scale", 0.5f, 1.5f)), parameter("shift", -1, 1)));
  }
};

Blocks make_blocks(Op activation, int64_t channels, int64_t size, bool gives_out = false) {
  Blocks net;
  Value x = net.conv(net.graph.input("x", {2, 16, size, size}), channels, 3);
  for (int block = 0; block < 3; ++block) {
    const Value inner = net.norm_act(net.conv(net.norm_act(x, activation), 64, 1), activation);
    x = net.graph.add(net.conv(inner, channels, 3), x);
  }
  if (gives_out) net.graph.output("x", x);
  net.graph.output("y", net.conv(net.norm_act(x, activation), 8, 1));
  return net;
}

// The passes that see such graphs, up to the one that is tested and with it.
Graph passed(const Graph& graph, Math math, const DeviceInfo& device, const std::string& conv = "") {
  NodePlanning planning = planning_of_ones(device);
  planning.conv = conv;
  return fuse_sums(choose_layouts(round_values(fuse(graph, math), math)), planning);
}

size_t num_elementwise(const Graph& graph) {
  return static_cast<size_t>(
      std::ranges::count(graph.nodes(), NodeKind::elementwise, [](const Node& node) { return node.kind; }));
}

// Convolutions with two results.
size_t num_pairs(const Graph& graph) {
  return static_cast<size_t>(std::ranges::count_if(graph.nodes(), [](const Node& node) {
    return node.kind == NodeKind::conv2d && node.outputs.size() == 2;
  }));
}

}  // namespace

TEST_CASE("fuse_sums: sums that others read are stored beside what follows, where a kernel does both") {
  const size_t of_pairs = has_family("nhwc") ? 3 : 0;  // the first x and two blocks'; only one reads the last
  for (const Math math : {Math::fp16, Math::bf16})
    for (const Op activation : {Op::mish, Op::relu, Op::silu}) {
      const Graph graph = make_blocks(activation, 128, 19).graph;
      const Graph result = passed(graph, math, gpu_of(9));
      verify(result);
      CHECK(num_pairs(result) == of_pairs);
      CHECK(num_elementwise(result) == 4 - of_pairs);  // the image is rounded, too
      // The sum is stored in 16 bits, and rounded for what reads it there.
      for (const Node& node : result.nodes()) {
        if (node.outputs.size() < 2) continue;
        CHECK(node.outputs[0] == node.outputs[1]);
        CHECK(node.outputs[1].dtype != DType::float32);
        CHECK(node.layout == Layout::padded_channels_last);
      }
    }
}

TEST_CASE("fuse_sums: elsewhere sums and what follows stay apart") {
  const Graph graph = make_blocks(Op::mish, 128, 19).graph;
  const auto pairs = [](const Graph& of, Math math, const DeviceInfo& device, const char* conv = "") {
    return num_pairs(passed(of, math, device, conv));
  };
  CHECK(pairs(graph, Math::fp16, gpu_of(8)) == 0);            // no kernel has a scale there
  CHECK(pairs(graph, Math::fp32, gpu_of(9)) == 0);            // nor in float32
  CHECK(pairs(graph, Math::fp16, gpu_of(9), "im2col") == 0);  // nor that family
  // A function that no kernel has.
  CHECK(pairs(make_blocks(Op::erf, 128, 19).graph, Math::fp16, gpu_of(9)) == 0);
  // What is given out in float32 is a copy of what is stored.
  CHECK(pairs(make_blocks(Op::mish, 128, 19, true).graph, Math::fp16, gpu_of(9)) ==
        (has_family("nhwc") ? 4 : 0));
}

GPU_TEST_CASE("fuse_sums: blocks that normalise first give what the CPU gives, and hardly a pass is left") {
  const Device gpu = Device::cuda(0);
  const bool has_kernel = has_family("nhwc") && device_info(gpu).cc_major == 9;
  for (const Op activation : {Op::mish, Op::relu, Op::silu})
    for (const auto& [channels, size] : {std::pair{128, 19}, {200, 7}, {64, 32}})
      for (const Math math : {Math::fp16, Math::bf16}) {
        const Blocks net = make_blocks(activation, channels, size, true);
        const TensorMap inputs{{"x", uniform({2, 16, size, size}, 5)}};
        const Model model = compile(net.graph, net.weights, {.device = gpu, .math = math});
        CHECK(num_pairs(model.graph()) == (has_kernel ? 4 : 0));
        Session session = model.session();
        const TensorMap got = session.run(inputs);
        const TensorMap want =
            compile(net.graph, net.weights, {.device = Device::cpu(), .math = math}).session().run(inputs);
        for (const auto& [name, tensor] : want) {
          INFO(name, " ", std::string(to_string(math)), " ", std::string(to_string(activation)));
          double error = 0, sum_squares = 0;
          for (size_t i = 0; i < tensor.floats().size(); ++i) {
            const double difference = double{got.at(name).floats()[i]} - tensor.floats()[i];
            error += difference * difference, sum_squares += double{tensor.floats()[i]} * tensor.floats()[i];
          }
          CHECK(std::sqrt(error / sum_squares) < (math == Math::fp16 ? 1e-3 : 8e-3));
          CHECK(same_bits(session.run(inputs).at(name), got.at(name)));
        }
      }
}
