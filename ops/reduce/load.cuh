#pragma once
// How reductions load: by pointers whose type a kernel knows, or not.

#include "runtime/dtype.h"
#include "runtime/elements.cuh"

namespace solder {

/// N neighbours, by one instruction where they are aligned.
template <int N, class T>
__device__ Elements<T, N> load_neighbours(const T* from) {
  return *reinterpret_cast<const Elements<T, N>*>(from);
}

/// A place among elements whose type is no part of the kernel's.
struct AnyPointer {
  const void* at;
  DType dtype;

  __device__ AnyPointer operator+(int64_t offset) const {
    return {static_cast<const char*>(at) + offset * (dtype == DType::float32 ? 4 : 2), dtype};
  }
};

template <int N>
__device__ Elements<float, N> load_neighbours(AnyPointer from) {
  Elements<float, N> values;
  const auto convert = [&](const auto& loaded) {
#pragma unroll
    for (int e = 0; e < N; ++e) values.at[e] = to_float(loaded.at[e]);
  };
  if (from.dtype == DType::float32)
    convert(load_neighbours<N>(static_cast<const float*>(from.at)));
  else if (from.dtype == DType::float16)
    convert(load_neighbours<N>(static_cast<const __half*>(from.at)));
  else
    convert(load_neighbours<N>(static_cast<const __nv_bfloat16*>(from.at)));
  return values;
}

}  // namespace solder
