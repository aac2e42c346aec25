#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace solder {

/// What went wrong, coarse enough to act on.
enum class ErrorKind {
  invalid_argument,  ///< a value that no tensor could make right (stride 0, unknown input name)
  shape_mismatch,    ///< tensors that do not fit each other
  unsupported,       ///< meaningful, but not implemented, or not on this device or build
  out_of_memory,     ///< host or device memory
  cuda,              ///< a CUDA or cuBLAS call failed
  io,                ///< a file cannot be read, or is not what it says
};

/// "invalid argument", "shape mismatch", ...
const char* to_string(ErrorKind kind);

/// The only exception type solder throws. `what()` starts with the kind and says what would be right.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message);
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

/// Concatenates anything that streams: str("rank ", 3, " of ", name).
template <class... Parts>
std::string str(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

/// Out of line, so that a check costs its caller one compare and one cold call.
[[noreturn]] void fail(ErrorKind kind, const std::string& message);

}  // namespace solder

/// A precondition on what the user gave: throws Error(kind, message parts...) when `condition` is false.
#define SOLDER_REQUIRE(condition, kind, ...)                                 \
  do {                                                                       \
    if (!(condition)) [[unlikely]]                                           \
      ::solder::fail(::solder::ErrorKind::kind, ::solder::str(__VA_ARGS__)); \
  } while (0)
