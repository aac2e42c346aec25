// A backend for Triton Inference Server: what the server calls, over solder's public API. README.md says how it is used.
#include <solder/solder.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <new>
#include <span>

#include "served_model.h"
#include "triton_api.h"

namespace solder_triton {
namespace {

using solder::Device;
using solder::DType;
using solder::Shape;
using solder::Tensor;

/// What a call of Triton's refused.
struct Refused {
  TRITONSERVER_Error* error;
};

void check(TRITONSERVER_Error* error) {
  if (error != nullptr) throw Refused{error};
}

TRITONSERVER_Error_Code code_of(solder::ErrorKind kind) {
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
void drop(TRITONSERVER_Error* error) {
  if (error != nullptr) TRITONSERVER_ErrorDelete(error);
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
  return read_config(read_json({json, num_bytes}));
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
  const ModelConfig config = config_of(model);
  auto served = std::make_unique<ServedModel>(solder::str(location, "/", version), config);
  bool completes = false;
  check(TRITONBACKEND_ModelAutoCompleteConfig(model, &completes));
  if (completes) complete(model, served->config());
  return served;
}

std::unique_ptr<Instance> start(TRITONBACKEND_ModelInstance* instance) {
  TRITONBACKEND_Model* model = nullptr;
  void* served = nullptr;
  TRITONSERVER_InstanceGroupKind kind{};
  int32_t gpu = 0;
  check(TRITONBACKEND_ModelInstanceModel(instance, &model));
  check(TRITONBACKEND_ModelState(model, &served));
  check(TRITONBACKEND_ModelInstanceKind(instance, &kind));
  check(TRITONBACKEND_ModelInstanceDeviceId(instance, &gpu));
  const Device device = kind == TRITONSERVER_INSTANCEGROUPKIND_GPU   ? Device::cuda(gpu)
                        : kind == TRITONSERVER_INSTANCEGROUPKIND_CPU ? Device::cpu()
                                                                     : Device::best();
  return std::make_unique<Instance>(*static_cast<ServedModel*>(served), device);
}

TRITONSERVER_DataType type_of(DType dtype) {
  return dtype == DType::float32   ? TRITONSERVER_TYPE_FP32
         : dtype == DType::float16 ? TRITONSERVER_TYPE_FP16
                                   : TRITONSERVER_TYPE_BF16;
}

/// `num_bytes` of an input, which may come in pieces and lie on a GPU.
void copy_input(TRITONBACKEND_Input* input, const char* name, uint32_t num_buffers, DType dtype,
                std::byte* to, uint64_t num_bytes) {
  uint64_t done = 0;
  for (uint32_t i = 0; i < num_buffers; ++i) {
    const void* buffer = nullptr;
    uint64_t size = 0;
    TRITONSERVER_MemoryType memory = TRITONSERVER_MEMORY_CPU;
    int64_t gpu = 0;
    check(TRITONBACKEND_InputBuffer(input, i, &buffer, &size, &memory, &gpu));
    SOLDER_REQUIRE(size <= num_bytes - done, shape_mismatch, "input ", name,
                   " has more bytes than its shape");
    Tensor piece;
    if (memory == TRITONSERVER_MEMORY_GPU) {
      const Shape elements{static_cast<int64_t>(size) / size_of(dtype)};
      piece = Tensor::view(const_cast<void*>(buffer), elements, dtype, Device::cuda(static_cast<int>(gpu)))
                  .to(Device::cpu());
      buffer = piece.data();
    }
    std::memcpy(to + done, buffer, size);
    done += size;
  }
  SOLDER_REQUIRE(done == num_bytes, shape_mismatch, "input ", name, " has ", done, " bytes; its shape has ",
                 num_bytes);
}

/// A request of a batch, and its rows there.
struct Part {
  TRITONBACKEND_Request* request;
  TRITONBACKEND_Response* response = nullptr;
  TRITONSERVER_Error* error = nullptr;
  int64_t begin = 0, rows = 0;
};

/// Copies a request's inputs to rows from `begin` on. Returns how many there are.
int64_t take_inputs(const Instance& instance, TRITONBACKEND_Request* request, int64_t begin) {
  int64_t rows = instance.config().max_batch > 0 ? -1 : 1;
  for (const auto& [name, whole] : instance.inputs()) {
    TRITONBACKEND_Input* input = nullptr;
    const char* same_name = nullptr;
    TRITONSERVER_DataType type{};
    const int64_t* extents = nullptr;
    uint32_t rank = 0, num_buffers = 0;
    uint64_t num_bytes = 0;
    check(TRITONBACKEND_RequestInput(request, name.c_str(), &input));
    check(TRITONBACKEND_InputProperties(input, &same_name, &type, &extents, &rank, &num_bytes, &num_buffers));
    const Shape shape(extents, extents + rank);
    if (rows < 0 && rank > 0) rows = shape[0];
    const Shape wanted = instance.shape(whole, std::max<int64_t>(rows, 0));
    SOLDER_REQUIRE(type == type_of(whole.dtype()) && shape == wanted, shape_mismatch, "input ", name, " is ",
                   to_string(whole.dtype()), " ", to_string(wanted), ", not type ", int{type}, " ",
                   to_string(shape));
    SOLDER_REQUIRE(rows <= instance.max_rows() - begin, invalid_argument, "more rows than max_batch_size, ",
                   begin + rows);
    copy_input(input, name.c_str(), num_buffers, whole.dtype(), instance.row(whole, begin),
               static_cast<uint64_t>(rows * instance.row_bytes(whole)));
  }
  return rows;
}

/// Copies the outputs that a request wants into its response.
void give_outputs(const Instance& instance, const Part& part) {
  uint32_t count = 0;
  check(TRITONBACKEND_RequestOutputCount(part.request, &count));
  for (uint32_t i = 0; i < count; ++i) {
    const char* name = nullptr;
    TRITONBACKEND_Output* output = nullptr;
    void* buffer = nullptr;
    TRITONSERVER_MemoryType memory = TRITONSERVER_MEMORY_CPU;
    int64_t gpu = 0;
    check(TRITONBACKEND_RequestOutputName(part.request, i, &name));
    const Tensor& whole = instance.outputs().at(name);
    const Shape shape = instance.shape(whole, part.rows);
    const auto num_bytes = static_cast<uint64_t>(part.rows * instance.row_bytes(whole));
    check(TRITONBACKEND_ResponseOutput(part.response, &output, name, type_of(whole.dtype()), shape.data(),
                                       static_cast<uint32_t>(shape.size())));
    check(TRITONBACKEND_OutputBuffer(output, &buffer, num_bytes, &memory, &gpu));
    SOLDER_REQUIRE(memory != TRITONSERVER_MEMORY_GPU, unsupported, "output ", name,
                   " is wanted on a GPU; solder gives it on the host");
    std::memcpy(buffer, instance.row(whole, part.begin), num_bytes);
  }
}

uint64_t now_ns() {
  return static_cast<uint64_t>(
      std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count());
}

/// Answers and gives back every request, whatever happens to one of them or to the run.
void execute(TRITONBACKEND_ModelInstance* triton_instance, Instance& instance, std::span<Part> parts) {
  const uint64_t begin_ns = now_ns();
  int64_t rows = 0;
  for (Part& part : parts) {
    part.error = guarded([&] {
      check(TRITONBACKEND_ResponseNew(&part.response, part.request));
      part.begin = rows;
      part.rows = take_inputs(instance, part.request, part.begin);
      rows += part.rows;
    });
  }
  const uint64_t compute_begin_ns = now_ns();
  std::exception_ptr failure;
  try {
    instance.run(rows);
  } catch (...) {
    failure = std::current_exception();
  }
  const uint64_t compute_end_ns = now_ns();
  for (Part& part : parts) {
    if (part.error == nullptr)
      part.error = guarded([&] {
        if (failure) std::rethrow_exception(failure);
        give_outputs(instance, part);
      });
    if (part.response != nullptr)
      drop(TRITONBACKEND_ResponseSend(part.response, TRITONSERVER_RESPONSE_COMPLETE_FINAL, part.error));
    drop(TRITONBACKEND_ModelInstanceReportStatistics(triton_instance, part.request, part.error == nullptr,
                                                     begin_ns, compute_begin_ns, compute_end_ns, now_ns()));
    drop(TRITONBACKEND_RequestRelease(part.request, TRITONSERVER_REQUEST_RELEASE_ALL));
    drop(part.error);
  }
  if (rows > 0)
    drop(TRITONBACKEND_ModelInstanceReportBatchStatistics(
        triton_instance, static_cast<uint64_t>(rows), begin_ns, compute_begin_ns, compute_end_ns, now_ns()));
}

}  // namespace
}  // namespace solder_triton

using namespace solder_triton;

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
  return guarded([&] {
    void* served = nullptr;
    check(TRITONBACKEND_ModelState(model, &served));
    delete static_cast<ServedModel*>(served);
  });
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
    void* instance = nullptr;
    check(TRITONBACKEND_ModelInstanceState(triton_instance, &instance));
    delete static_cast<Instance*>(instance);
  });
}

TRITONSERVER_Error* TRITONBACKEND_ModelInstanceExecute(TRITONBACKEND_ModelInstance* triton_instance,
                                                       TRITONBACKEND_Request** requests,
                                                       const uint32_t count) {
  return guarded([&] {
    void* state = nullptr;
    check(TRITONBACKEND_ModelInstanceState(triton_instance, &state));
    auto& instance = *static_cast<Instance*>(state);
    std::vector<Part> parts;
    for (uint32_t i = 0; i < count; ++i) parts.push_back({requests[i]});
    const size_t together = instance.config().max_batch > 0 ? parts.size() : 1;
    for (size_t i = 0; i < parts.size(); i += together)
      execute(triton_instance, instance, std::span(parts).subspan(i, together));
  });
}

}  // extern "C"
