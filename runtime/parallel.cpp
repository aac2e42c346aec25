#include "runtime/parallel.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <string_view>

#include "runtime/check.h"
#include "runtime/float_environment.h"

namespace solder {

namespace {

// Longer than the steps between two loops of a run take, and short enough to be lost on nobody else.
constexpr std::chrono::microseconds kSpin{100};

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

ThreadPool::ThreadPool(int num_threads)
    : spins_(num_threads <= static_cast<int>(std::thread::hardware_concurrency())) {
  workers_.reserve(static_cast<size_t>(std::max(0, num_threads - 1)));
  try {
    for (int i = 1; i < num_threads; ++i) workers_.emplace_back([this] { work(); });
  } catch (const std::exception&) {  // the process may have no more threads
  }
}

ThreadPool::~ThreadPool() {
  stopping_ = true;
  loop_.fetch_add(1, std::memory_order_release);
  loop_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

template <class T>
void ThreadPool::wait_while(const std::atomic<T>& value, T old) const {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  while (value.load(std::memory_order_acquire) == old) {
    if (!spins_ || std::chrono::steady_clock::now() >= end) return value.wait(old, std::memory_order_acquire);
    pause();
  }
}

void ThreadPool::take() {
  for (int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) body_(context_, i);
}

void ThreadPool::run(int64_t count, Body body, const void* context) {
  if (count <= 1 || workers_.empty() || busy_.test_and_set(std::memory_order_acquire)) {
    for (int64_t i = 0; i < count; ++i) body(context, i);
    return;
  }
  body_ = body;
  context_ = context;
  count_ = count;
  next_.store(0, std::memory_order_relaxed);
  num_joined_.fetch_sub(kClosed, std::memory_order_release);
  loop_.fetch_add(1, std::memory_order_release);
  if (count > static_cast<int64_t>(workers_.size())) {
    loop_.notify_all();
  } else {
    for (int64_t i = 1; i < count; ++i) loop_.notify_one();
  }
  take();
  // Whoever wakes now is too late, and need not be waited for.
  for (int32_t joined = 0; !num_joined_.compare_exchange_weak(joined, kClosed, std::memory_order_acquire);
       joined = 0)
    if (joined != 0) wait_while(num_joined_, joined);
  busy_.clear(std::memory_order_release);
}

void ThreadPool::work() {
  const DefaultFloatEnvironment environment;  // not that of the thread which made the pool
  for (uint32_t seen = 0;;) {
    wait_while(loop_, seen);
    seen = loop_.load(std::memory_order_acquire);
    if (stopping_) return;
    if (num_joined_.fetch_add(1, std::memory_order_acquire) >= 0) take();
    if (num_joined_.fetch_sub(1, std::memory_order_release) == 1) num_joined_.notify_one();
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
