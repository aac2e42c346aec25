#pragma once

#include <cstdint>

#include "runtime/visibility.h"

namespace SOLDER_PUBLIC solder {

/// Element types a tensor may have. Arithmetic always runs in float32; the 16-bit types are storage.
enum class DType : uint8_t { float32, float16, bfloat16 };

/// "float32", "float16", "bfloat16".
constexpr const char* to_string(DType dtype) {
  switch (dtype) {
    case DType::float32: return "float32";
    case DType::float16: return "float16";
    case DType::bfloat16: return "bfloat16";
  }
  return "?";
}

/// Bytes an element takes.
constexpr int64_t size_of(DType dtype) { return dtype == DType::float32 ? 4 : 2; }

/// float32 -> bfloat16 bits, round to nearest even; a NaN stays a (quiet) NaN.
constexpr uint16_t bfloat16_from_float(float value) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

/// bfloat16 bits -> float32, exact.
constexpr float float_from_bfloat16(uint16_t bits) { return __builtin_bit_cast(float, uint32_t{bits} << 16); }

/// float32 -> IEEE binary16 bits, round to nearest even; beyond 65504 (rounded) becomes infinity.
constexpr uint16_t float16_from_float(float value) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);
  if (magnitude < 0x38800000u) {  // subnormal: in steps of 2^-24
    const uint32_t shift = 126 - (magnitude >> 23), significand = (magnitude & 0x7fffffu) | 0x800000u;
    if (shift > 24) return static_cast<uint16_t>(sign);  // less than half a step
    const uint32_t steps = (significand + (1u << (shift - 1)) - 1 + ((significand >> shift) & 1u)) >> shift;
    return static_cast<uint16_t>(sign | steps);
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

/// IEEE binary16 bits -> float32, exact.
constexpr float float_from_float16(uint16_t bits) {
  const uint32_t sign = uint32_t{bits & 0x8000u} << 16;
  const uint32_t exponent = (bits >> 10) & 0x1fu;
  const uint32_t fraction = bits & 0x3ffu;
  if (exponent == 0x1f) return __builtin_bit_cast(float, sign | 0x7f800000u | (fraction << 13));
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return __builtin_bit_cast(float, sign | __builtin_bit_cast(uint32_t, magnitude));
  }
  return __builtin_bit_cast(float, sign | ((exponent + 112) << 23) | (fraction << 13));
}

/// Element `idx` of an array of `dtype`, as float32.
inline float load_as_float(const void* data, DType dtype, int64_t idx) {
  if (dtype == DType::float32) return static_cast<const float*>(data)[idx];
  const uint16_t bits = static_cast<const uint16_t*>(data)[idx];
  return dtype == DType::float16 ? float_from_float16(bits) : float_from_bfloat16(bits);
}

/// Stores float32 `value` as element `idx` of an array of `dtype`, rounded to nearest even.
inline void store_from_float(void* data, DType dtype, int64_t idx, float value) {
  if (dtype == DType::float32) {
    static_cast<float*>(data)[idx] = value;
  } else {
    static_cast<uint16_t*>(data)[idx] =
        dtype == DType::float16 ? float16_from_float(value) : bfloat16_from_float(value);
  }
}

}  // namespace solder
