// The instances of conv_rows_kernel for Math::tf32.

#include "ops/conv/rows/kernel.cuh"

namespace solder::rows {

template Kernel select_kernel<Filter<true, Math::tf32>>(ConvChain chain);
template Kernel select_kernel<Filter<false, Math::tf32>>(ConvChain chain);

}  // namespace solder::rows
