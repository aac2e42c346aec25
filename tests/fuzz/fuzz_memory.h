#pragma once
// Memory accounting for the fuzzers: the heap bytes live at most since start(), seen through
// AddressSanitizer's hooks (so the fuzzers are built with -fsanitize=address). One thread.

#include <sanitizer/allocator_interface.h>

#include <algorithm>
#include <cstddef>

namespace fuzz {

struct Heap {
  std::ptrdiff_t live_bytes = 0, peak_bytes = 0;
  bool counting = false;
};
inline Heap heap;

inline void on_malloc(const volatile void*, size_t size_bytes) {
  if (!heap.counting) return;
  heap.live_bytes += static_cast<std::ptrdiff_t>(size_bytes);
  heap.peak_bytes = std::max(heap.peak_bytes, heap.live_bytes);
}
inline void on_free(const volatile void* memory) {
  if (heap.counting && memory != nullptr)
    heap.live_bytes -= static_cast<std::ptrdiff_t>(__sanitizer_get_allocated_size(memory));
}

inline void start() {
  static const int installed = __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);
  if (installed == 0) __builtin_trap();
  heap = {.counting = true};
}
inline std::ptrdiff_t stop() {
  heap.counting = false;
  return heap.peak_bytes;
}

/// Ends the run with a finding unless `condition` holds.
inline void must(bool condition) {
  if (!condition) __builtin_trap();
}

}  // namespace fuzz
