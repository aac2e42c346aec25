#pragma once
// How kernels store 16-bit pixels: vectors, which are 8 channels of a pixel, 16 bytes, or single values. A kernel's Params
// have y, K, P, Q and by_pixels, which divides by P * Q.

#include "ops/conv/pixels/pixels.h"
#include "ops/elementwise/pair16.cuh"

namespace solder::pixels {

constexpr int kVector = 8;

/// values[first + i] += the i-th of four pairs, even and odd pairs times powers of two.
template <DType kDtype, int N>
__device__ __forceinline__ void add_pairs(const uint32_t (&words)[4], int first, float (&values)[N],
                                          float even_scale = 1, float odd_scale = 1) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = unpack_pair(kDtype, words[i]);
    const float scale = i % 2 == 0 ? even_scale : odd_scale;
    values[first + 2 * i] = fmaf(pair.x, scale, values[first + 2 * i]);
    values[first + 2 * i + 1] = fmaf(pair.y, scale, values[first + 2 * i + 1]);
  }
}

/// The four pairs as values[first] to values[first + 7].
template <DType kDtype, int N>
__device__ __forceinline__ void unpack_pairs(const uint32_t (&words)[4], int first, float (&values)[N]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = unpack_pair(kDtype, words[i]);
    values[first + 2 * i] = pair.x, values[first + 2 * i + 1] = pair.y;
  }
}

/// The vector of `pixel` and `channel` in a tensor whose pixels are one stride apart.
__device__ __forceinline__ uint32_t vector_of(const PixelSurface& surface, int pixel, int channel) {
  return static_cast<uint32_t>(pixel) * surface.pixel_vectors + static_cast<uint32_t>(channel) / kVector;
}

/// Whether y takes whole vectors.
template <class Params>
__device__ __forceinline__ bool takes_vectors(const Params& p) {
  return p.y.by_vectors && !p.y.is_float32;
}

/// A vector of 16-bit results in `surface`, or those of its channels that there are.
template <class Params>
__device__ __forceinline__ void store_vector(const Params& p, const PixelSurface& surface, int pixel,
                                             int channel, uint4 bits) {
  if (pixel < 0 || channel >= p.K) return;
  auto* const to = static_cast<uint4*>(surface.data) + vector_of(surface, pixel, channel);
  if (channel + kVector <= p.K) [[likely]] {
    *to = bits;
    return;
  }
  auto* element = reinterpret_cast<uint16_t*>(to);
#pragma unroll 1
  for (int left = p.K - channel; left > 0; --left) {
    *element++ = static_cast<uint16_t>(bits.x);
    bits.x = __funnelshift_r(bits.x, bits.y, 16), bits.y = __funnelshift_r(bits.y, bits.z, 16);
    bits.z = __funnelshift_r(bits.z, bits.w, 16), bits.w >>= 16;
  }
}

template <DType kDtype>
__device__ __forceinline__ uint4 pack_vector(const float (&values)[kVector]) {
  return make_uint4(pack_pair(kDtype, values[0], values[1]), pack_pair(kDtype, values[2], values[3]),
                    pack_pair(kDtype, values[4], values[5]), pack_pair(kDtype, values[6], values[7]));
}

/// Those of 8 values, a stride apart from `to` on, of which there are `count`.
template <DType kDtype, class T>
__device__ __forceinline__ void store_strided(T* to, int64_t stride, int count,
                                              const float (&values)[kVector]) {
#pragma unroll
  for (int i = 0; i < kVector; ++i, to += stride) {
    if constexpr (sizeof(T) == 4) {
      if (i < count) *to = values[i];
    } else {
      if (i < count) *to = static_cast<uint16_t>(pack_pair(kDtype, values[i], 0));
    }
  }
}

/// The results of 8 channels of a pixel from `channel` on, those that there are, where y does not take 16-bit vectors.
template <DType kDtype, class Params>
__device__ __forceinline__ void store_apart(const Params& p, int pixel, int channel,
                                            const float (&values)[kVector]) {
  if (pixel < 0) return;
  if (p.y.by_vectors && channel + kVector <= p.K) {  // float32 with channels innermost
    float4* const to = static_cast<float4*>(p.y.data) + vector_of(p.y, pixel, channel) * uint64_t{2};
    to[0] = make_float4(values[0], values[1], values[2], values[3]);
    to[1] = make_float4(values[4], values[5], values[6], values[7]);
    return;
  }
  const int n = static_cast<int>(p.by_pixels.divide(pixel));
  const int64_t at = n * p.y.image + (pixel - n * p.P * p.Q) * p.y.pixel + channel * p.y.channel;
  if (p.y.is_float32)
    store_strided<kDtype>(static_cast<float*>(p.y.data) + at, p.y.channel, p.K - channel, values);
  else
    store_strided<kDtype>(static_cast<uint16_t*>(p.y.data) + at, p.y.channel, p.K - channel, values);
}

/// The results of 8 channels of a pixel from `channel` on, those that there are.
template <DType kDtype, class Params>
__device__ __forceinline__ void store_results(const Params& p, int pixel, int channel,
                                              const float (&values)[kVector]) {
  if (takes_vectors(p)) [[likely]]
    store_vector(p, p.y, pixel, channel, pack_vector<kDtype>(values));
  else
    store_apart<kDtype>(p, pixel, channel, values);
}

}  // namespace solder::pixels
