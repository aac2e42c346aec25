#include "runtime/version.h"

#include "runtime/check.h"

#if SOLDER_WITH_CUDA
#include <cuda_runtime_api.h>
#endif

namespace solder {

std::string version() {
#if SOLDER_WITH_CUDA
  return str(kVersion, ", CUDA ", CUDART_VERSION / 1000, ".", CUDART_VERSION % 1000 / 10, ", architectures ",
             SOLDER_ARCHS);
#else
  return str(kVersion, ", CPU only");
#endif
}

}  // namespace solder
