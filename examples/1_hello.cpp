// A small convolutional network with random weights, from graph to numbers.
#include <solder/solder.h>

#include <iostream>
#include <vector>

int main() {
  try {
    solder::Graph g;
    auto x = g.input("x", {1, 3, 32, 32});  // [N, C, H, W]
    auto w = g.parameter("conv.weight", {8, 3, 3, 3});
    auto b = g.parameter("conv.bias", {8});
    auto y = g.conv2d(x, w, b, {.padding = 1});
    g.output("y", g.mish(g.mish(y)));

    const auto filled = [](solder::Shape shape, float first, float step) {
      auto tensor = solder::Tensor::empty(std::move(shape));
      for (float& value : tensor.floats()) value = first, first = first > 1 ? first - 2 : first + step;
      return tensor;
    };
    const solder::TensorMap weights{{"conv.weight", filled({8, 3, 3, 3}, -0.9f, 0.37f)},
                                    {"conv.bias", filled({8}, 0.0f, 0.1f)}};
    std::string why_cpu;
    const auto device = solder::Device::best(&why_cpu);
    if (!why_cpu.empty()) std::cout << why_cpu << "\n";

    const auto model = solder::compile(g, weights, {.device = device});
    std::cout << model.describe();
    const solder::Tensor result = model.session().run({{"x", filled({1, 3, 32, 32}, 0.0f, 0.011f)}}).at("y");
    std::cout << "y " << solder::to_string(result.shape()) << " on " << solder::to_string(device)
              << ", first values:";
    for (int i = 0; i < 4; ++i) std::cout << " " << result.floats()[static_cast<size_t>(i)];
    std::cout << "\n";
  } catch (const solder::Error& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
