#include <chrono>
#include <cstring>

#include "graph/executor.h"
#include "runtime/float_environment.h"
#include "runtime/memory.h"

namespace solder {
namespace {

class CpuExecutor final : public Executor {
 public:
  void* allocate_arena(int64_t arena_bytes, const char* what) override {
    arena_ = allocate(Device::cpu(), arena_bytes, what);
    return arena_.get();
  }

  void upload(void* to, const Tensor& from) override {
    copy(to, Device::cpu(), from.data(), from.device(), from.num_bytes());
  }
  void download(const Tensor& to, const void* from) override {
    copy(to.data(), to.device(), from, Device::cpu(), to.num_bytes());
  }
  void clear(void* to, int64_t num_bytes) override { std::memset(to, 0, static_cast<size_t>(num_bytes)); }

  void execute(const std::vector<Launch>& launches, bool) override {
    const DefaultFloatEnvironment environment;
    for (const Launch& launch : launches) launch();
  }

  std::vector<double> execute_timed(const std::vector<Launch>& launches, bool) override {
    const DefaultFloatEnvironment environment;
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

}  // namespace solder
