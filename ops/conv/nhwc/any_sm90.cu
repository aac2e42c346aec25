// The instances of conv_nhwc_kernel that end in any other activation, or in relu or none and store sums, too.

#include "ops/conv/nhwc/instances.cuh"

namespace solder::nhwc {
template Kernel select_kernel<Values::float16, ConvChain::any>(const NhwcConfig&, bool);
template Kernel select_kernel<Values::bfloat16, ConvChain::any>(const NhwcConfig&, bool);
}  // namespace solder::nhwc
