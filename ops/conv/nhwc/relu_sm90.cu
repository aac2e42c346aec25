// The instances of conv_nhwc_kernel that end in relu, or in no activation.

#include "ops/conv/nhwc/instances.cuh"

namespace solder::nhwc {
template Kernel select_kernel<Values::float16, ConvChain::relu>(const NhwcConfig&, bool);
template Kernel select_kernel<Values::bfloat16, ConvChain::relu>(const NhwcConfig&, bool);
}  // namespace solder::nhwc
