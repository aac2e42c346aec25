#include "runtime/tensor.h"

#include <cstring>

#include "runtime/check.h"
#include "runtime/memory.h"

namespace solder {

Tensor::Tensor(std::shared_ptr<void> storage, Shape shape, DType dtype, Device device)
    : storage_(std::move(storage)), dtype_(dtype), device_(device) {
  const int64_t num_elems = num_elements(shape);
  extents_ = std::make_shared<Extents>(Extents{std::move(shape), num_elems});
}

Tensor Tensor::empty(Shape shape, DType dtype, Device device) try {
  const int64_t num_bytes = solder::num_bytes(shape, dtype);
  return {allocate(device, num_bytes), std::move(shape), dtype, device};
}
SOLDER_HOST_MEMORY("Tensor::empty()")

Tensor Tensor::from(Shape shape, std::span<const float> values) try {
  const int64_t expected = num_elements(shape);
  SOLDER_REQUIRE(expected == std::ssize(values), shape_mismatch, "a tensor of shape ", to_string(shape),
                 " takes ", expected, " values, not ", values.size());
  Tensor tensor = empty(std::move(shape));
  if (!values.empty()) std::memcpy(tensor.data(), values.data(), values.size_bytes());
  return tensor;
}
SOLDER_HOST_MEMORY("Tensor::from()")

Tensor Tensor::view(void* data, Shape shape, DType dtype, Device device) try {
  const int64_t num_bytes = solder::num_bytes(shape, dtype);  // refuses shapes whose bytes overflow
  SOLDER_REQUIRE(data != nullptr || num_bytes == 0, invalid_argument, "Tensor::view: shape ",
                 to_string(shape), " has elements, and the memory given for them is null");
  SOLDER_REQUIRE(reinterpret_cast<uintptr_t>(data) % size_of(dtype) == 0, invalid_argument,
                 "Tensor::view: the memory of a ", to_string(dtype), " tensor must be aligned to ",
                 size_of(dtype), " bytes; ", data, " is not");
  return {std::shared_ptr<void>(data, [](void*) {}), std::move(shape), dtype, device};
}
SOLDER_HOST_MEMORY("Tensor::view()")

const Shape& Tensor::shape() const& {
  static const Shape kNone{0};
  return extents_ ? extents_->shape : kNone;
}

std::span<float> Tensor::floats() const& {
  SOLDER_REQUIRE(dtype_ == DType::float32 && !device_.is_cuda(), invalid_argument,
                 "floats() reads float32 CPU tensors; this one is ", to_string(dtype_), " on ",
                 to_string(device_), ": use to()");
  return std::span(static_cast<float*>(data()), num_elems());
}

Tensor Tensor::to(Device device) const try {
  if (device == device_) return *this;
  Tensor result = empty(shape(), dtype_, device);
  copy(result.data(), device, data(), device_, num_bytes());
  return result;
}
SOLDER_HOST_MEMORY("Tensor::to()")

Tensor Tensor::to(DType dtype) const try {
  if (dtype == dtype_) return *this;
  SOLDER_REQUIRE(!device_.is_cuda(), unsupported, "converting a tensor on ", to_string(device_), " to ",
                 to_string(dtype), ": move it to the CPU first, or put a cast in the graph");
  Tensor result = empty(shape(), dtype);
  for (int64_t i = 0; i < num_elems(); ++i)
    store_from_float(result.data(), dtype, i, load_as_float(data(), dtype_, i));
  return result;
}
SOLDER_HOST_MEMORY("Tensor::to()")

}  // namespace solder
