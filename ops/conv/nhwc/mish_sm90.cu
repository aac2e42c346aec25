// The instances of conv_nhwc_kernel that end in mish, once or twice.

#include "ops/conv/nhwc/instances.cuh"

namespace solder::nhwc {
template Kernel select_kernel<Values::float16, ConvChain::mish>(const NhwcConfig&, bool);
template Kernel select_kernel<Values::bfloat16, ConvChain::mish>(const NhwcConfig&, bool);
}  // namespace solder::nhwc
