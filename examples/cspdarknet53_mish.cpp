// Classifies images with CSPDarknet53-Mish and weights from timm:
//   model = timm.create_model("cspdarknet53", act_layer=torch.nn.Mish)
//   safetensors.torch.save_file(model.state_dict(), "weights.safetensors")
//   numpy.save("images.npy", images)  # float32 [N,3,H,W], normalised as the weights were trained
#include <solder/solder.h>

#include "networks/classify.h"
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
  return networks::classify(argc, argv, "cspdarknet53_mish", networks::cspdarknet53_mish);
}
