// The instances of conv_nhwc_kernel that end in mish, once or twice, of scaled values.

#include "ops/conv/nhwc/instances.cuh"

namespace solder::nhwc {
template Kernel select_kernel<Values::scaled, ConvChain::mish>(const NhwcConfig&, bool);
}  // namespace solder::nhwc
