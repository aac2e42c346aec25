#include "runtime/parallel.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <string_view>

#include "runtime/check.h"
#include "runtime/float_environment.h"

namespace solder {

ThreadPool::ThreadPool(int num_threads) {
  workers_.reserve(static_cast<size_t>(std::max(0, num_threads - 1)));
  try {
    for (int i = 1; i < num_threads; ++i) workers_.emplace_back([this] { work(); });
  } catch (const std::exception&) {  // the process may have no more threads
  }
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::take(Body body, const void* context, int64_t count) {
  for (int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count;) body(context, i);
}

void ThreadPool::run(int64_t count, Body body, const void* context) {
  if (count <= 1 || workers_.empty() || busy_.test_and_set(std::memory_order_acquire)) {
    for (int64_t i = 0; i < count; ++i) body(context, i);
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    body_ = body;
    context_ = context;
    count_ = count;
    next_ = 0;
    ++loop_;
  }
  if (count > static_cast<int64_t>(workers_.size())) {
    wake_.notify_all();
  } else {
    for (int64_t i = 1; i < count; ++i) wake_.notify_one();
  }
  take(body, context, count);
  std::unique_lock lock(mutex_);
  body_ = nullptr;  // whoever wakes now is too late, and need not be waited for
  idle_.wait(lock, [&] { return num_joined_ == 0; });
  busy_.clear(std::memory_order_release);
}

void ThreadPool::work() {
  const DefaultFloatEnvironment environment;  // not that of the thread which made the pool
  uint64_t seen = 0;
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [&] { return stopping_ || (body_ != nullptr && loop_ != seen); });
    if (stopping_) return;
    seen = loop_;
    const Body body = body_;
    const void* const context = context_;
    const int64_t count = count_;
    ++num_joined_;
    lock.unlock();
    take(body, context, count);
    lock.lock();
    if (--num_joined_ == 0) idle_.notify_one();
  }
}

int num_cpu_threads(int limit) {
  SOLDER_REQUIRE(limit >= 0, invalid_argument, "threads is ", limit, "; at least 1, or 0 for all processors");
  int threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  if (const char* value = std::getenv("SOLDER_THREADS")) {
    const std::string_view text = value;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), threads);
    const bool is_number = error == std::errc() && end == text.data() + text.size();
    SOLDER_REQUIRE(is_number && threads >= 1 && threads <= 1024, invalid_argument, "SOLDER_THREADS is \"",
                   text, "\"; it must be a number of threads, 1 to 1024");
  }
  return limit == 0 ? threads : std::min(threads, limit);
}

}  // namespace solder
