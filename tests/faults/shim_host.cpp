// The host's half of the fake machine: the C++ heap, aligned_alloc and file operations, which count and can
// fail. Linked with --wrap for what the C library provides.
#include <fcntl.h>
#include <malloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <new>

#include "tests/faults/shim.h"

extern "C" {
void* __real_aligned_alloc(size_t alignment, size_t bytes);
void __real_free(void* memory);
int __real_stat(const char* path, struct stat* info);
int __real_euidaccess(const char* path, int mode);
ssize_t __real_readlink(const char* path, char* out, size_t bytes);
int __real_open(const char* path, int flags, ...);
int __real_fstat(int fd, struct stat* info);
int __real_fchmod(int fd, mode_t mode);
ssize_t __real_pread(int fd, void* out, size_t bytes, off_t offset);
ssize_t __real_write(int fd, const void* data, size_t bytes);
int __real_close(int fd);
int __real_rename(const char* from, const char* to);
}

namespace shim {
namespace {

thread_local bool is_armed = false;
thread_local int num_pauses = 0;
thread_local Fault fault;
thread_local int64_t num_calls = 0, num_failed = 0;
thread_local std::array<const char*, 256> failed = {};

std::atomic<int64_t> heap_blocks = 0, heap_bytes = 0, peak_bytes = 0, bytes_at_arm = 0;

void* took(void* memory) {
  if (memory == nullptr) return nullptr;
  ++heap_blocks;
  const int64_t now = heap_bytes += static_cast<int64_t>(::malloc_usable_size(memory));
  int64_t seen = peak_bytes;
  while (now > seen && !peak_bytes.compare_exchange_weak(seen, now)) {
  }
  return memory;
}

void give_back(void* memory) noexcept {
  if (memory == nullptr) return;
  --heap_blocks;
  heap_bytes -= static_cast<int64_t>(::malloc_usable_size(memory));
  __real_free(memory);
}

void* new_or_null(size_t bytes) noexcept {
  if (enter(Calls::memory, "new") != 0) return nullptr;
  return took(std::malloc(std::max<size_t>(bytes, 1)));
}

void* new_or_throw(size_t bytes) {
  void* const memory = new_or_null(bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

// -1 with errno set when this file operation is to fail.
bool file_fails(const char* name) {
  const int code = enter(Calls::files, name);
  if (code != 0) errno = code;
  return code != 0;
}

}  // namespace

int enter(Calls calls, const char* name) {
  if (!is_armed || num_pauses > 0 || calls != fault.calls) return 0;
  ++num_calls;
  const bool fails =
      fault.first > 0 && (fault.for_good ? num_calls >= fault.first : num_calls == fault.first);
  if (!fails) return 0;
  if (num_failed < std::ssize(failed)) failed[static_cast<size_t>(num_failed)] = name;
  ++num_failed;
  return fault.code;
}

void arm(const Fault& wanted) {
  fault = wanted;
  num_calls = num_failed = 0;
  peak_bytes = bytes_at_arm = heap_bytes.load();
  is_armed = true;
}

Report disarm() {
  is_armed = false;
  const auto num_names = std::min<std::ptrdiff_t>(num_failed, std::ssize(failed));
  return {num_calls, num_failed, {failed.begin(), failed.begin() + num_names}};
}

int64_t live_heap_blocks() { return heap_blocks; }
int64_t peak_heap_bytes() { return peak_bytes - bytes_at_arm; }

Pause::Pause() { ++num_pauses; }
Pause::~Pause() { --num_pauses; }

}  // namespace shim

void* operator new(size_t bytes) { return shim::new_or_throw(bytes); }
void* operator new[](size_t bytes) { return shim::new_or_throw(bytes); }
void* operator new(size_t bytes, const std::nothrow_t&) noexcept { return shim::new_or_null(bytes); }
void* operator new[](size_t bytes, const std::nothrow_t&) noexcept { return shim::new_or_null(bytes); }
void operator delete(void* memory) noexcept { shim::give_back(memory); }
void operator delete[](void* memory) noexcept { shim::give_back(memory); }
void operator delete(void* memory, size_t) noexcept { shim::give_back(memory); }
void operator delete[](void* memory, size_t) noexcept { shim::give_back(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { shim::give_back(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { shim::give_back(memory); }

extern "C" {

void* __wrap_aligned_alloc(size_t alignment, size_t bytes) {
  return shim::enter(shim::Calls::memory, "aligned_alloc") != 0
             ? nullptr
             : shim::took(__real_aligned_alloc(alignment, bytes));
}
void __wrap_free(void* memory) { shim::give_back(memory); }

int __wrap_stat(const char* path, struct stat* info) {
  return shim::file_fails("stat") ? -1 : __real_stat(path, info);
}
int __wrap_euidaccess(const char* path, int mode) {
  return shim::file_fails("euidaccess") ? -1 : __real_euidaccess(path, mode);
}
ssize_t __wrap_readlink(const char* path, char* out, size_t bytes) {
  return shim::file_fails("readlink") ? -1 : __real_readlink(path, out, bytes);
}
int __wrap_open(const char* path, int flags, mode_t mode) {
  return shim::file_fails("open") ? -1 : __real_open(path, flags, mode);
}
int __wrap_fstat(int fd, struct stat* info) {
  return shim::file_fails("fstat") ? -1 : __real_fstat(fd, info);
}
int __wrap_fchmod(int fd, mode_t mode) { return shim::file_fails("fchmod") ? -1 : __real_fchmod(fd, mode); }
ssize_t __wrap_pread(int fd, void* out, size_t bytes, off_t offset) {
  return shim::file_fails("pread") ? -1 : __real_pread(fd, out, bytes, offset);
}
ssize_t __wrap_write(int fd, const void* data, size_t bytes) {
  return shim::file_fails("write") ? -1 : __real_write(fd, data, bytes);
}
int __wrap_close(int fd) {  // the descriptor is gone either way, as on Linux
  const bool fails = shim::file_fails("close");
  const int code = errno;
  const int closed = __real_close(fd);
  if (fails) errno = code;
  return fails ? -1 : closed;
}
int __wrap_rename(const char* from, const char* to) {
  return shim::file_fails("rename") ? -1 : __real_rename(from, to);
}

}  // extern "C"
