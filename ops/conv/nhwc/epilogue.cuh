#pragma once
// What conv_nhwc_kernel does with its sums once they are vectors: 8 channels of one pixel, in one thread.

#include "ops/conv/epilogue/epilogue.cuh"
#include "ops/conv/nhwc/params.cuh"
#include "ops/elementwise/pair16.cuh"

namespace solder::nhwc {

constexpr int kVector = 8;

/// What the sums of 8 channels are multiplied by, and what is added then.
struct Channels {
  float scale[kVector], bias[kVector];
};

__device__ __forceinline__ void load_row(uint32_t smem, float (&values)[kVector]) {
  const float4 low = sm80::load_shared(smem), high = sm80::load_shared(smem + 16);
  values[0] = low.x, values[1] = low.y, values[2] = low.z, values[3] = low.w;
  values[4] = high.x, values[5] = high.y, values[6] = high.z, values[7] = high.w;
}

/// From where the scales lie, and `table` channels behind them the biases.
__device__ __forceinline__ Channels load_channels(uint32_t smem, int table) {
  Channels channels;
  load_row(smem, channels.scale);
  load_row(smem + table * 4, channels.bias);
  return channels;
}

/// Asks for the scales and biases of `count` channels from `first` on; they are there after finish_channels().
__device__ inline void start_channels(const Params& p, int first, int count, uint32_t channels_smem,
                                      int thread_of_group) {
  for (int i = thread_of_group; i < count; i += 128) {
    const int channel = first + i;
    sm80::copy_async(channels_smem + 4 * i, p.scales + channel, true);
    const bool has_bias = p.bias != nullptr && channel < p.K;
    sm80::copy_async(channels_smem + 4 * (count + i), has_bias ? p.bias + channel : p.scales, has_bias);
  }
  sm80::copy_async_commit();
}

/// Of all threads of a group; also orders what they read of the last tile before what they write for this one.
__device__ inline void finish_channels(int group) {
  sm80::copy_async_wait<0>();
  sm80::named_barrier_sync(1 + group, 128);
}

/// mish of neighbours with one reciprocal for two (see fast_mish): special functions are what bounds it. Down to
/// kLeast, where denominators reach 2 e^40; below, which is rare, one by one.
template <int N>
__device__ __forceinline__ void activate_mish(float (&values)[N]) {
  constexpr float kLeast = -20;
  float result[N];
#pragma unroll
  for (int i = 0; i < N; i += 2) {
    float numerator[2], denominator[2];
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const float g = math::exp2_approx(fmaf(math::larger(values[i + e], kLeast), -1.44269504f, 0.5f));
      numerator[e] = fmaf(g, 1.41421356f, 1.0f);
      denominator[e] = fmaf(g, g, numerator[e]);
      numerator[e] *= values[i + e];
    }
    const float both = math::reciprocal_approx(denominator[0] * denominator[1]);
    result[i] = numerator[0] * (both * denominator[1]);
    result[i + 1] = numerator[1] * (both * denominator[0]);
  }
  if (math::any_below(values, kLeast)) [[unlikely]] {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float alone = values[i] < math::kTail ? fast_tail(values[i]) : fast_mish(values[i]);
      result[i] = values[i] < kLeast ? alone : result[i];
    }
  }
#pragma unroll
  for (int i = 0; i < N; ++i) values[i] = result[i];
}

/// The vector of `pixel` and `channel` in a tensor whose pixels are one stride apart.
__device__ __forceinline__ uint32_t vector_of(const Surface& surface, int pixel, int channel) {
  return static_cast<uint32_t>(pixel) * surface.pixel_vectors + static_cast<uint32_t>(channel) / kVector;
}

/// Vectors of the same channels that a thread works on together: their pixels (-1: none), and their residual on its way.
template <int kItems>
struct Batch {
  int pixels[kItems];
  uint4 residuals[kItems];
};

/// Of the residual's channels those behind the last are its padding, or another tensor's.
template <int kItems>
__device__ __forceinline__ void load_residuals(const Params& p, int channel, Batch<kItems>* batch) {
  if (p.residual.data == nullptr) return;
#pragma unroll
  for (int i = 0; i < kItems; ++i)
    if (batch->pixels[i] >= 0 && channel < p.K)
      batch->residuals[i] =
          static_cast<const uint4*>(p.residual.data)[vector_of(p.residual, batch->pixels[i], channel)];
}

template <DType kDtype, int kItems>
__device__ __forceinline__ void add_residuals(const Batch<kItems>& batch, float (&values)[kItems * kVector]) {
#pragma unroll
  for (int item = 0; item < kItems; ++item) {
    const uint4 residual = batch.residuals[item];
    const uint32_t words[4] = {residual.x, residual.y, residual.z, residual.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 pair = unpack_pair(kDtype, words[i]);
      values[item * 8 + 2 * i] += pair.x, values[item * 8 + 2 * i + 1] += pair.y;
    }
  }
}

template <int N>
__device__ __forceinline__ void activate(const Params& p, float (&values)[N]) {
  if (p.activation == ConvChain::relu) {
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] = sm80::max_nan(values[i], 0.0f);
  } else if (p.activation == ConvChain::mish) {
    activate_mish(values);
  } else {
    ConvEpilogue epilogue;
    epilogue.activation = p.activation, epilogue.slope = p.slope;
    run_any_activation<true>(epilogue, values);
  }
}

/// Where a vector lies in shared memory: its first four values, and `half` bytes behind them the others.
struct Staged {
  uint32_t smem, half;
};

/// Of a result that lies in any other way: value by value, out of the vector's place.
template <DType kDtype>
__device__ __forceinline__ void store_spread(const Params& p, int pixel, int channel, Staged staged,
                                             const float* values) {
#pragma unroll
  for (int i = 0; i < kVector; i += 2)
    sm80::store_shared(staged.smem + (i < 4 ? 0 : staged.half) + i % 4 * 4, values[i], values[i + 1]);
  const int n = static_cast<int>(p.by_pixels.divide(pixel));
  int64_t at = n * p.y.image + (pixel - n * p.P * p.Q) * p.y.pixel + channel * p.y.channel;
#pragma unroll 1
  for (int i = 0; i < kVector && channel + i < p.K; ++i, at += p.y.channel) {
    const float value = sm80::load_shared_one(staged.smem + (i < 4 ? 0 : staged.half) + i % 4 * 4);
    if (p.y.is_float32)
      static_cast<float*>(p.y.data)[at] = value;
    else
      static_cast<uint16_t*>(p.y.data)[at] = static_cast<uint16_t>(pack_pair(kDtype, value, 0));
  }
}

/// Sums of a batch to results, stored.
template <DType kDtype, int kItems>
__device__ __forceinline__ void finish(const Params& p, const Channels& channels, const Batch<kItems>& batch,
                                       int channel, const Staged (&staged)[kItems],
                                       float (&values)[kItems * kVector]) {
#pragma unroll
  for (int i = 0; i < kItems * kVector; ++i)
    values[i] = fmaf(values[i], channels.scale[i % kVector], channels.bias[i % kVector]);
  if (p.residual_at == ResidualAt::before) add_residuals<kDtype, kItems>(batch, values);
  activate(p, values);
  if (p.residual_at == ResidualAt::after) add_residuals<kDtype, kItems>(batch, values);
  const bool by_vectors = p.y.by_vectors && !p.y.is_float32 && channel + kVector <= p.K;
#pragma unroll
  for (int item = 0; item < kItems; ++item) {
    const float* const of = values + item * kVector;
    if (batch.pixels[item] < 0 || channel >= p.K) continue;
    if (by_vectors) [[likely]] {
      static_cast<uint4*>(p.y.data)[vector_of(p.y, batch.pixels[item], channel)] =
          make_uint4(pack_pair(kDtype, of[0], of[1]), pack_pair(kDtype, of[2], of[3]),
                     pack_pair(kDtype, of[4], of[5]), pack_pair(kDtype, of[6], of[7]));
    } else {
      store_spread<kDtype>(p, batch.pixels[item], channel, staged[item], of);
    }
  }
}

}  // namespace solder::nhwc
