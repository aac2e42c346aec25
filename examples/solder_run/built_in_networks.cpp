#include "../networks/networks.h"

#include <algorithm>

#include "built_ins.h"

namespace solder_run {

const BuiltInNetwork kNetworks[] = {
    {"resnet50", "ResNet-50, 224 x 224; weights of torchvision fit", "examples/resnet50.cpp", 224,
     networks::resnet50},
    {"cspdarknet53-mish", "CSPDarknet53 with mish, 256 x 256; weights of timm fit",
     "examples/cspdarknet53_mish.cpp", 256, networks::cspdarknet53_mish},
};
const size_t kNumNetworks = std::size(kNetworks);

const BuiltInNetwork* find_network(const std::string& name) {
  const auto* const end = kNetworks + kNumNetworks;
  const auto* const found = std::find_if(kNetworks, end, [&](const auto& each) { return name == each.name; });
  return found != end ? found : nullptr;
}

solder::Graph build(const BuiltInNetwork& network, const ShapeOverrides& shapes) {
  solder::Shape images{1, 3, network.image_size, network.image_size};
  for (const auto& [name, shape] : shapes) {
    SOLDER_REQUIRE(name == "x", invalid_argument, network.name, ": there is no input ", in_quotes(name),
                   " to give a shape; its input is \"x\"");
    images = shape;
  }
  return network.build(images, solder::DType::float32);
}

std::vector<std::string> built_in_names() {
  std::vector<std::string> names;
  for (size_t i = 0; i < kNumBuiltIns; ++i) names.emplace_back(kBuiltIns[i].name);
  for (size_t i = 0; i < kNumNetworks; ++i) names.emplace_back(kNetworks[i].name);
  return names;
}

}  // namespace solder_run
