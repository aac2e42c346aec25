#pragma once
// One call of conv_nhwc_kernel.

#include "ops/conv/nhwc/nhwc.h"

namespace solder {

/// y = epilogue(conv(x, w)), enqueued.
void conv_nhwc(const Context& context, const PixelCall& call, const NhwcConfig& config);

}  // namespace solder
