// Where the time goes: Session::profile() times every node of a small network. (build/solder-run --profile
// does the same for any graph, with a timeline and pictures.)
#include <solder/solder.h>

#include <cstdio>

int main() {
  try {
    solder::Graph g;
    solder::TensorMap weights;
    const auto parameter = [&](const std::string& name, const solder::Shape& shape) {
      auto tensor = solder::Tensor::empty(shape);
      float value = -0.1f;
      for (float& element : tensor.floats()) element = value, value = value > 0.1f ? -0.1f : value + 0.007f;
      weights[name] = tensor;
      return g.parameter(name, shape);
    };
    auto x = g.input("x", {4, 16, 32, 32});
    auto y = g.mish(g.conv2d(x, parameter("conv1.weight", {32, 16, 3, 3}), parameter("conv1.bias", {32}),
                             {.padding = 1, .name = "conv1"}));
    y = g.mish(g.conv2d(y, parameter("conv2.weight", {64, 32, 3, 3}), parameter("conv2.bias", {64}),
                        {.stride = 2, .padding = 1, .name = "conv2"}));
    y = g.linear(y, parameter("fc.weight", {10, 16}), parameter("fc.bias", {10}));
    g.output("y", y);

    auto session = solder::compile(g, weights).session();
    auto input = solder::Tensor::empty({4, 16, 32, 32});
    for (float& value : input.floats()) value = 0.5f;
    session.run({{"x", input}});

    const solder::Profile profile = session.profile(10);
    double sum_ms = 0;
    for (const solder::NodeProfile& node : profile.nodes) sum_ms += node.median_ms();
    std::printf("%-10s %-12s %10s %7s %8s %9s\n", "node", "kind", "time us", "share", "GB/s", "GFLOP/s");
    for (const solder::NodeProfile& node : profile.nodes) {
      const double ms = node.median_ms();
      std::printf("%-10s %-12s %10.1f %6.1f%% %8.2f %9.1f\n", node.name.c_str(), to_string(node.kind),
                  1e3 * ms, 100 * ms / sum_ms, static_cast<double>(node.bytes) / ms * 1e-6,
                  static_cast<double>(node.flops) / ms * 1e-6);
    }
    std::printf("all nodes: %.1f us of a run's %.1f us\n", 1e3 * sum_ms, 1e3 * profile.total_ms());
    if (profile.copy_bytes_per_s > 0)
      std::printf("a device copy moves %.0f GB/s: no node can pass that\n", 1e-9 * profile.copy_bytes_per_s);
  } catch (const solder::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
