#pragma once
// The family "direct" over 16-bit values with channels innermost.

#include <memory>
#include <string>

#include "ops/conv/kernels.h"

namespace solder {

/// Its plan of a problem with one input channel a group; null, with the reason, where there is none.
std::unique_ptr<ConvPlan> make_direct_pixels_conv(const ConvProblem& problem, std::string* why_not);

}  // namespace solder
