#pragma once

#include "runtime/visibility.h"

namespace SOLDER_PUBLIC solder {

/// How float32 convolutions and matrix products may compute. Before bias and epilogue every result is within
/// a bound of the exact one (T terms; A = max|x| over the image, 0 for a matrix product):
///
///   fp32   T 2^-24 sum|x w| + 2^-32 A sum|w|              the default
///   tf32   (2^-10 + T 2^-24) sum|x w| + 2^-24 A sum|w|    operands rounded to an 11-bit significand, sums in
///                                                         float32, float32's range
///
/// The terms in A are there because fused kernels scale an image as a whole: they count in windows whose
/// values all lie far below its largest, by 2^8 T (fp32) or 2^14 (tf32).
/// NOTE: cuBLAS (matrix products, im2col) takes subnormal operands for zero with tf32.
enum class Math { fp32, tf32 };

/// "fp32", "tf32".
inline const char* to_string(Math math) { return math == Math::fp32 ? "fp32" : "tf32"; }

}  // namespace solder
