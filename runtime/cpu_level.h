#pragma once

namespace solder {

/// Instructions to use: AVX-512F, AVX2 with FMA, or what every processor of the architecture has.
enum class CpuLevel { portable, avx2, avx512 };

/// The highest that this processor has.
CpuLevel best_cpu_level();

}  // namespace solder
