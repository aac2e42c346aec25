#include <solder/solder.h>

#include <iostream>

int main() try {
  solder::Graph g;
  auto x = g.input("x", {1, 1, 3, 3});           // N, C, H, W
  auto w = g.parameter("weight", {1, 1, 2, 2});  // K, C, R, S
  g.output("y", g.mish(g.conv2d(x, w)));

  auto weight = solder::Tensor::from({1, 1, 2, 2}, {0.5, -0.5, 0.25, -0.125});
  auto image = solder::Tensor::from({1, 1, 3, 3}, {1, 2, 3, 4, 5, 6, 7, 8, 9});
  auto model = solder::compile(g, {{"weight", weight}});
  auto y = model.session().run({{"x", image}}).at("y");
  for (float value : y.floats()) std::cout << value << "\n";
} catch (const solder::Error& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
