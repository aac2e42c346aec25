#pragma once

#include <string>

#include "runtime/visibility.h"

namespace SOLDER_PUBLIC solder {

inline constexpr const char* kVersion = "0.1.0";

/// The library's version and what it was built with: "0.1.0, CUDA 13.0, architectures 80 90a", or "0.1.0, CPU only".
std::string version();

}  // namespace solder
