#pragma once
// What conv_nhwc_kernel does with its sums, in whatever order a thread holds them.

#include "ops/conv/epilogue/epilogue.cuh"
#include "ops/conv/nhwc/params.cuh"
#include "ops/conv/pixels/epilogue.cuh"

namespace solder::nhwc {

using pixels::add_pairs, pixels::kVector, pixels::pack_vector, pixels::store_apart, pixels::store_vector,
    pixels::takes_vectors, pixels::unpack_pairs, pixels::vector_of;

/// Two channels' scales and then their biases, 16 bytes in shared memory.
constexpr int kChannelPairBytes = 16;

/// Where the scale of a table's channel is; its bias is 8 bytes on.
__device__ inline uint32_t channel_smem(uint32_t channels_smem, int channel) {
  return channels_smem + channel / 2 * kChannelPairBytes + channel % 2 * 4;
}

/// Asks for the scales and image n's biases of `count` channels from `first` on, and for those behind the residual; they are
/// there after finish_channels().
template <DType kDtype>
__device__ inline void start_channels(const Params& p, int n, int first, int count, uint32_t channels_smem,
                                      int thread_of_group) {
#pragma unroll 1
  for (int i = thread_of_group; i < count; i += 128) {
    const int channel = first + i;
    const uint32_t at = channel_smem(channels_smem, i);
    sm80::copy_async(at, p.scales + channel, true);
    const bool is_there = channel < p.K;
    const int64_t of_image = n * p.bias_image + channel;
    if (p.narrow_bias != nullptr) [[unlikely]] {
      sm80::store_shared(at + 8, is_there ? unpack_pair(kDtype, p.narrow_bias[of_image]).x : 0.0f);
    } else {
      const bool has_bias = p.bias != nullptr && is_there;
      sm80::copy_async(at + 8, has_bias ? p.bias + of_image : p.scales, has_bias);
    }
    if (p.scale == nullptr) continue;
    sm80::copy_async(at + count * 8, is_there ? p.scale + channel : p.scale, is_there);
    sm80::copy_async(at + count * 8 + 8, is_there ? p.shift + channel : p.shift, is_there);
  }
  sm80::copy_async_commit();
}

/// Of all threads of a group; also orders what they read of the last tile before what they write for this one. `change()`
/// may change what the thread itself has asked for.
template <class Change>
__device__ inline void finish_channels(int group, const Change& change) {
  sm80::copy_async_wait<0>();
  change();
  sm80::named_barrier_sync(1 + group, 128);
}

/// What the sums of a fragment begin with: biases of the channels from `channels` on. Loaded in any case, from zeros if need
/// be: behind a branch the compiler has products wait for each other.
template <int N>
__device__ __forceinline__ void start_sums(uint32_t channels, int lane, float (&acc)[N]) {
  const uint32_t mine = channel_smem(channels, lane % 4 * 2) + 8;
#pragma unroll
  for (int i = 0; i < N; i += 2) {
    const float2 biases = sm80::load_shared_pair(mine + i / 4 * 4 * kChannelPairBytes);
    acc[i] = biases.x, acc[i + 1] = biases.y;
  }
}

/// mish. With E = e^x, mish(x) = x N / (N + 1), N = (E^2 + 2E) / 2 = H (H + sqrt(2)), H = E / sqrt(2); from 20 on, where
/// that is x, E stops, so that N stays finite. Relative error below 2^-18 for x >= -43 and 2^-17 down to -87; -0 below that,
/// where E is subnormal. kAgain: of what mish has given, from -0.31 on, where x - x / (N + 1) loses two bits at most.
/// NOTE: one reciprocal for two neighbours saves special functions, which are not what bounds it, and takes more of the rest.
template <bool kAgain>
__device__ __forceinline__ float mish(float x) {
  const float h = math::exp2_approx(fmaf(kAgain ? x : math::smaller(x, 20.0f), 1.44269504f, -0.5f));
  const float sum = h + 1.41421356f;
  if constexpr (kAgain) return x * (1.0f - math::reciprocal_approx(fmaf(h, sum, 1.0f)));
  const float n = h * sum;
  return x * (n * math::reciprocal_approx(n + 1.0f));
}

/// The activations of a chain: none or relu, mish once or twice, or any. Eight at a time, as registers are few.
template <ConvChain kChain, int N>
__device__ __forceinline__ void activate(const Params& p, float (&values)[N]) {
  if constexpr (kChain == ConvChain::relu) {
    const float least = p.activation == ConvChain::relu ? 0.0f : -INFINITY;
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] = sm80::max_nan(values[i], least);
    return;
  }
  ConvEpilogue epilogue;
  epilogue.activation = p.activation, epilogue.slope = p.slope;
#pragma unroll
  for (int first = 0; first < N; first += kVector) {
    float x[kVector];
#pragma unroll
    for (int i = 0; i < kVector; ++i) x[i] = values[first + i];
    if constexpr (kChain == ConvChain::mish) {
#pragma unroll
      for (float& value : x) value = mish<false>(value);
      if (p.activation == ConvChain::double_mish) {
#pragma unroll
        for (float& value : x) value = mish<true>(value);
      }
    } else {
      run_any_activation<true>(epilogue, x);
    }
#pragma unroll
    for (int i = 0; i < kVector; ++i) values[first + i] = x[i];
  }
}

/// Sums to results: `scale(table, values)` does with them what a table says, `add_residual` adds it to them, `store_sum`
/// stores them as they are then, and rounds them.
template <ConvChain kChain, bool kStoresSums, int N, class Scale, class AddResidual, class StoreSum>
__device__ __forceinline__ void finish(const Params& p, float (&values)[N], const Scale& scale,
                                       const AddResidual& add_residual, const StoreSum& store_sum) {
  scale(0, values);
  if (p.residual_at == ResidualAt::before) add_residual(values);
  if constexpr (kStoresSums)
    if (p.sum.data != nullptr) [[unlikely]]
      store_sum(values);
  if (p.scale != nullptr) scale(1, values);
  activate<kChain>(p, values);
  if (p.residual_at == ResidualAt::after) add_residual(values);
}

}  // namespace solder::nhwc
