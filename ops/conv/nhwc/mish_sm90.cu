// The instances of conv_nhwc_kernel that end in mish, once or twice.

#include "ops/conv/nhwc/instances.cuh"

namespace solder::nhwc {
template Kernel select_kernel<ConvChain::mish>(const NhwcConfig&, bool);
}  // namespace solder::nhwc
