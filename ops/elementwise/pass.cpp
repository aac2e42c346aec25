#include "ops/elementwise/pass.h"

#include "ops/elementwise/generated.h"
#include "ops/elementwise/table.h"
#include "runtime/context.h"

namespace solder {

const ElementwiseKernels::Made& ElementwiseKernels::get(const std::string& source, Device device) {
  const auto [made, is_new] = made_.try_emplace(source);
  if constexpr (kWithCuda)
    if (is_new) made->second.kernel = make_elementwise_kernel(source, device, &made->second.how);
  return made->second;
}

ElementwisePass::ElementwisePass(const Program& program, std::span<const TensorView> operands,
                                 std::span<const TensorView> outputs, const DeviceInfo* device)
    : program_(program), args_(bind_elementwise(outputs[0].shape, operands, outputs)), words_("loops, CPU") {
  if (device == nullptr) return;
  path_ = choose_elementwise_path(program_, args_);
  words_ = to_string(path_);
}

std::vector<std::byte> ElementwisePass::constants() const {
  if (path_ != ElementwisePath::table) return {};
  std::vector<std::byte> patterns(kTableElems *
                                  sizeof(uint16_t));  // every one: the program maps them in place
  for (size_t i = 0; i < kTableElems; ++i)
    patterns[2 * i] = std::byte(i % 256), patterns[2 * i + 1] = std::byte(i / 256);
  return patterns;
}

void ElementwisePass::prepare(const Context& context, ElementwiseKernels& kernels, void* constants) {
  if constexpr (kWithCuda) {
    if (path_ == ElementwisePath::generated) {
      const auto& made = kernels.get(elementwise_source(program_, args_), context.device());
      kernel_ = made.kernel;
      words_ = made.how;
    } else if (path_ == ElementwisePath::table) {
      const TensorView from = dense_view(constants, args_.operands[0].dtype, {kTableElems}),
                       to = dense_view(constants, args_.outputs[0].dtype, {kTableElems});
      elementwise_cuda(context, program_, bind_elementwise({kTableElems}, {&from, 1}, {&to, 1}));
    }
  }
}

Launch ElementwisePass::bind(const Context* context, std::span<const TensorView> operands,
                             std::span<const TensorView> outputs, const void* constants) const {
  ElementwiseArgs args = args_;
  for (size_t i = 0; i < operands.size(); ++i) args.operands[i].data = operands[i].data;
  for (size_t i = 0; i < outputs.size(); ++i) args.outputs[i].data = outputs[i].data;
  if constexpr (kWithCuda) {
    if (context != nullptr && path_ == ElementwisePath::table)
      return [context, table = static_cast<const uint16_t*>(constants), args] {
        lookup_cuda(*context, table, static_cast<const uint16_t*>(args.operands[0].data),
                    static_cast<uint16_t*>(args.outputs[0].data), args.num_elems);
      };
    if (context != nullptr)
      return [context, program = program_, args, kernel = kernel_] {
        elementwise_cuda(*context, program, args, kernel.get());
      };
  }
  return [program = program_, args] { elementwise_cpu(program, args); };
}

}  // namespace solder
