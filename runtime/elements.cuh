#pragma once
// What kernels over single elements share: stored types as float32, index arithmetic of either width, vectors of
// neighbours.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "runtime/divide.h"

namespace solder {

__device__ inline float to_float(float value) { return value; }
__device__ inline float to_float(__half value) { return __half2float(value); }
__device__ inline float to_float(__nv_bfloat16 value) { return __bfloat162float(value); }

/// To nearest even.
template <class T>
__device__ T from_float(float value);
template <>
__device__ inline float from_float<float>(float value) {
  return value;
}
template <>
__device__ inline __half from_float<__half>(float value) {
  return __float2half_rn(value);
}
template <>
__device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}

/// A divisor of indices: 32-bit ones must be under 2^31, as must it.
template <class Index>
struct IndexDivisor {
  Index divisor = 1;
  FastDivisor fast;

  IndexDivisor() = default;
  explicit IndexDivisor(int64_t by) : divisor(static_cast<Index>(by)) {
    if constexpr (sizeof(Index) == 4) fast = FastDivisor(divisor);
  }

  /// n / divisor; *rest is what remains.
  __device__ Index divide(Index n, Index* rest) const {
    Index quotient;
    if constexpr (sizeof(Index) == 4)
      quotient = fast.divide(n);
    else
      quotient = n / divisor;
    *rest = n - quotient * divisor;
    return quotient;
  }
};

/// kSize neighbours, moved by one instruction where they take up to 16 bytes.
template <class T, int kSize>
struct alignas(sizeof(T) * kSize) Elements {
  T at[kSize];
};

/// How many neighbours of a type make 16 bytes.
template <class T>
inline constexpr int kVectorElems = 16 / static_cast<int>(sizeof(T));

}  // namespace solder
