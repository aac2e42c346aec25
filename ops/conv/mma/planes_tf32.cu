// The instances of conv_mma_kernel that give float32 planes from one part.
#include "ops/conv/mma/instances.cuh"

namespace solder::mma {
template Kernel find_kernel<1, DType::float16, true>(int, bool);
}  // namespace solder::mma
