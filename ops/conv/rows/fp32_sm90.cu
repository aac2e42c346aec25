// The instances of conv_rows_kernel for Math::fp32.

#include "ops/conv/rows/kernel.cuh"

namespace solder::rows {

template Kernel select_kernel<Filter<true, Math::fp32>>(ConvChain chain);
template Kernel select_kernel<Filter<false, Math::fp32>>(ConvChain chain);

}  // namespace solder::rows
