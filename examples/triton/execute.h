#pragma once

#include <span>

#include "served_model.h"
#include "triton_api.h"

namespace solder_triton {

/// Runs requests together: all that Triton has put in a batch, or one where requests are not batched. Answers and gives
/// back each of them, whatever happens to another one or to the run.
void execute(TRITONBACKEND_ModelInstance* triton_instance, Instance& instance,
             std::span<TRITONBACKEND_Request* const> requests);

}  // namespace solder_triton
