#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/dtype.h"

namespace solder {

/// Extents of a tensor, outermost first. Rank 0 is a scalar; an extent of 0 makes the tensor empty.
using Shape = std::vector<int64_t>;

/// "[64, 3, 224, 224]".
std::string to_string(const Shape& shape);

/// Product of the extents. Throws Error(invalid_argument) on a negative extent or a product above 2^63 - 1.
int64_t num_elements(const Shape& shape);

/// num_elements(shape) * size_of(dtype), with the same checks.
int64_t num_bytes(const Shape& shape, DType dtype);

/// numpy's broadcasting: aligned at the last axis, extents must be equal or 1. False when they do not fit.
bool broadcast(const Shape& a, const Shape& b, Shape* result);

}  // namespace solder
