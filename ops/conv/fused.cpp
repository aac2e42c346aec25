#include "ops/conv/fused.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "ops/conv/range/range.h"
#include "runtime/check.h"

namespace solder {

KernelShape kernel_shape(const ConvShape& s) {
  const auto narrow = [](int64_t extent) { return static_cast<int>(extent); };
  return {narrow(s.C),       narrow(s.H),        narrow(s.W),        narrow(s.K),        narrow(s.P()),
          narrow(s.Q()),     narrow(s.R),        narrow(s.S),        narrow(s.dil_h),    narrow(s.dil_w),
          narrow(s.pad_top), narrow(s.pad_left), narrow(s.stride_h), narrow(s.stride_w), narrow(s.N)};
}

bool weight_exponents(const ConvProblem& problem, std::vector<int32_t>* exponents, std::string* why_not) {
  if (!problem.weights) return *why_not = "the weights are not a parameter of the graph", false;
  if (problem.math == Math::fp32 && problem.shape.gemm_k() < 16)
    return *why_not = "fewer than 16 terms, which fp32's bound is too tight for", false;
  for (const uint32_t max_bits : problem.weights.largest()) {
    if (max_bits >= kNonFiniteBits)
      return *why_not = str("weights of channel ", exponents->size(), " are not finite"), false;
    exponents->push_back(max_bits == 0 ? 0 : 14 - std::ilogb(std::bit_cast<float>(max_bits)));
  }
  return true;
}

bool fit_float32(std::span<const int32_t> exponents, std::string* why_not) {
  if (std::ranges::all_of(exponents, [](int32_t e) { return e >= 14 - 60 && e <= 14 + 100; })) return true;
  return *why_not = "an output channel's largest weight lies outside [2^-100, 2^60]", false;
}

}  // namespace solder
