#pragma once

#include <string>

namespace katago {

/// False in a build on a machine without zlib's header.
extern const bool kHasZlib;

/// The bytes of a .gz file (of a file as it is, if it is no gzip). Error(io) where it cannot be read or is damaged,
/// Error(unsupported) unless kHasZlib.
std::string read_gzip(const std::string& path);

}  // namespace katago
