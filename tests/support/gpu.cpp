#include "tests/support/gpu.h"

#include "runtime/device.h"
#if SOLDER_WITH_CUDA
#include "runtime/context.h"
#endif

namespace solder::test {

void run_program_on_gpu(const Program& program, const ElementwiseArgs& args,
                        const ElementwiseKernel* kernel) {
#if SOLDER_WITH_CUDA
  const Context context(Device::cuda(0));
  elementwise_cuda(context, program, args, kernel);
  context.synchronize();
#else
  (void)program, (void)args, (void)kernel;
  Device::cuda(0);
#endif
}

}  // namespace solder::test
