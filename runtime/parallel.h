#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "runtime/divide.h"

namespace solder {

/// Threads that share the CPU's loops. They are made once; after a loop they look out for the next one for a moment,
/// then sleep. A loop allocates nothing. Callers on several threads may share a pool: one that finds it at work runs its loop alone, as does a loop
/// inside a loop.
class ThreadPool {
 public:
  /// `num_threads` counts the calling one: 1 makes none. Where the system gives fewer, those are used.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(workers_.size()) + 1; }

  /// Calls body(context, i) once for each i < count, in no order, and returns when all are done. The body
  /// must not throw.
  using Body = void (*)(const void* context, int64_t i);
  void run(int64_t count, Body body, const void* context);

 private:
  void work();
  void take();
  template <class T>
  void wait_while(const std::atomic<T>& value, T old) const;

  static constexpr int32_t kClosed = -(1 << 30);

  std::atomic_flag busy_;                      // held by the caller whose loop runs
  std::atomic<uint32_t> loop_ = 0;             // counts the loops
  std::atomic<int32_t> num_joined_ = kClosed;  // workers in the loop, or kClosed and those who came too late
  std::atomic<int64_t> next_ = 0;              // the first i that nobody took
  // Written before a loop opens, read by those who joined.
  Body body_ = nullptr;
  const void* context_ = nullptr;
  int64_t count_ = 0;
  std::atomic<bool> stopping_ = false;
  bool spins_ = false;  // each thread has a processor
  std::vector<std::thread> workers_;
};

/// body(i) once for each i < count, on the pool's threads in no order; null: in order on the calling one.
/// What a body writes must depend on i alone, then results do not depend on the number of threads, and it
/// must not throw. Waking workers takes 10 to 50 us where they sleep, some 1 us otherwise: a body should be worth as much.
template <class Loop>
void parallel_for(ThreadPool* pool, int64_t count, const Loop& body) {
  if (pool == nullptr) {
    for (int64_t i = 0; i < count; ++i) body(i);
  } else {
    pool->run(
        count, [](const void* loop, int64_t i) { (*static_cast<const Loop*>(loop))(i); }, &body);
  }
}

/// body(first, last) over the parts of [0, count) of `share` each, on the calling thread where there is but one. `share`
/// is what is worth waking a thread.
template <class Loop>
void parallel_parts(ThreadPool* pool, int64_t count, int64_t share, const Loop& body) {
  parallel_for(count > share ? pool : nullptr, ceil_div(count, share),
               [&](int64_t i) { body(i * share, std::min(count, (i + 1) * share)); });
}

/// How many threads to use: SOLDER_THREADS, or where that is not set the processors that this process may run
/// on, but no more than `limit` (0: no limit). Error(invalid_argument) when either is no such number.
int num_cpu_threads(int limit = 0);

}  // namespace solder
