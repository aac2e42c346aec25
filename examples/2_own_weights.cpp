// Weights and data from PyTorch, compared with PyTorch's own result. There
//   model = torch.nn.Sequential(Conv2d(...), Mish(), Mish())
//   safetensors.torch.save_file(model.state_dict(), "headline_small.safetensors")
//   numpy.save("headline_small_x.npy", x.numpy()); numpy.save("headline_small_y.npy", model(x).numpy())
// writes the three files. Run it in the repository's root, whose files have y from float64, or give it the folder
// of yours and, if you like, a file for y.
#include <solder/solder.h>

#include <cmath>
#include <iostream>

int main(int argc, char** argv) {
  try {
    const std::string folder = argc > 1 ? argv[1] : "tests/data";
    const solder::TensorMap weights = solder::load_safetensors(folder + "/headline_small.safetensors");
    const solder::Tensor x = solder::load_npy(folder + "/headline_small_x.npy");
    const solder::Tensor expected = solder::load_npy(folder + "/headline_small_y.npy");
    for (const auto& [name, tensor] : weights)
      std::cout << name << " " << solder::to_string(tensor.shape()) << "\n";

    // Parameters are found by name, so the names are those of the file: a Sequential numbers its layers, and a
    // module's attribute gives its name, which is conv in the repository's file. Shapes are the graph's own and
    // are checked against the file's; here they are taken from it.
    const std::string conv = weights.contains("0.weight") ? "0" : "conv";
    solder::Graph g;
    auto w = g.parameter(conv + ".weight", weights.at(conv + ".weight").shape());
    auto b = g.parameter(conv + ".bias", weights.at(conv + ".bias").shape());
    g.output("y", g.mish(g.mish(g.conv2d(g.input("x", x.shape()), w, b))));
    const auto model = solder::compile(g, weights);
    const solder::Tensor y = model.session().run({{"x", x}}).at("y");
    if (y.shape() != expected.shape()) {
      std::cerr << "y is " << solder::to_string(y.shape()) << " and PyTorch's "
                << solder::to_string(expected.shape()) << "\n";
      return 1;
    }

    double error = 0, norm = 0;
    for (size_t i = 0; i < y.floats().size(); ++i) {
      const double difference = y.floats()[i] - double{expected.floats()[i]};
      error += difference * difference;
      norm += double{expected.floats()[i]} * expected.floats()[i];
    }
    std::cout << "y " << solder::to_string(y.shape()) << " on " << solder::to_string(model.device())
              << ", relative difference from PyTorch: " << std::sqrt(error / norm) << "\n";
    if (argc > 2) solder::save_npy(argv[2], y);  // numpy.load reads it
  } catch (const solder::Error& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
