// The instances of conv_window_kernel for Math::tf32.

#include "ops/conv/window/kernel.cuh"

namespace solder::window {

template Kernel select_kernel<Math::tf32>(int tile);

}  // namespace solder::window
