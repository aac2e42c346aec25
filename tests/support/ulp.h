#pragma once
// How far a float32 result is from its exact value, on the host and on the device alike.

#include <bit>
#include <cmath>
#include <cstdint>
#include <string>

#if defined(__CUDACC__)
#define SOLDER_TEST_HD __host__ __device__ inline
#else
#define SOLDER_TEST_HD inline
#endif

namespace solder::test {

SOLDER_TEST_HD uint32_t float_bits(float value) { return std::bit_cast<uint32_t>(value); }
SOLDER_TEST_HD uint64_t double_bits(double value) { return std::bit_cast<uint64_t>(value); }

/// float32's spacing at `exact`: 2^-149 below 2^-126, 2^104 from 2^127 on.
SOLDER_TEST_HD double float_spacing(double exact) {
  const int exponent = static_cast<int>((double_bits(exact) >> 52) & 0x7ff) - 1023;
  const int clamped = exponent < -126 ? -126 : exponent > 127 ? 127 : exponent;
  return std::bit_cast<double>(static_cast<uint64_t>(clamped - 23 + 1023) << 52);
}

/// A result against its exact value. `wrong`: NaN where the exact value is not, or the other way round;
/// finite where it is infinite; a zero of the other sign. Otherwise `ulp` is the distance in spacings, for
/// which infinity counts as 2^128, the number after the largest: overflow is right where it is by the bound.
struct Deviation {
  bool wrong = false;
  bool is_normal = false;  ///< |exact| >= 2^-126
  double ulp = 0;
};

SOLDER_TEST_HD Deviation deviation(float result, double exact) {
  const bool same_sign = (float_bits(result) >> 31) == (double_bits(exact) >> 63);
  const bool is_inf = (float_bits(result) & 0x7fffffffu) == 0x7f800000u;
  if (exact != exact || result != result) return {.wrong = (exact != exact) != (result != result)};
  if (exact - exact != 0) return {.wrong = !is_inf || !same_sign};
  if ((is_inf || result == 0) && !same_sign) return {.wrong = true};
  const double magnitude = exact < 0 ? -exact : exact;
  if (is_inf && magnitude >= 0x1p128) return {};
  const double distance = is_inf ? 0x1p128 - magnitude : static_cast<double>(result) - exact;
  return {.is_normal = magnitude >= 0x1p-126,
          .ulp = (distance < 0 ? -distance : distance) / float_spacing(exact)};
}

/// The largest deviations over many inputs. A worst case is one number, the deviation above the input's bits,
/// so that its maximum does not depend on the order in which the inputs come.
struct Worst {
  uint64_t normal = 0, subnormal = 0;  ///< the deviation's float32 bits, then the input's
  uint64_t num_wrong = 0;              ///< see Deviation
  uint64_t num_over = 0;               ///< normal results over the bound that holds at their input
  uint64_t num_different = 0;          ///< bits that differ from a second way to the same result
  uint64_t num_inputs = 0;
  uint32_t a_wrong_input = 0;  ///< bits of the largest (as bits) that was wrong, over or different

  static SOLDER_TEST_HD uint64_t key(double ulp, float input) {
    return static_cast<uint64_t>(float_bits(static_cast<float>(ulp))) << 32 | float_bits(input);
  }
  static float ulp(uint64_t key) { return std::bit_cast<float>(static_cast<uint32_t>(key >> 32)); }
  static float input(uint64_t key) { return std::bit_cast<float>(static_cast<uint32_t>(key)); }

  void merge(const Worst& other) {
    normal = normal > other.normal ? normal : other.normal;
    subnormal = subnormal > other.subnormal ? subnormal : other.subnormal;
    num_wrong += other.num_wrong;
    num_over += other.num_over;
    num_different += other.num_different;
    num_inputs += other.num_inputs;
    a_wrong_input = a_wrong_input > other.a_wrong_input ? a_wrong_input : other.a_wrong_input;
  }
};

}  // namespace solder::test
