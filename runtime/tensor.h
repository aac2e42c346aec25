#pragma once

#include <memory>
#include <span>
#include <vector>

#include "runtime/device.h"
#include "runtime/dtype.h"
#include "runtime/shape.h"

namespace solder {

/// A dense row-major array on a device. Copying a Tensor shares the storage, as in PyTorch; nothing here
/// synchronises except `to`, whose copies are complete when it returns.
class Tensor {
 public:
  Tensor() = default;

  /// Uninitialised storage, aligned to 256 bytes. Throws Error(out_of_memory) with the bytes asked for.
  static Tensor empty(Shape shape, DType dtype = DType::float32, Device device = Device::cpu());

  /// A float32 CPU tensor with these values in row-major order; Error(shape_mismatch) on another count.
  static Tensor from(Shape shape, std::span<const float> values);

  /// A tensor over memory that the caller owns and keeps alive. `data` needs its element's alignment only.
  static Tensor view(void* data, Shape shape, DType dtype = DType::float32, Device device = Device::cpu());

  const Shape& shape() const { return shape_; }
  DType dtype() const { return dtype_; }
  Device device() const { return device_; }
  int64_t num_elems() const { return num_elems_; }
  int64_t num_bytes() const { return num_elems_ * size_of(dtype_); }

  void* data() const { return storage_.get(); }

  /// The elements of a float32 CPU tensor; Error(invalid_argument) on another.
  std::span<float> floats() const;

  /// This tensor on `device`: itself when it is there already, otherwise a finished copy.
  Tensor to(Device device) const;

  /// A CPU tensor converted to `dtype` (round to nearest even); Error(unsupported) on a device tensor.
  Tensor to(DType dtype) const;

 private:
  std::shared_ptr<void> storage_;
  Shape shape_{0};
  DType dtype_ = DType::float32;
  Device device_;
  int64_t num_elems_ = 0;
};

}  // namespace solder
