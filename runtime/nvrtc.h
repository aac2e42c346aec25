#pragma once

#include <string>

namespace solder {

/// Machine code made at run time.
struct CompiledCode {
  std::string code;       ///< a cubin; empty when there is none ...
  std::string why_not;    ///< ... and why
  double compile_ms = 0;  ///< the pause for it; 0: it came from the cache
};

/// Compiles CUDA source for `architecture` ("sm_90") with NVRTC, contraction off, unless the cache has it.
/// NVRTC is loaded for that alone, from the toolkit this library was built with or where the loader finds it,
/// and must be of the same version, since others round some functions differently. The cache is a folder,
/// $SOLDER_CACHE_DIR, else $XDG_CACHE_HOME/solder, else ~/.cache/solder: a file for each text, found by its
/// content and checked on reading. Processes may share it; one that cannot be used is left alone. Needs no
/// GPU.
CompiledCode compile_cuda(const std::string& source, const std::string& architecture);

}  // namespace solder
