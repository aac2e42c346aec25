#pragma once
// Powers of two by which images are scaled before they are rounded to float16.

#include <bit>
#include <cstdint>

namespace solder {

/// One image's state, in device memory.
struct ImageRange {
  int32_t exponent;   ///< x is multiplied by 2^exponent before it is rounded to float16
  uint32_t max_bits;  ///< max over the image of the bits of |x|; NaN and infinity are >= kNonFiniteBits
};

/// floor(log2 |x|) of a finite normal x from its bits; -127 for zero and subnormals.
constexpr int exponent_of_bits(uint32_t bits) { return static_cast<int>((bits & 0x7fffffffu) >> 23) - 127; }

/// 2^exponent, a normal float.
constexpr float power_of_two(int exponent) {
  return std::bit_cast<float>(static_cast<uint32_t>(exponent + 127) << 23);
}

inline constexpr int kMaxRangeExponent = 126;  ///< 2^exponent and 2^-exponent are normal floats

/// The exponent that puts a maximum of `max_bits` at `position`, or as near as kMaxRangeExponent allows.
constexpr int range_exponent(uint32_t max_bits, int position) {
  const int exponent = position - exponent_of_bits(max_bits);
  return exponent > kMaxRangeExponent ? kMaxRangeExponent : exponent;
}

/// Where the largest value of an image, or its bound, is put at most: floor(log2) of what is rounded to float16.
inline constexpr int kTopExponent = 14;

}  // namespace solder
