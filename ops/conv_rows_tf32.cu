// The instances of conv_rows_kernel for Math::tf32.

#include "ops/conv_rows_kernel.cuh"

namespace solder::rows {

RowsKernel select_kernel_tf32(const RowsParams& p, bool paired) {
  const ConvChain chain = p.epilogue.chain;
  if (p.R == 3 && p.S == 3 && p.share_channels == 32) return select_chain<Filter<3, 3, 4, 1>>(chain, paired);
  return select_chain<Filter<0, 0, 0, 1>>(chain, paired);
}

}  // namespace solder::rows
