#include "runtime/check.h"

#include <cstring>

namespace solder {

const char* to_string(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::invalid_argument: return "invalid argument";
    case ErrorKind::shape_mismatch: return "shape mismatch";
    case ErrorKind::unsupported: return "unsupported";
    case ErrorKind::out_of_memory: return "out of memory";
    case ErrorKind::cuda: return "CUDA error";
    case ErrorKind::device_lost: return "device lost";
    case ErrorKind::io: return "I/O error";
  }
  return "error";
}

Error::Error(ErrorKind kind, const std::string& message)
    : kind_(kind), text_(std::make_shared<const std::string>(str(to_string(kind), ": ", message))) {}

const char* Error::message() const noexcept {
  return text_ ? text_->c_str() + std::strlen(to_string(kind_)) + std::strlen(": ") : literal_;
}

void fail(ErrorKind kind, const std::string& message) { throw Error(kind, message); }

void fail_host_memory(const char* literal) { throw Error(ErrorKind::out_of_memory, literal); }

}  // namespace solder
