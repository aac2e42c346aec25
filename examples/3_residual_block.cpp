// A residual block: y = mish(conv(mish(conv(x))) + x). What fusion makes of it, and what it saves.
#include <solder/solder.h>

#include <cstring>
#include <iostream>

namespace {

solder::Value conv3x3(solder::Graph& g, const std::string& name, solder::Value x, int64_t channels) {
  auto w = g.parameter(name + ".weight", {channels, channels, 3, 3});
  auto b = g.parameter(name + ".bias", {channels});
  return g.conv2d(x, w, b, {.padding = 1, .name = name});
}

// Numbers in [-range, range), always the same.
solder::Tensor random(solder::Shape shape, float range) {
  auto tensor = solder::Tensor::empty(std::move(shape));
  uint32_t state = 1;
  for (float& value : tensor.floats()) {
    state = state * 1664525u + 1013904223u;
    value = range * (static_cast<float>(state >> 8) * 0x1p-23f - 1.0f);
  }
  return tensor;
}

}  // namespace

int main() {
  try {
    constexpr int64_t kChannels = 32;
    solder::Graph g;
    auto x = g.input("x", {2, kChannels, 28, 28});
    auto hidden = g.mish(conv3x3(g, "conv1", x, kChannels));
    g.output("y", g.mish(g.add(conv3x3(g, "conv2", hidden, kChannels), x)));

    solder::TensorMap weights;
    for (const solder::Node& node : g.nodes())
      if (node.kind == solder::NodeKind::parameter)
        weights[node.name] = random(node.outputs[0].shape, 1.0f / 17);  // 1 / sqrt(32 * 3 * 3)

    const auto fused = solder::compile(g, weights);
    const auto plain = solder::compile(g, weights, {.fuse = false});
    // Biases, mish and the addition run where the convolutions have their results in registers.
    std::cout << "as written:\n" << dump(g) << "as run:\n" << dump(fused.graph());
    std::cout << "values in memory: " << plain.memory().values_bytes << " B as written, "
              << fused.memory().values_bytes << " B fused\n";

    const solder::Tensor input = random({2, kChannels, 28, 28}, 1);
    const solder::Tensor a = fused.session().run({{"x", input}}).at("y");
    const solder::Tensor b = plain.session().run({{"x", input}}).at("y");
    const bool same = std::memcmp(a.data(), b.data(), static_cast<size_t>(a.num_bytes())) == 0;
    std::cout << "fused and unfused results " << (same ? "agree bit for bit" : "DIFFER") << "\n";
    return same ? 0 : 1;
  } catch (const solder::Error& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
