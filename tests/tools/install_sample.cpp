// A user's program, built by check_install.sh outside the tree with what pkg-config says and nothing else.
#include <solder/solder.h>

#include <iostream>

int main() {
  try {
    solder::Graph().output("y", {});
    return 2;
  } catch (const solder::Error&) {  // whether the library is shared or not
  }
  try {
    solder::Graph g;
    g.output("y", g.mish(g.input("x", {1})));
    const float one = 1;
    const auto y =
        solder::compile(g, {}).session().run({{"x", solder::Tensor::from({1}, {&one, 1})}}).at("y");
    std::cout << "C++" << (__cplusplus > 202002L ? 23 : 20) << ": mish(1) = " << y.floats()[0] << "\n";
  } catch (const solder::Error& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
