#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <ranges>
#include <string>
#include <vector>

#include "runtime/dtype.h"
#include "runtime/visibility.h"

namespace SOLDER_PUBLIC solder {

/// One extent, from any integer: {rows, values.size()}. From 2^63 on it is negative, and refused as such.
struct Extent {
  template <std::integral Integer>
  constexpr Extent(Integer extent) : value(static_cast<int64_t>(extent)) {}
  constexpr operator int64_t() const { return value; }

  int64_t value;
};

/// Extents of a tensor, outermost first. Rank 0 is a scalar; an extent of 0 makes the tensor empty.
class Shape : public std::vector<int64_t> {
 public:
  Shape() = default;
  Shape(std::initializer_list<Extent> extents) : vector(extents.begin(), extents.end()) {}
  explicit Shape(size_t rank, int64_t extent = 0) : vector(rank, extent) {}
  template <std::input_iterator Iterator>
  Shape(Iterator begin, Iterator end) : vector(begin, end) {}
  /// From any range of integers but characters, such as a std::vector<int>.
  template <class Range>
  requires(!std::same_as<Range, Shape> && std::integral<std::ranges::range_value_t<const Range>> &&
           sizeof(std::ranges::range_value_t<const Range>) > 1) Shape(const Range& extents) {
    std::ranges::copy(extents, std::back_inserter(*this));
  }
};

/// "[64, 3, 224, 224]".
std::string to_string(const Shape& shape);

/// Product of the extents. Throws Error(invalid_argument) on a negative extent or a product above 2^63 - 1.
int64_t num_elements(const Shape& shape);

/// num_elements(shape) * size_of(dtype), with the same checks; also throws where there is no such dtype.
int64_t num_bytes(const Shape& shape, DType dtype);

/// numpy's broadcasting: aligned at the last axis, extents must be equal or 1. False when they do not fit.
bool broadcast(const Shape& a, const Shape& b, Shape* result);

}  // namespace solder
