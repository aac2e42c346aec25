// The instances of conv_nhwc_kernel whose slots of x serve one filter row.

#include "ops/conv/nhwc/instances.cuh"

namespace solder::nhwc {
template Kernel select_kernel<1, false>(int, int);
template Kernel select_kernel<1, true>(int, int);
}  // namespace solder::nhwc
