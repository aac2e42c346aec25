#pragma once
// Triton's side of the backend in a process of its own: one model, one instance, requests as they are written here, and
// calls that fail. Everything that the backend must give back is counted.

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "examples/triton/triton_api.h"

struct TRITONBACKEND_Input {
  std::string name;
  TRITONSERVER_DataType type = TRITONSERVER_TYPE_FP32;
  std::vector<int64_t> shape;
  std::vector<std::string> pieces;  // its bytes
  TRITONSERVER_MemoryType memory = TRITONSERVER_MEMORY_CPU;
};

struct TRITONBACKEND_Output {
  std::string name;
  TRITONSERVER_DataType type{};
  std::vector<int64_t> shape;
  std::string bytes;
};

struct TRITONBACKEND_Request {
  std::vector<TRITONBACKEND_Input> inputs;
  std::vector<std::string> outputs;  // wanted

  // What has become of it.
  int num_responses = 0, num_releases = 0;
  std::optional<std::string> error;  // of its response
  std::map<std::string, TRITONBACKEND_Output> answer;
};

struct TRITONBACKEND_Response {
  TRITONBACKEND_Request* request;
  std::map<std::string, TRITONBACKEND_Output> outputs;
};

struct TRITONBACKEND_Model {
  std::string folder, config;
  bool completes = false;
  std::string completed;  // what the backend has set
  void* state = nullptr;
};

struct TRITONBACKEND_ModelInstance {
  TRITONBACKEND_Model* model;
  TRITONSERVER_InstanceGroupKind kind = TRITONSERVER_INSTANCEGROUPKIND_CPU;
  void* state = nullptr;
};

extern "C" {
TRITONSERVER_Error* TRITONBACKEND_Initialize(TRITONBACKEND_Backend*);
TRITONSERVER_Error* TRITONBACKEND_ModelInitialize(TRITONBACKEND_Model*);
TRITONSERVER_Error* TRITONBACKEND_ModelFinalize(TRITONBACKEND_Model*);
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceInitialize(TRITONBACKEND_ModelInstance*);
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceFinalize(TRITONBACKEND_ModelInstance*);
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceExecute(TRITONBACKEND_ModelInstance*, TRITONBACKEND_Request**,
                                                       uint32_t);
}

namespace solder::test {

struct FakeTriton {
  int num_live = 0;       // errors, messages and responses that nobody has given back
  int num_calls = 0;      // that may fail
  int failing_call = -1;  // fails, once
  uint32_t api_major = kTritonBackendApiMajor;
  uint64_t num_rows = 0, num_runs = 0;  // as the backend reports them
};
FakeTriton& fake_triton();

/// The text of an error, which is deleted; empty for success.
std::string text_of(TRITONSERVER_Error* error);

}  // namespace solder::test
