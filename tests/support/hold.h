#pragma once
// Late work: a kernel that keeps a stream busy until the host lets go of it.

#include <cstdint>

namespace solder::test {

/// One kernel at a time on a stream: it spins until release(), then copies. It gives up after some seconds,
/// so that a test whose subject waits for the stream fails instead of hanging.
class Hold {
 public:
  Hold();
  ~Hold();  ///< releases, and waits for the device
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;

  /// Enqueues the kernel; once released it copies `num_floats` from `from` to `to`, both on the device.
  void enqueue(void* stream, float* to = nullptr, const float* from = nullptr, int64_t num_floats = 0);

  /// The kernel still spins: nothing has waited for its stream.
  bool is_held(void* stream) const;

  void release();

 private:
  int* flags_ = nullptr;  // pinned; [0] set by release(), [1] by a kernel that gave up
};

}  // namespace solder::test
