#include <chrono>

#include "graph/executor.h"
#include "runtime/memory.h"

namespace solder {
namespace {

class CpuExecutor final : public Executor {
 public:
  Device device() const override { return Device::cpu(); }

  void* allocate_arena(int64_t arena_bytes, const char*) override {
    arena_ = allocate(Device::cpu(), arena_bytes);
    return arena_.get();
  }

  Launch bind(const Graph& graph, const Node& node, const NodePlan& plan, Math,
              const NodeBuffers& buffers) override {
    const auto input = [&](size_t i) { return static_cast<const float*>(buffers.inputs[i]); };
    switch (node.kind) {
      case NodeKind::input:
      case NodeKind::parameter: return {};
      case NodeKind::conv2d: {
        const ElementwiseArgs args = bind_region(graph, node, buffers);
        return [conv = plan.conv, tensors = conv_tensors(graph, node, buffers),
                program = as_pass(plan.program), args] {
          conv->enqueue(nullptr, tensors);
          if (program.num_steps > 1) elementwise_cpu(program, args);
        };
      }
      case NodeKind::matmul:
        return [gemm = gemm_of(graph, node), a = input(0), b = input(1),
                c = static_cast<float*>(buffers.outputs[0])] { gemm_cpu(gemm, a, b, c); };
      case NodeKind::elementwise:
        return [program = plan.program, args = bind_region(graph, node, buffers)] {
          elementwise_cpu(program, args);
        };
    }
    return {};
  }

  void upload(void* to, const Tensor& from) override {
    copy(to, device(), from.data(), from.device(), from.num_bytes());
  }
  void download(const Tensor& to, const void* from) override {
    copy(to.data(), to.device(), from, device(), to.num_bytes());
  }

  void execute(const std::vector<Launch>& launches, bool) override {
    for (const Launch& launch : launches) launch();
  }

  std::vector<double> execute_timed(const std::vector<Launch>& launches, bool) override {
    const auto start = std::chrono::steady_clock::now();
    std::vector<double> marks{0};
    for (const Launch& launch : launches) {
      launch();
      const std::chrono::duration<double, std::milli> elapsed = std::chrono::steady_clock::now() - start;
      marks.push_back(elapsed.count());
    }
    return marks;
  }

  void synchronize() override {}

 private:
  std::shared_ptr<void> arena_;
};

}  // namespace

std::unique_ptr<Executor> make_cpu_executor() { return std::make_unique<CpuExecutor>(); }

#if !SOLDER_WITH_CUDA
std::unique_ptr<Executor> make_cuda_executor(Device device, int64_t, void*) {
  Device::cuda(device.index);  // throws, and says why
  return {};
}
void prepare_cuda(const Graph&, Device, const std::function<void*(size_t)>&, std::vector<NodePlan>&) {}
#endif

}  // namespace solder
