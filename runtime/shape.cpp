#include "runtime/shape.h"

#include <algorithm>

#include "runtime/check.h"

namespace solder {

std::string to_string(const Shape& shape) {
  TextStream out;
  out << '[';
  for (size_t axis = 0; axis < shape.size(); ++axis) out << (axis ? ", " : "") << shape[axis];
  out << ']';
  return out.str();
}

int64_t num_elements(const Shape& shape) {
  int64_t product = 1;
  bool empty = false;
  for (const int64_t extent : shape) {
    SOLDER_REQUIRE(extent >= 0, invalid_argument, "shape ", to_string(shape), " has a negative extent");
    if (extent == 0) {
      empty = true;  // still look at the other extents: one of them may be negative
      continue;
    }
    SOLDER_REQUIRE(!__builtin_mul_overflow(product, extent, &product), invalid_argument, "shape ",
                   to_string(shape), " has more than 2^63 - 1 elements");
  }
  return empty ? 0 : product;
}

int64_t num_bytes(const Shape& shape, DType dtype) {
  int64_t bytes = 0;
  SOLDER_REQUIRE(dtype <= DType::bfloat16, invalid_argument, "dtype ", static_cast<int>(dtype),
                 " is none of float32, float16 and bfloat16");
  SOLDER_REQUIRE(!__builtin_mul_overflow(num_elements(shape), size_of(dtype), &bytes), invalid_argument,
                 "shape ", to_string(shape), " of ", to_string(dtype), " takes more than 2^63 - 1 bytes");
  return bytes;
}

bool broadcast(const Shape& a, const Shape& b, Shape* result) {
  const size_t rank = std::max(a.size(), b.size());
  Shape out(rank);
  for (size_t i = 0; i < rank; ++i) {  // i counts axes from the last
    const int64_t extent_a = i < a.size() ? a[a.size() - 1 - i] : 1;
    const int64_t extent_b = i < b.size() ? b[b.size() - 1 - i] : 1;
    if (extent_a != extent_b && extent_a != 1 && extent_b != 1) return false;
    out[rank - 1 - i] = extent_a == 1 ? extent_b : extent_a;
  }
  *result = std::move(out);
  return true;
}

}  // namespace solder
