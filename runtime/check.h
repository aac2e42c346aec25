#pragma once

#include <exception>
#include <locale>
#include <memory>
#include <new>
#include <sstream>
#include <string>

#include "runtime/visibility.h"

namespace SOLDER_PUBLIC solder {

/// What went wrong, coarse enough to act on.
enum class ErrorKind {
  invalid_argument,  ///< what no tensor could make right: stride 0, an unknown name, a text that is no graph
  shape_mismatch,    ///< tensors that do not fit each other
  unsupported,       ///< meaningful, but not implemented, or not on this device or build
  out_of_memory,     ///< host or device memory
  cuda,              ///< a CUDA or cuBLAS call failed; the next one may succeed
  device_lost,       ///< a kernel faulted: every later CUDA call of this process fails; restart it
  io,                ///< a file cannot be read, or is not what it says
};

/// "invalid argument", "shape mismatch", ...
const char* to_string(ErrorKind kind);

/// The only exception type solder throws. `what()` starts with the kind and says what would be right.
class Error : public std::exception {
 public:
  Error(ErrorKind kind, const std::string& message);
  /// `literal` is the whole text. Needs no memory: for when there is none.
  Error(ErrorKind kind, const char* literal) noexcept : kind_(kind), literal_(literal) {}
  ErrorKind kind() const { return kind_; }
  const char* what() const noexcept override { return text_ ? text_->c_str() : literal_; }
  const char* message() const noexcept;  ///< the same without the kind

 private:
  ErrorKind kind_;
  std::shared_ptr<const std::string> text_;  // shared: copying an exception must not throw
  const char* literal_ = "";
};

/// Makes text that a machine can read back, whatever the program's locale is: 1000000.5, never 1.000.000,5.
class TextStream : public std::ostringstream {
 public:
  TextStream() {
    imbue(std::locale::classic());
    exceptions(std::ios::badbit);  // without memory for the whole text std::bad_alloc, not half a text
  }
};

/// Concatenates anything that streams: str("rank ", 3, " of ", name).
template <class... Parts>
[[gnu::visibility("hidden")]] std::string str(const Parts&... parts) {
  TextStream out;
  (out << ... << parts);
  return out.str();
}

/// Out of line, so that a check costs its caller one compare and one cold call.
[[noreturn]] void fail(ErrorKind kind, const std::string& message);
[[noreturn]] void fail_host_memory(const char* literal);

}  // namespace solder

/// A precondition on what the user gave: throws Error(kind, message parts...) when `condition` is false.
#define SOLDER_REQUIRE(condition, kind, ...)                                 \
  do {                                                                       \
    if (!(condition)) [[unlikely]]                                           \
      ::solder::fail(::solder::ErrorKind::kind, ::solder::str(__VA_ARGS__)); \
  } while (0)

/// Ends the function-try-block of a public function: when the C++ heap is exhausted, what is thrown is
/// Error(out_of_memory) naming the call, not std::bad_alloc.
#define SOLDER_HOST_MEMORY(call)                                                                \
  catch (const std::bad_alloc&) {                                                               \
    ::solder::fail_host_memory("out of memory: " call " cannot have the host memory it needs"); \
  }
