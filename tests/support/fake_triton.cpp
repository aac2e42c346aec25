#include "fake_triton.h"

#include <algorithm>

using solder::test::fake_triton;

struct TRITONSERVER_Error {
  std::string text;
};
struct TRITONSERVER_Message {
  std::string json;
};

namespace solder::test {

FakeTriton& fake_triton() {
  static FakeTriton fake;
  return fake;
}

std::string text_of(TRITONSERVER_Error* error) {
  if (error == nullptr) return "";
  const std::string text = error->text;
  TRITONSERVER_ErrorDelete(error);
  return text;
}

}  // namespace solder::test

namespace {

template <class T>
T* live(T value) {
  ++fake_triton().num_live;
  return new T(std::move(value));
}

template <class T>
void gone(T* object) {
  --fake_triton().num_live;
  delete object;
}

// Whether the call fails that starts with this.
TRITONSERVER_Error* failure() {
  return fake_triton().num_calls++ == fake_triton().failing_call ? live(TRITONSERVER_Error{"the call fails"})
                                                                 : nullptr;
}

// A call that may fail and else does this.
template <class Body>
TRITONSERVER_Error* call(Body&& body) {
  if (TRITONSERVER_Error* error = failure()) return error;
  body();
  return nullptr;
}

}  // namespace

extern "C" {

TRITONSERVER_Error* TRITONSERVER_ErrorNew(TRITONSERVER_Error_Code code, const char* message) {
  return live(TRITONSERVER_Error{std::to_string(code) + ": " + message});
}
void TRITONSERVER_ErrorDelete(TRITONSERVER_Error* error) { gone(error); }

TRITONSERVER_Error* TRITONSERVER_MessageNewFromSerializedJson(TRITONSERVER_Message** message,
                                                              const char* base, size_t num_bytes) {
  return call([&] { *message = live(TRITONSERVER_Message{{base, num_bytes}}); });
}
TRITONSERVER_Error* TRITONSERVER_MessageSerializeToJson(TRITONSERVER_Message* message, const char** base,
                                                        size_t* num_bytes) {
  return call([&] { *base = message->json.data(), *num_bytes = message->json.size(); });
}
TRITONSERVER_Error* TRITONSERVER_MessageDelete(TRITONSERVER_Message* message) {
  gone(message);
  return failure();
}

TRITONSERVER_Error* TRITONBACKEND_ApiVersion(uint32_t* major, uint32_t* minor) {
  return call([&] { *major = fake_triton().api_major, *minor = 10; });
}

TRITONSERVER_Error* TRITONBACKEND_ModelRepository(TRITONBACKEND_Model* model,
                                                  TRITONBACKEND_ArtifactType* type, const char** location) {
  return call([&] { *type = TRITONBACKEND_ARTIFACT_FILESYSTEM, *location = model->folder.c_str(); });
}
TRITONSERVER_Error* TRITONBACKEND_ModelVersion(TRITONBACKEND_Model*, uint64_t* version) {
  return call([&] { *version = 1; });
}
TRITONSERVER_Error* TRITONBACKEND_ModelConfig(TRITONBACKEND_Model* model, uint32_t,
                                              TRITONSERVER_Message** config) {
  return call([&] { *config = live(TRITONSERVER_Message{model->config}); });
}
TRITONSERVER_Error* TRITONBACKEND_ModelAutoCompleteConfig(TRITONBACKEND_Model* model, bool* is_wanted) {
  return call([&] { *is_wanted = model->completes; });
}
TRITONSERVER_Error* TRITONBACKEND_ModelSetConfig(TRITONBACKEND_Model* model, uint32_t,
                                                 TRITONSERVER_Message* config) {
  return call([&] { model->completed = config->json; });
}
TRITONSERVER_Error* TRITONBACKEND_ModelState(TRITONBACKEND_Model* model, void** state) {
  *state = model->state;
  return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ModelSetState(TRITONBACKEND_Model* model, void* state) {
  return call([&] { model->state = state; });
}

TRITONSERVER_Error* TRITONBACKEND_ModelInstanceModel(TRITONBACKEND_ModelInstance* instance,
                                                     TRITONBACKEND_Model** model) {
  return call([&] { *model = instance->model; });
}
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceKind(TRITONBACKEND_ModelInstance* instance,
                                                    TRITONSERVER_InstanceGroupKind* kind) {
  return call([&] { *kind = instance->kind; });
}
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceDeviceId(TRITONBACKEND_ModelInstance*, int32_t* device) {
  return call([&] { *device = 99; });
}
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceState(TRITONBACKEND_ModelInstance* instance, void** state) {
  *state = instance->state;
  return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceSetState(TRITONBACKEND_ModelInstance* instance, void* state) {
  return call([&] { instance->state = state; });
}
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceReportStatistics(TRITONBACKEND_ModelInstance*,
                                                                TRITONBACKEND_Request*, bool, uint64_t,
                                                                uint64_t, uint64_t, uint64_t) {
  return failure();
}
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceReportBatchStatistics(TRITONBACKEND_ModelInstance*,
                                                                     uint64_t batch, uint64_t, uint64_t,
                                                                     uint64_t, uint64_t) {
  return call([&] { fake_triton().num_rows += batch, ++fake_triton().num_runs; });
}

TRITONSERVER_Error* TRITONBACKEND_RequestInput(TRITONBACKEND_Request* request, const char* name,
                                               TRITONBACKEND_Input** input) {
  const auto found =
      std::find_if(request->inputs.begin(), request->inputs.end(), [&](auto& i) { return i.name == name; });
  if (found == request->inputs.end()) return live(TRITONSERVER_Error{"no such input"});
  return call([&] { *input = &*found; });
}
TRITONSERVER_Error* TRITONBACKEND_RequestOutputCount(TRITONBACKEND_Request* request, uint32_t* count) {
  return call([&] { *count = static_cast<uint32_t>(request->outputs.size()); });
}
TRITONSERVER_Error* TRITONBACKEND_RequestOutputName(TRITONBACKEND_Request* request, uint32_t idx,
                                                    const char** name) {
  return call([&] { *name = request->outputs[idx].c_str(); });
}
TRITONSERVER_Error* TRITONBACKEND_RequestRelease(TRITONBACKEND_Request* request, uint32_t) {
  ++request->num_releases;
  return failure();
}
TRITONSERVER_Error* TRITONBACKEND_InputProperties(TRITONBACKEND_Input* input, const char** name,
                                                  TRITONSERVER_DataType* type, const int64_t** shape,
                                                  uint32_t* rank, uint64_t* num_bytes,
                                                  uint32_t* num_buffers) {
  return call([&] {
    *name = input->name.c_str(), *type = input->type, *shape = input->shape.data();
    *rank = static_cast<uint32_t>(input->shape.size()),
    *num_buffers = static_cast<uint32_t>(input->pieces.size());
    *num_bytes = 0;
    for (const std::string& piece : input->pieces) *num_bytes += piece.size();
  });
}
TRITONSERVER_Error* TRITONBACKEND_InputBuffer(TRITONBACKEND_Input* input, uint32_t idx, const void** buffer,
                                              uint64_t* num_bytes, TRITONSERVER_MemoryType* memory,
                                              int64_t* device) {
  return call([&] {
    *buffer = input->pieces[idx].data(), *num_bytes = input->pieces[idx].size();
    *memory = input->memory, *device = 99;
  });
}

TRITONSERVER_Error* TRITONBACKEND_ResponseNew(TRITONBACKEND_Response** response,
                                              TRITONBACKEND_Request* request) {
  return call([&] { *response = live(TRITONBACKEND_Response{request, {}}); });
}
TRITONSERVER_Error* TRITONBACKEND_ResponseOutput(TRITONBACKEND_Response* response,
                                                 TRITONBACKEND_Output** output, const char* name,
                                                 TRITONSERVER_DataType type, const int64_t* shape,
                                                 uint32_t rank) {
  return call([&] { *output = &(response->outputs[name] = {name, type, {shape, shape + rank}, {}}); });
}
TRITONSERVER_Error* TRITONBACKEND_OutputBuffer(TRITONBACKEND_Output* output, void** buffer,
                                               uint64_t num_bytes, TRITONSERVER_MemoryType* memory,
                                               int64_t*) {
  return call([&] {
    output->bytes.resize(num_bytes);
    *buffer = output->bytes.data();
    *memory = output->name == "on_gpu" ? TRITONSERVER_MEMORY_GPU : TRITONSERVER_MEMORY_CPU;
  });
}
TRITONSERVER_Error* TRITONBACKEND_ResponseSend(TRITONBACKEND_Response* response, uint32_t,
                                               TRITONSERVER_Error* error) {
  TRITONBACKEND_Request& request = *response->request;
  ++request.num_responses;
  if (error != nullptr)
    request.error = error->text;
  else
    request.answer = std::move(response->outputs);
  gone(response);
  return failure();
}

}  // extern "C"
