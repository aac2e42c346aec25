#pragma once
// Text in and out of files.

#include <string>

namespace solder_run {

/// The text of `path`: a file, or a pipe such as /dev/stdin, of which at most 2 MiB are read. A named pipe that
/// nobody writes to is empty. Throws Error(io) with the system's reason, for a folder too, and `hint` after it.
std::string read_text(const std::string& path, const std::string& hint);

/// Throws Error(io) with the system's reason.
void write_text(const std::string& path, const std::string& text);

}  // namespace solder_run
