// The instances of conv_rows_kernel for Math::fp32.

#include "ops/conv_rows_kernel.cuh"

namespace solder::rows {

RowsKernel select_kernel_fp32(const RowsParams& p, bool paired) {
  const ConvChain chain = p.epilogue.chain;
  if (p.R == 3 && p.S == 3 && p.share_channels == 16) return select_chain<Filter<3, 3, 2, 2>>(chain, paired);
  return select_chain<Filter<0, 0, 0, 2>>(chain, paired);
}

}  // namespace solder::rows
