#include "runtime/tensor.h"

#include <cstring>

#include "runtime/check.h"
#include "runtime/memory.h"

namespace solder {

Tensor Tensor::empty(Shape shape, DType dtype, Device device) try {
  Tensor tensor = view(nullptr, std::move(shape), dtype, device);
  tensor.storage_ = allocate(device, tensor.num_bytes());
  return tensor;
}
SOLDER_HOST_MEMORY("Tensor::empty()")

Tensor Tensor::from(Shape shape, std::span<const float> values) try {
  const int64_t expected = num_elements(shape);
  SOLDER_REQUIRE(expected == static_cast<int64_t>(values.size()), shape_mismatch, "a tensor of shape ",
                 to_string(shape), " takes ", expected, " values, not ", values.size());
  Tensor tensor = empty(std::move(shape));
  if (!values.empty()) std::memcpy(tensor.data(), values.data(), values.size_bytes());
  return tensor;
}
SOLDER_HOST_MEMORY("Tensor::from()")

Tensor Tensor::view(void* data, Shape shape, DType dtype, Device device) try {
  Tensor tensor;
  solder::num_bytes(shape, dtype);  // refuses shapes whose bytes overflow
  tensor.num_elems_ = num_elements(shape);
  tensor.storage_ = std::shared_ptr<void>(data, [](void*) {});
  tensor.shape_ = std::move(shape);
  tensor.dtype_ = dtype;
  tensor.device_ = device;
  return tensor;
}
SOLDER_HOST_MEMORY("Tensor::view()")

std::span<float> Tensor::floats() const {
  SOLDER_REQUIRE(dtype_ == DType::float32 && !device_.is_cuda(), invalid_argument,
                 "floats() reads float32 CPU tensors; this one is ", to_string(dtype_), " on ",
                 to_string(device_), ": use to()");
  return {static_cast<float*>(data()), static_cast<size_t>(num_elems_)};
}

Tensor Tensor::to(Device device) const try {
  if (device == device_) return *this;
  Tensor result = empty(shape_, dtype_, device);
  copy(result.data(), device, data(), device_, num_bytes());
  return result;
}
SOLDER_HOST_MEMORY("Tensor::to()")

Tensor Tensor::to(DType dtype) const try {
  if (dtype == dtype_) return *this;
  SOLDER_REQUIRE(!device_.is_cuda(), unsupported, "converting a tensor on ", to_string(device_), " to ",
                 to_string(dtype), ": move it to the CPU first, or put a cast in the graph");
  Tensor result = empty(shape_, dtype);
  for (int64_t i = 0; i < num_elems_; ++i)
    store_from_float(result.data(), dtype, i, load_as_float(data(), dtype_, i));
  return result;
}
SOLDER_HOST_MEMORY("Tensor::to()")

}  // namespace solder
