// Classifies images with CSPDarknet53-Mish and weights from timm:
//   model = timm.create_model("cspdarknet53", act_layer=torch.nn.Mish)
//   safetensors.torch.save_file(model.state_dict(), "weights.safetensors")
//   numpy.save("images.npy", images)  # float32 [N,3,H,W], normalised as the weights were trained
#include <solder/solder.h>

#include "networks/classes.h"
#include "networks/command_line.h"
#include "networks/layers.h"
#include "networks/networks.h"

namespace networks {

solder::Graph cspdarknet53_mish(const solder::Shape& images, solder::DType dtype) {
  solder::Graph g;
  const auto layer = [&g](solder::Value x, const std::string& name, int64_t channels, int64_t kernel,
                          int64_t stride = 1) {
    return g.name(g.mish(conv_bn(g, x, name + ".conv", name + ".bn", channels, kernel, stride)), name);
  };
  auto x = layer(g.input("x", images, dtype), "stem.conv1", 32, 3);

  const int num_blocks[] = {1, 2, 8, 8, 4};
  for (int s = 0; s < 5; ++s) {
    const std::string stage = "stages." + std::to_string(s);
    const int64_t channels = 64 << s, half = s == 0 ? 64 : channels / 2, middle = s == 0 ? 32 : half;
    x = layer(x, stage + ".conv_down", channels, 3, 2);
    x = layer(x, stage + ".conv_exp", 2 * half, 1);
    // Half of the channels go around the blocks: a view, and no copy.
    const std::vector<solder::Value> halves = g.split(x, 1, {half, half});
    auto y = halves[1];
    for (int b = 0; b < num_blocks[s]; ++b) {
      const std::string block = stage + ".blocks." + std::to_string(b);
      auto inner = layer(layer(y, block + ".conv1", middle, 1), block + ".conv2", half, 3);
      y = g.name(g.add(inner, y), block);
    }
    y = layer(y, stage + ".conv_transition_b", half, 1);
    x = layer(g.concat({halves[0], y}, 1), stage + ".conv_transition", channels, 1);
  }
  g.output("logits", classifier(g, x, "head.fc", 1000));
  return g;
}

}  // namespace networks

int main(int argc, char** argv) {
  constexpr const char* kUsage = "cspdarknet53_mish weights.safetensors images.npy [logits.npy]";
  try {
    const auto line = networks::parse(argc, argv, kUsage, 2, 3);
    // Names in the file are those of the graph's parameters. What the graph does not ask for, such as
    // num_batches_tracked, is ignored; what it misses is listed at once.
    const solder::TensorMap weights = solder::load_safetensors(line.files[0]);
    const solder::Tensor images = solder::load_npy(line.files[1]).to(line.dtype);
    const auto graph = networks::cspdarknet53_mish(images.shape(), line.dtype);
    const auto model = solder::compile(graph, networks::converted(weights, line.dtype), line.compile);
    std::cout << "on " << solder::to_string(model.device()) << ", " << (model.weights_bytes() >> 20)
              << " MiB of weights, " << (model.session_bytes() >> 20) << " MiB a session\n";

    const solder::Tensor logits =
        model.session().run({{"x", images}}).at("logits").to(solder::DType::float32);  // [N,1000]
    networks::print_classes(logits);
    if (line.files.size() > 2) solder::save_npy(line.files[2], logits);
  } catch (const solder::Error& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
