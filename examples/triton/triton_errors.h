#pragma once
// Triton's errors as exceptions, and exceptions as Triton's errors.

#include <solder/solder.h>

#include <new>

#include "triton_api.h"

namespace solder_triton {

/// What a call of Triton's refused.
struct Refused {
  TRITONSERVER_Error* error;
};

inline void check(TRITONSERVER_Error* error) {
  if (error != nullptr) throw Refused{error};
}

inline TRITONSERVER_Error_Code code_of(solder::ErrorKind kind) {
  switch (kind) {
    case solder::ErrorKind::invalid_argument:
    case solder::ErrorKind::shape_mismatch: return TRITONSERVER_ERROR_INVALID_ARG;
    case solder::ErrorKind::unsupported: return TRITONSERVER_ERROR_UNSUPPORTED;
    case solder::ErrorKind::out_of_memory: return TRITONSERVER_ERROR_UNAVAILABLE;
    case solder::ErrorKind::io: return TRITONSERVER_ERROR_NOT_FOUND;
    default: return TRITONSERVER_ERROR_INTERNAL;
  }
}

/// Exceptions become Triton's errors.
template <class Body>
TRITONSERVER_Error* guarded(Body&& body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const Refused& refused) {
    return refused.error;
  } catch (const solder::Error& error) {
    return TRITONSERVER_ErrorNew(code_of(error.kind()), error.what());
  } catch (const std::bad_alloc&) {
    return TRITONSERVER_ErrorNew(TRITONSERVER_ERROR_UNAVAILABLE, "out of host memory");
  } catch (const std::exception& error) {
    return TRITONSERVER_ErrorNew(TRITONSERVER_ERROR_INTERNAL, error.what());
  }
}

// Where nobody is left to tell.
inline void drop(TRITONSERVER_Error* error) {
  if (error != nullptr) TRITONSERVER_ErrorDelete(error);
}

}  // namespace solder_triton
