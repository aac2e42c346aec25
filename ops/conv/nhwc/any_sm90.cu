// The instances of conv_nhwc_kernel that end in any other activation.

#include "ops/conv/nhwc/instances.cuh"

namespace solder::nhwc {
template Kernel select_kernel<ConvChain::any>(const NhwcConfig&, bool);
}  // namespace solder::nhwc
