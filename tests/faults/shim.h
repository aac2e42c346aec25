#pragma once
// A fake machine for the tests of faults, linked in place of the CUDA runtime and cuBLAS: device memory is host
// memory, streams, graphs and handles are small objects that are counted, kernels do nothing. What a GPU
// would do is kept as a trace: every copy, launch and matrix product changes it, and a download from the
// device is altered by it, so that an effect that got lost shows in the result. Any call can be told to fail:
// a CUDA or cuBLAS call, an allocation or a file operation; NVRTC by the name of its function.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace shim {

enum class Calls { cuda, memory, files };

struct Fault {
  Calls calls = Calls::cuda;
  int64_t first = 0;      ///< the call that fails, counted from 1; 0: none
  bool for_good = false;  ///< and every one after it
  int code = 0;           ///< a cudaError_t (cuBLAS: its nearest status) or an errno
};

struct Report {
  int64_t num_calls = 0;  ///< of the kind that was to fail
  int64_t num_failed = 0;
  std::vector<std::string> failed;  ///< the calls that failed, as the library spells them
};

/// Between arm() and disarm() the calls of this thread are counted and fail as told.
void arm(const Fault& fault);
Report disarm();

/// Forgets the trace: what follows is compared from here.
void begin_trace();
uint64_t trace();

/// The fake GPU; also its driver's error at the door, cudaGetDeviceCount, and the CUDA version it supports.
struct Machine {
  int cc_major = 9, cc_minor = 0;
  int start_error = 0;
  int driver_version = 13000;
  std::string_view nvrtc_fails =
      {};  ///< its function that fails; "dlopen", "dlsym", "version": not the one wanted
};
inline Machine machine;

/// What is alive: streams, device allocations, graphs and handles, NVRTC's programs among them; blocks of the
/// C++ heap and of aligned_alloc.
int64_t live_device_objects();
int64_t live_programs();
int64_t live_heap_blocks();
/// Most heap bytes alive since arm(), beyond those alive then.
int64_t peak_heap_bytes();

/// For the shim itself: this call's failure, or 0; and a scope in which nothing counts.
int enter(Calls calls, const char* name);
struct Pause {
  Pause();
  ~Pause();
};

}  // namespace shim
