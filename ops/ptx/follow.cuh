#pragma once
// How any kernel follows the one before it in its stream. Generated kernels embed this text.

namespace solder {

/// The first statement of a kernel that is launched with `overlaps_previous`: the next kernel's blocks may come to the
/// multiprocessors as these leave, and these wait until all earlier kernels have finished and their writes are
/// visible. Nothing where the hardware has no such launches, before sm_90.
__device__ inline void follow_previous() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents; griddepcontrol.wait;" ::: "memory");
#endif
}

}  // namespace solder
