#pragma once
// Images whose channels are innermost in memory, alone or as a part of wider pixels, among guards.

#include <algorithm>
#include <string>
#include <vector>

#include "runtime/divide.h"
#include "runtime/tensor_view.h"
#include "tests/support/support.h"

namespace solder::test {

/// How an image [N,C,H,W] lies: pixels of `pitch` elements, its channels from `first` on; 0: row-major as its shape.
struct Lie {
  std::string name;
  int64_t pitch = 0, first = 0;
};

inline std::vector<Lie> lies_of(int64_t channels) {
  const int64_t padded = round_up(channels, 8);
  return {{"row-major"},
          {"channels last", channels},
          {"channels last, padded", padded},
          {"a part of pixels", padded + 24, 16},
          {"a part that starts and ends anywhere", channels + 4, 3}};
}

/// An image in memory of its own.
struct PlacedImage {
  static constexpr uint16_t kGuard = 0x5a5a;
  static constexpr int64_t kAround = 64;  ///< elements before and behind it

  /// `values`, dense, as `lie` says on `device`.
  PlacedImage(const Tensor& values, const Lie& lie, Device device)
      : view(dense_view(nullptr, values.dtype(), values.shape())) {
    const Shape& s = values.shape();
    int64_t size = num_elements(s), first = kAround;
    if (lie.pitch > 0) {
      view.strides = {s[2] * s[3] * lie.pitch, 1, s[3] * lie.pitch, lie.pitch};
      size = s[0] * s[2] * s[3] * lie.pitch, first += lie.first;
    }
    Tensor host = Tensor::empty({size + 2 * kAround}, values.dtype());
    std::fill_n(static_cast<uint16_t*>(host.data()), host.num_bytes() / 2, kGuard);
    view.data = static_cast<std::byte*>(host.data()) + first * size_of(view.dtype);
    for_each([&](int64_t i, int64_t offset) {
      store_from_float(view.data, view.dtype, offset, load_as_float(values.data(), view.dtype, i));
    });
    memory = host.to(device);
    view.data = static_cast<std::byte*>(memory.data()) + first * size_of(view.dtype);
    first_ = first;
  }

  /// What lies there now, dense; all around it must be guards still.
  Tensor values() const {
    const Tensor there = memory.to(Device::cpu());
    Tensor host = Tensor::empty(there.shape(), view.dtype), result = Tensor::empty(view.shape, view.dtype);
    if (there.num_bytes() > 0) std::memcpy(host.data(), there.data(), static_cast<size_t>(there.num_bytes()));
    void* const data = static_cast<std::byte*>(host.data()) + first_ * size_of(view.dtype);
    for_each([&](int64_t i, int64_t offset) {
      store_from_float(result.data(), view.dtype, i, load_as_float(data, view.dtype, offset));
      std::fill_n(static_cast<uint16_t*>(data) + offset * size_of(view.dtype) / 2, size_of(view.dtype) / 2,
                  kGuard);
    });
    const auto* halves = static_cast<const uint16_t*>(host.data());
    CHECK(std::count(halves, halves + host.num_bytes() / 2, kGuard) == host.num_bytes() / 2);
    return result;
  }

  Tensor memory;
  TensorView view;

 private:
  // Calls body(i, offset) for each element, i counting them in row-major order of the shape.
  template <class Body>
  void for_each(const Body& body) const {
    const Shape &s = view.shape, &strides = view.strides;
    int64_t i = 0;
    for (int64_t n = 0; n < s[0]; ++n)
      for (int64_t c = 0; c < s[1]; ++c)
        for (int64_t h = 0; h < s[2]; ++h)
          for (int64_t w = 0; w < s[3]; ++w)
            body(i++, n * strides[0] + c * strides[1] + h * strides[2] + w * strides[3]);
  }

  int64_t first_ = 0;
};

}  // namespace solder::test
