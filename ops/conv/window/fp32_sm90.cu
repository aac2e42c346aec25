// The instances of conv_window_kernel for Math::fp32.

#include "ops/conv/window/kernel.cuh"

namespace solder::window {

template Kernel select_kernel<Math::fp32>(int tile);

}  // namespace solder::window
