// Classifies images with ResNet-50 (version 1.5: the stride is in the 3x3 convolution) and weights from torchvision:
//   model = torchvision.models.resnet50(weights="DEFAULT")
//   safetensors.torch.save_file(model.state_dict(), "weights.safetensors")
//   numpy.save("images.npy", images)  # float32 [N,3,H,W], normalised as the weights were trained
#include <solder/solder.h>

#include "networks/classify.h"
#include "networks/layers.h"
#include "networks/networks.h"

namespace networks {

solder::Graph resnet50(const solder::Shape& images, solder::DType dtype) {
  solder::Graph g;
  const auto layer = [&g](solder::Value x, const std::string& conv, const std::string& bn, int64_t channels,
                          int64_t kernel, int64_t stride = 1) {
    return g.name(g.relu(conv_bn(g, x, conv, bn, channels, kernel, stride)), bn);
  };
  auto x = layer(g.input("x", images, dtype), "conv1", "bn1", 64, 7, 2);
  x = g.max_pool2d(x, {.kernel = 3, .stride = 2, .padding = 1});

  const int num_blocks[] = {3, 4, 6, 3};
  for (int stage = 0; stage < 4; ++stage) {
    const int64_t width = 64 << stage;
    for (int b = 0; b < num_blocks[stage]; ++b) {
      const std::string block = "layer" + std::to_string(stage + 1) + "." + std::to_string(b);
      const int64_t stride = b == 0 && stage > 0 ? 2 : 1;
      auto y = layer(x, block + ".conv1", block + ".bn1", width, 1);
      y = layer(y, block + ".conv2", block + ".bn2", width, 3, stride);
      y = conv_bn(g, y, block + ".conv3", block + ".bn3", 4 * width, 1);
      const std::string shortcut = block + ".downsample.";  // where the block changes the shape
      if (b == 0)
        x = g.name(conv_bn(g, x, shortcut + "0", shortcut + "1", 4 * width, 1, stride), shortcut + "1");
      x = g.name(g.relu(g.add(y, x)), block);
    }
  }
  g.output("logits", classifier(g, x, "fc", 1000));
  return g;
}

}  // namespace networks

int main(int argc, char** argv) { return networks::classify(argc, argv, "resnet50", networks::resnet50); }
