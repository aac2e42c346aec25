#pragma once

namespace solder {

/// How float32 convolutions and matrix products may compute. Their error before what follows them, T terms,
/// A = max|x| over the image (of a matrix product: over the row):
///  fp32 (the default):  T 2^-24 sum|x w| + 2^-32 A sum|w|
///  tf32:                (2^-10 + T 2^-24) sum|x w| + 2^-24 A sum|w|: operands rounded to an 11-bit significand,
///                       sums in float32, float32's range
/// The terms in A are for images whose values lie more than 2^8 (tf32: 2^14) apart. NOTE: what runs through cuBLAS
/// (matrix products, im2col) takes subnormal operands for zero with tf32.
enum class Math { fp32, tf32 };

inline const char* to_string(Math math) { return math == Math::fp32 ? "fp32" : "tf32"; }

}  // namespace solder
