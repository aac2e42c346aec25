// The instances of conv_nhwc_kernel that end in relu, or in no activation, of scaled values.

#include "ops/conv/nhwc/instances.cuh"

namespace solder::nhwc {
template Kernel select_kernel<Values::scaled, ConvChain::relu>(const NhwcConfig&, bool);
}  // namespace solder::nhwc
