// A backend whose outputs are the inputs of the same name: what the server by itself does with memory under a load.
#include <cstring>

#include "examples/triton/triton_api.h"

namespace {

#define TRY(call) \
  if (TRITONSERVER_Error* error = (call)) return error

TRITONSERVER_Error* answer(TRITONBACKEND_Request* request, TRITONBACKEND_Response* response) {
  uint32_t count = 0;
  TRY(TRITONBACKEND_RequestOutputCount(request, &count));
  for (uint32_t i = 0; i < count; ++i) {
    const char *name = nullptr, *same_name = nullptr;
    TRITONBACKEND_Input* input = nullptr;
    TRITONBACKEND_Output* output = nullptr;
    TRITONSERVER_DataType type{};
    TRITONSERVER_MemoryType memory = TRITONSERVER_MEMORY_CPU;
    const int64_t* shape = nullptr;
    uint32_t rank = 0, num_buffers = 0;
    uint64_t num_bytes = 0;
    int64_t device = 0;
    void* to = nullptr;
    TRY(TRITONBACKEND_RequestOutputName(request, i, &name));
    TRY(TRITONBACKEND_RequestInput(request, name, &input));
    TRY(TRITONBACKEND_InputProperties(input, &same_name, &type, &shape, &rank, &num_bytes, &num_buffers));
    TRY(TRITONBACKEND_ResponseOutput(response, &output, name, type, shape, rank));
    TRY(TRITONBACKEND_OutputBuffer(output, &to, num_bytes, &memory, &device));
    for (uint32_t b = 0; b < num_buffers; ++b) {
      const void* from = nullptr;
      uint64_t size = 0;
      TRY(TRITONBACKEND_InputBuffer(input, b, &from, &size, &memory, &device));
      std::memcpy(to, from, size);
      to = static_cast<char*>(to) + size;
    }
  }
  return nullptr;
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" TRITONSERVER_Error* TRITONBACKEND_ModelInstanceExecute(TRITONBACKEND_ModelInstance*,
                                                                  TRITONBACKEND_Request** requests,
                                                                  uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) {
    TRITONBACKEND_Response* response = nullptr;
    TRITONSERVER_Error* error = TRITONBACKEND_ResponseNew(&response, requests[i]);
    if (error == nullptr) {
      error = answer(requests[i], response);
      TRITONBACKEND_ResponseSend(response, TRITONSERVER_RESPONSE_COMPLETE_FINAL, error);
    }
    if (error != nullptr) TRITONSERVER_ErrorDelete(error);
    TRITONBACKEND_RequestRelease(requests[i], TRITONSERVER_REQUEST_RELEASE_ALL);
  }
  return nullptr;
}
#pragma GCC visibility pop
