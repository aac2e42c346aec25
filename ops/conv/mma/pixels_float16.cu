// The instances of conv_mma_kernel that give pixels from float16 ones.
#include "ops/conv/mma/instances.cuh"

namespace solder::mma {
template Kernel find_kernel<1, DType::float16, false>(int, bool);
}  // namespace solder::mma
