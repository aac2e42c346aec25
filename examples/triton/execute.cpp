#include "execute.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <vector>

#include "triton_errors.h"

namespace solder_triton {
namespace {

using solder::Device;
using solder::DType;
using solder::Shape;
using solder::Tensor;

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

}  // namespace

void execute(TRITONBACKEND_ModelInstance* triton_instance, Instance& instance,
             std::span<TRITONBACKEND_Request* const> requests) {
  std::vector<Part> parts;
  for (TRITONBACKEND_Request* request : requests) parts.push_back({request});
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

}  // namespace solder_triton
