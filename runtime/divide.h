#pragma once

#include <cstdint>

namespace solder {

/// a / b rounded up, and the multiple of b that gives; a >= 0, b > 0.
constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

/// Division by a number that is known only at run time, as a multiplication (Granlund and Montgomery 1994).
/// For the host, for kernels, and for the text of those made at run time.
struct FastDivisor {
  uint32_t multiplier = 0;
  uint32_t shift = 0;

  constexpr FastDivisor() = default;
  /// 1 <= divisor <= 2^31.
  constexpr explicit FastDivisor(uint32_t divisor) {
    uint32_t bits = 0;
    while ((uint64_t{1} << bits) < divisor) ++bits;
    shift = 31 + bits;
    multiplier = static_cast<uint32_t>(((uint64_t{1} << shift) + divisor - 1) / divisor);
  }

  /// n / divisor, for n < 2^31.
  constexpr uint32_t divide(uint32_t n) const {
    return static_cast<uint32_t>(static_cast<uint64_t>(n) * multiplier >> shift);
  }
};

}  // namespace solder
