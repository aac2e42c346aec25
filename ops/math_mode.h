#pragma once

#include <array>
#include <optional>
#include <string_view>

#include "runtime/dtype.h"
#include "runtime/visibility.h"

namespace SOLDER_PUBLIC solder {

/// How float32 graphs may compute. Before bias and epilogue every element of a convolution or matrix product is within
/// a bound of the exact one (T terms; A = max|x| over the image, 0 for a matrix product):
///
///   fp32   T 2^-24 sum|x w| + 2^-32 A sum|w|              the default
///   tf32   (2^-10 + T 2^-24) sum|x w| + 2^-24 A sum|w|    operands rounded to an 11-bit significand, sums in
///                                                         float32, float32's range
///
/// The terms in A are there because fused kernels scale an image as a whole: they count in windows whose
/// values all lie far below its largest, by 2^8 T (fp32) or 2^14 (tf32).
/// What tf32 stores between convolutions may be rounded to 11 bits as well (on Hopper it is: ops/scaled.h): to within
/// 2^-11 |y| + 2^-39 B of y, B being what an element of the image can be at most: max|x| times the largest sum|w| of a
/// channel, and bias and residual besides. Of two convolutions one after the other the second may have the first one's B
/// for max|x|.
/// NOTE: with tf32 cuBLAS takes subnormal float32 operands for zero: in matrix products, and in its convolutions that
/// are 1x1 or whose weights are not known before the run.
///
///   fp16, bf16   every value between nodes, and what convolutions and matrix products multiply, is rounded to float16
///                or bfloat16; sums and elementwise arithmetic are float32, with one rounding a node
///
/// What a node stores is then within u |y| + T 2^-24 sum|x w| of y computed exactly from its stored inputs and rounded
/// weights, u = 2^-11 (fp16) or 2^-8 (bf16), plus its elementwise functions' bounds. Which values lie between nodes
/// depends on the graph and CompileOptions::fuse alone. Sums, means and extremes over axes stay float32, and so does
/// what is computed from such statistics and from parameters alone, until it meets another value. In fp16 weights that
/// are parameters, or what compile() makes of parameters before it runs (not with `.fuse = false`), are scaled by a power
/// of two for each output channel: none overflows, and only what is below 2^-39 of the largest there may become 0. Values beyond 65504 become infinite, as in PyTorch. Graph inputs and outputs stay float32; what is
/// only given out is not rounded.
enum class Math { fp32, tf32, fp16, bf16 };

inline constexpr std::array kMathModes = {Math::fp32, Math::tf32, Math::fp16, Math::bf16};
inline constexpr const char* kMathNames = "fp32, tf32, fp16 or bf16";

/// "fp32", "tf32", "fp16", "bf16".
constexpr const char* to_string(Math math) {
  switch (math) {
    case Math::fp32: return "fp32";
    case Math::tf32: return "tf32";
    case Math::fp16: return "fp16";
    case Math::bf16: return "bf16";
  }
  return "?";
}

/// The mode called `name`; nothing if none is.
constexpr std::optional<Math> math_named(std::string_view name) {
  for (const Math math : kMathModes)
    if (name == to_string(math)) return math;
  return {};
}

/// The type of values between nodes, and whether it has 16 bits.
constexpr DType dtype_of(Math math) {
  return math == Math::fp16 ? DType::float16 : math == Math::bf16 ? DType::bfloat16 : DType::float32;
}
constexpr bool is_16_bit(Math math) { return dtype_of(math) != DType::float32; }

}  // namespace solder
