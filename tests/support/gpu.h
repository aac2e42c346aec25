#pragma once
// Direct access to the CUDA ops, for tests that need addresses or kernels the graph would not choose.

#include "ops/elementwise/pass.h"

namespace solder::test {

/// Runs one elementwise program on device 0, interpreted or by `kernel`, and waits for it.
void run_program_on_gpu(const Program& program, const ElementwiseArgs& args,
                        std::shared_ptr<const ElementwiseKernel> kernel = nullptr);

}  // namespace solder::test
