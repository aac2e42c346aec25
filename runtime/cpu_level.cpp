#include "runtime/cpu_level.h"

namespace solder {

CpuLevel best_cpu_level() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    return __builtin_cpu_supports("avx512f") ? CpuLevel::avx512 : CpuLevel::avx2;
#endif
  return CpuLevel::portable;
}

}  // namespace solder
