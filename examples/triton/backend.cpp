// A backend for Triton Inference Server: what the server calls, over solder's public API. README.md says how it is used.
#include <solder/solder.h>

#include <memory>

#include "execute.h"
#include "served_model.h"
#include "triton_errors.h"

namespace solder_triton {
namespace {

using solder::Device;

/// What was kept with a model or an instance; null where its start has failed.
template <class State, class Owner>
State* state_of(Owner* owner, TRITONSERVER_Error* (*get)(Owner*, void**)) {
  void* state = nullptr;
  check(get(owner, &state));
  return static_cast<State*>(state);
}

struct MessageDelete {
  void operator()(TRITONSERVER_Message* message) const { drop(TRITONSERVER_MessageDelete(message)); }
};
using Message = std::unique_ptr<TRITONSERVER_Message, MessageDelete>;

ModelConfig config_of(TRITONBACKEND_Model* model) {
  TRITONSERVER_Message* message = nullptr;
  check(TRITONBACKEND_ModelConfig(model, 1, &message));
  const Message owner(message);
  const char* json = nullptr;
  size_t num_bytes = 0;
  check(TRITONSERVER_MessageSerializeToJson(message, &json, &num_bytes));
  return read_config({json, num_bytes});
}

void complete(TRITONBACKEND_Model* model, const ModelConfig& config) {
  const std::string json = completed_json(config);
  TRITONSERVER_Message* message = nullptr;
  check(TRITONSERVER_MessageNewFromSerializedJson(&message, json.data(), json.size()));
  const Message owner(message);
  check(TRITONBACKEND_ModelSetConfig(model, 1, message));
}

std::unique_ptr<ServedModel> load(TRITONBACKEND_Model* model) {
  TRITONBACKEND_ArtifactType type{};
  const char* location = nullptr;
  uint64_t version = 0;
  check(TRITONBACKEND_ModelRepository(model, &type, &location));
  check(TRITONBACKEND_ModelVersion(model, &version));
  auto served = std::make_unique<ServedModel>(solder::str(location, "/", version), config_of(model));
  bool completes = false;
  check(TRITONBACKEND_ModelAutoCompleteConfig(model, &completes));
  if (completes) complete(model, served->config());
  return served;
}

std::unique_ptr<Instance> start(TRITONBACKEND_ModelInstance* instance) {
  TRITONBACKEND_Model* model = nullptr;
  TRITONSERVER_InstanceGroupKind kind{};
  int32_t gpu = 0;
  check(TRITONBACKEND_ModelInstanceModel(instance, &model));
  check(TRITONBACKEND_ModelInstanceKind(instance, &kind));
  check(TRITONBACKEND_ModelInstanceDeviceId(instance, &gpu));
  const Device device = kind == TRITONSERVER_INSTANCEGROUPKIND_GPU   ? Device::cuda(gpu)
                        : kind == TRITONSERVER_INSTANCEGROUPKIND_CPU ? Device::cpu()
                                                                     : Device::best();
  return std::make_unique<Instance>(*state_of<ServedModel>(model, TRITONBACKEND_ModelState), device);
}

}  // namespace
}  // namespace solder_triton

using namespace solder_triton;

// The server looks these up by name; what is not marked is hidden.
#pragma GCC visibility push(default)
extern "C" {

TRITONSERVER_Error* TRITONBACKEND_Initialize(TRITONBACKEND_Backend*) {
  return guarded([] {
    uint32_t major = 0, minor = 0;
    check(TRITONBACKEND_ApiVersion(&major, &minor));
    SOLDER_REQUIRE(major == kTritonBackendApiMajor, unsupported, "the server's backend interface is ", major,
                   ".", minor, "; this backend is for ", kTritonBackendApiMajor);
  });
}

TRITONSERVER_Error* TRITONBACKEND_ModelInitialize(TRITONBACKEND_Model* model) {
  return guarded([&] {
    auto served = load(model);
    check(TRITONBACKEND_ModelSetState(model, served.get()));
    served.release();
  });
}

TRITONSERVER_Error* TRITONBACKEND_ModelFinalize(TRITONBACKEND_Model* model) {
  return guarded(
      [&] { std::unique_ptr<ServedModel>(state_of<ServedModel>(model, TRITONBACKEND_ModelState)); });
}

TRITONSERVER_Error* TRITONBACKEND_ModelInstanceInitialize(TRITONBACKEND_ModelInstance* triton_instance) {
  return guarded([&] {
    auto instance = start(triton_instance);
    check(TRITONBACKEND_ModelInstanceSetState(triton_instance, instance.get()));
    instance.release();
  });
}

TRITONSERVER_Error* TRITONBACKEND_ModelInstanceFinalize(TRITONBACKEND_ModelInstance* triton_instance) {
  return guarded([&] {
    std::unique_ptr<Instance>(state_of<Instance>(triton_instance, TRITONBACKEND_ModelInstanceState));
  });
}

TRITONSERVER_Error* TRITONBACKEND_ModelInstanceExecute(TRITONBACKEND_ModelInstance* triton_instance,
                                                       TRITONBACKEND_Request** requests,
                                                       const uint32_t count) {
  return guarded([&] {
    Instance& instance = *state_of<Instance>(triton_instance, TRITONBACKEND_ModelInstanceState);
    const size_t together = instance.config().max_batch > 0 ? count : 1;
    for (size_t i = 0; i < count; i += together)
      execute(triton_instance, instance, std::span(requests, count).subspan(i, together));
  });
}

}  // extern "C"
#pragma GCC visibility pop
