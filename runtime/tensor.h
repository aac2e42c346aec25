#pragma once

#include <initializer_list>
#include <memory>
#include <span>
#include <utility>

#include "runtime/device.h"
#include "runtime/dtype.h"
#include "runtime/shape.h"
#include "runtime/visibility.h"

namespace SOLDER_PUBLIC solder {

/// The elements of a temporary Tensor, which they keep alive, in
/// `for (float v : session.run(inputs).at("y").floats())`. They do not turn into a std::span, which would
/// outlive the memory: give the Tensor a name for that.
class Floats {
 public:
  Floats(std::shared_ptr<void> storage, std::span<float> elements)
      : storage_(std::move(storage)), elements_(elements) {}
  operator std::span<const float>() && = delete;

  float* begin() const { return elements_.data(); }
  float* end() const { return begin() + size(); }
  float* data() const { return begin(); }
  size_t size() const { return elements_.size(); }
  bool empty() const { return elements_.empty(); }
  float& operator[](size_t idx) const { return elements_[idx]; }

 private:
  std::shared_ptr<void> storage_;
  std::span<float> elements_;
};

/// A dense row-major array on a device. Copying a Tensor shares the storage, as in PyTorch, and allocates
/// nothing; nothing here synchronises except `to`, whose copies are complete when it returns. One that was
/// moved from is empty, as a new one is: shape [0].
class Tensor {
 public:
  Tensor() = default;

  /// Uninitialised storage, aligned to 256 bytes. Throws Error(out_of_memory) with the bytes asked for.
  static Tensor empty(Shape shape, DType dtype = DType::float32, Device device = Device::cpu());

  /// A float32 CPU tensor with these values in row-major order; Error(shape_mismatch) on another count.
  static Tensor from(Shape shape, std::span<const float> values);
  static Tensor from(Shape shape, std::initializer_list<float> values) {
    return from(std::move(shape), std::span(values.begin(), values.size()));
  }

  /// A tensor over memory that the caller owns and keeps alive. Error(invalid_argument) unless `data` has its
  /// element's alignment; null is for tensors without elements.
  static Tensor view(void* data, Shape shape, DType dtype = DType::float32, Device device = Device::cpu());

  const Shape& shape() const&;
  Shape shape() && { return std::as_const(*this).shape(); }
  DType dtype() const { return dtype_; }
  Device device() const { return device_; }
  int64_t num_elems() const { return extents_ ? extents_->num_elems : 0; }
  int64_t num_bytes() const { return num_elems() * size_of(dtype_); }

  void* data() const { return storage_.get(); }

  /// The elements of a float32 CPU tensor; Error(invalid_argument) on another.
  std::span<float> floats() const&;
  Floats floats() && { return {storage_, std::as_const(*this).floats()}; }

  /// This tensor on `device`: itself when it is there already, otherwise a finished copy.
  Tensor to(Device device) const;

  /// A CPU tensor converted to `dtype` (round to nearest even); Error(unsupported) on a device tensor.
  Tensor to(DType dtype) const;

 private:
  struct Extents {
    Shape shape;
    int64_t num_elems;
  };
  Tensor(std::shared_ptr<void> storage, Shape shape, DType dtype, Device device);

  std::shared_ptr<void> storage_;
  std::shared_ptr<const Extents> extents_;  // shared by all copies; null: [0]
  DType dtype_ = DType::float32;
  Device device_;
};

}  // namespace solder
