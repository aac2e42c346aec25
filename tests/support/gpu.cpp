#include "tests/support/gpu.h"

#include "runtime/context.h"

namespace solder::test {

void run_program_on_gpu(const Program& program, const ElementwiseArgs& args,
                        std::shared_ptr<const ElementwiseKernel> kernel) {
#if SOLDER_WITH_CUDA
  const Context context(Device::cuda(0));
  bind_elementwise_cuda(context, ElementwisePath::generated, program, args, kernel, nullptr)();
  context.synchronize();
#else
  (void)program, (void)args, (void)kernel;
  Device::cuda(0);
#endif
}

}  // namespace solder::test
