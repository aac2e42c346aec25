#include "ops/conv/kernels.h"
#include "runtime/context.h"

namespace solder {

void conv_cuda(const Context& context, const ConvShape& shape, const ConvPlan& plan,
               const ConvTensors& tensors) {
  ConvEpilogue epilogue = plan.epilogue;
  bind_epilogue(tensors.operands, &epilogue);
  switch (plan.kind) {
    case ConvPlan::Kind::im2col:
      conv_im2col_cuda(context, shape, plan.im2col, plan.math, tensors.x, tensors.w, tensors.y,
                       static_cast<float*>(tensors.scratch));
      break;
#if SOLDER_WITH_SM90  // the choice knows it too
    case ConvPlan::Kind::rows:
      conv_rows(context, shape, plan.rows, tensors.x, tensors.w, tensors.packed, epilogue, tensors.y,
                tensors.scratch);
      break;
    case ConvPlan::Kind::window:
      conv_window(context, shape, plan.window, epilogue,
                  {tensors.x, tensors.packed, tensors.w, tensors.scratch, tensors.y});
      break;
#else
    default: break;
#endif
  }
  if (plan.needs_pass()) elementwise_cuda(context, as_pass(plan.program), tensors.pass, tensors.pass_kernel);
}

}  // namespace solder
