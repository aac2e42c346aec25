#include <algorithm>

#include "graph/executor.h"
#include "runtime/check_cuda.h"
#include "runtime/context.h"

namespace solder {
namespace {

class CudaExecutor final : public Executor {
 public:
  CudaExecutor(Device device, int64_t cublas_workspace_bytes, void* stream)
      : context_(device, static_cast<cudaStream_t>(stream)),
        cublas_workspace_bytes_(cublas_workspace_bytes) {}

  // What is still running may read the arena and the weights.
  ~CudaExecutor() override { drain(); }

  const Context* context() const override { return &context_; }

  void* allocate_arena(int64_t arena_bytes, const char* what) override {
    arena_ = Buffer(arena_bytes, context_.stream(), what);
    // Afterwards: cublasCreate keeps some of what it takes when it fails for want of memory.
    context_.create_cublas(cublas_workspace_bytes_);
    return arena_.data();
  }

  void upload(void* to, const Tensor& from) override { copy_async(to, from.data(), from.num_bytes()); }
  void download(const Tensor& to, const void* from) override { copy_async(to.data(), from, to.num_bytes()); }

  void clear(void* to, int64_t num_bytes) override {
    SOLDER_CUDA(cudaMemsetAsync(to, 0, static_cast<size_t>(num_bytes), context_.stream()));
  }

  void execute(const std::vector<Launch>& launches, bool capture) override {
    context_.activate();
    const auto enqueue = [&] {
      for (const Launch& launch : launches) launch();
    };
    if (!capture || context_.sync_launches()) return enqueue();
    replay(recorded_, enqueue);
  }

  std::vector<double> execute_timed(const std::vector<Launch>& launches, bool capture) override {
    context_.activate();
    while (marks_.size() <= launches.size()) marks_.emplace_back();
    const auto enqueue = [&] {
      marks_[0].record(context_.stream());
      for (size_t i = 0; i < launches.size(); ++i) {
        launches[i]();
        marks_[i + 1].record(context_.stream());
      }
    };
    if (!capture || context_.sync_launches()) {
      enqueue();
    } else {
      replay(recorded_timed_, enqueue);
    }
    context_.synchronize();
    std::vector<double> result;
    for (size_t i = 0; i <= launches.size(); ++i) result.push_back(marks_[i].ms_since(marks_[0]));
    return result;
  }

  double copy_bytes_per_s() override {
    context_.activate();
    constexpr size_t kBytes = size_t{512} << 20;
    size_t free_bytes = 0, total_bytes = 0;
    SOLDER_CUDA(cudaMemGetInfo(&free_bytes, &total_bytes));
    if (free_bytes < 3 * kBytes) return 0;
    const Buffer from(kBytes, context_.stream(), "a copy's source"), to(kBytes, context_.stream(), "a copy");
    SOLDER_CUDA(cudaMemsetAsync(from.data(), 0, kBytes, context_.stream()));
    const Event start, end;
    std::vector<double> times_ms;
    for (int i = 0; i < 7; ++i) {
      start.record(context_.stream());
      SOLDER_CUDA(
          cudaMemcpyAsync(to.data(), from.data(), kBytes, cudaMemcpyDeviceToDevice, context_.stream()));
      end.record(context_.stream());
      context_.synchronize();
      times_ms.push_back(end.ms_since(start));
    }
    std::sort(times_ms.begin(), times_ms.end());
    return 2e3 * kBytes / times_ms[times_ms.size() / 2];
  }

  void synchronize() override { context_.synchronize(); }

  void drain() noexcept override { cudaStreamSynchronize(context_.stream()); }

  void* stream() const override { return context_.stream(); }

 private:
  // Records `enqueue` once and replays it. Other threads can break a recording (see capture_mutex):
  // such a run goes without, and says what is wrong if that fails too; the next one records again.
  template <class Enqueue>
  void replay(CapturedGraph& recorded, const Enqueue& enqueue) {
    if (!recorded) {
      try {
        recorded.capture(context_.stream(), enqueue);
      } catch (const Error& error) {
        if (error.kind() != ErrorKind::cuda) throw;
        cudaGetLastError();  // or cuBLAS takes it for its own
        return enqueue();
      }
    }
    recorded.launch(context_.stream());
  }

  void copy_async(void* to, const void* from, int64_t num_bytes) {
    if (num_bytes == 0) return;
    context_.activate();
    SOLDER_CUDA(
        cudaMemcpyAsync(to, from, static_cast<size_t>(num_bytes), cudaMemcpyDefault, context_.stream()));
  }

  Context context_;
  int64_t cublas_workspace_bytes_ = 0;
  Buffer arena_;
  CapturedGraph recorded_, recorded_timed_;
  std::vector<Event> marks_;
};

}  // namespace

std::unique_ptr<Executor> make_cuda_executor(Device device, int64_t cublas_workspace_bytes, void* stream) {
  return std::make_unique<CudaExecutor>(device, cublas_workspace_bytes, stream);
}

}  // namespace solder
