// The instances of conv_rows_kernel for Math::tf32.

#include "ops/conv/rows/kernel.cuh"

namespace solder::rows {

template RowsKernel select_kernel<1>(const RowsParams& p);

}  // namespace solder::rows
