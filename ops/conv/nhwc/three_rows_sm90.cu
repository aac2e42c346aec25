// The instances of conv_nhwc_kernel whose slots of x serve three filter rows.

#include "ops/conv/nhwc/instances.cuh"

namespace solder::nhwc {
template Kernel select_kernel<3, false>(int, int);
template Kernel select_kernel<3, true>(int, int);
}  // namespace solder::nhwc
