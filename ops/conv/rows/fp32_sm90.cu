// The instances of conv_rows_kernel for Math::fp32.

#include "ops/conv/rows/kernel.cuh"

namespace solder::rows {

template RowsKernel select_kernel<2>(const RowsParams& p);

}  // namespace solder::rows
