#pragma once
// The classifiers that programs here are about; each stands in the program of its name.

#include <solder/solder.h>

namespace networks {

/// x `images` [N,3,H,W], H and W multiples of 32 -> logits [N,1000]. All values and parameters are of `dtype`. A block's
/// result is named after the block ("layer1.0", "stages.0.blocks.0"), a layer's after its norm or the layer.
solder::Graph resnet50(const solder::Shape& images, solder::DType dtype = solder::DType::float32);
solder::Graph cspdarknet53_mish(const solder::Shape& images, solder::DType dtype = solder::DType::float32);

}  // namespace networks
