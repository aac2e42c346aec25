// An activation of your own: write it as elementwise calls, and the chain becomes one pass over memory.
// Here: a smooth gate between x and a leaky line, y = s * mish(x) + (1 - s) * 0.1 x with s = sigmoid(4 x).
#include <solder/solder.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <vector>

int main() {
  try {
    solder::Graph g;
    auto x = g.input("x", {7});
    auto s = g.sigmoid(g.mul(x, 4.0f));
    auto smooth = g.mul(s, g.mish(x));
    auto line = g.mul(g.sub(1.0f, s), g.mul(x, 0.1f));
    g.output("y", g.name(g.add(smooth, line), "gated_mish"));

    const auto model = solder::compile(g, {});
    std::cout << "as written: " << g.nodes().size() - 1 << " elementwise calls\n";
    for (size_t i = 0; i < model.graph().nodes().size(); ++i) {
      const solder::Node& node = model.graph().nodes()[i];
      if (node.kind == solder::NodeKind::input) continue;
      // What was fused, and how it runs.
      std::cout << node.name << ": " << solder::to_string(node.epilogue.region) << "\n"
                << "  " << model.nodes()[i].path << "\n";
    }

    const std::vector<float> values{-20, -2, -0.5f, 0, 0.5f, 2, 20};
    const solder::Tensor y = model.session().run({{"x", solder::Tensor::from({7}, values)}}).at("y");
    double worst = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      const double v = values[i], gate = 1 / (1 + std::exp(-4 * v));
      const double expected = gate * v * std::tanh(std::log1p(std::exp(v))) + (1 - gate) * 0.1 * v;
      worst = std::max(worst, std::abs(y.floats()[i] - expected));
      std::cout << "  f(" << v << ") = " << y.floats()[i] << "\n";
    }
    std::cout << "worst difference from float64: " << worst << "\n";
  } catch (const solder::Error& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
