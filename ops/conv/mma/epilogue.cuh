#pragma once
// What conv_mma_kernel does with its sums.

#include "ops/conv/mma/quads.cuh"
#include "ops/conv/pixels/epilogue.cuh"
#include "ops/ptx/follow.cuh"

namespace solder::mma {

/// Scales and biases of a tile, on their way through registers.
template <class T>
struct Scales {
  static constexpr int kChannelTurns = (T::kChannels + T::kThreads - 1) / T::kThreads;
  static constexpr int kPixelTurns = T::kPlanes ? (T::kPixels + T::kThreads - 1) / T::kThreads : 0;
  float scale[kChannelTurns], bias[kChannelTurns], pixel[kPixelTurns + 1];

  __device__ __forceinline__ Scales(const Params& p, const Place& block, int thread) {
#pragma unroll
    for (int i = 0; i < kChannelTurns; ++i) {
      const int channel = block.channel + min(thread + i * T::kThreads, T::kChannels - 1);
      scale[i] = __ldg(p.scales + channel);
      bias[i] =
          p.bias != nullptr && channel < p.K ? __ldg(p.bias + channel) : -0.0f;  // which changes nothing
    }
#pragma unroll
    for (int i = 0; i < kPixelTurns; ++i) {
      const int at = min(block.pixel + thread + i * T::kThreads, p.num_pixels - 1);
      const ImageRange range = p.ranges[p.by_pixels.divide(static_cast<uint32_t>(at))];
      pixel[i] = power_of_two(-packed_exponent(range, p.math));
    }
  }

  __device__ __forceinline__ void store_if(bool condition, const ScaleSmem<T>& smem, int thread) const {
#pragma unroll
    for (int i = 0; i < kChannelTurns; ++i) {
      const int at = thread + i * T::kThreads;
      const bool is_channel = condition && at < T::kChannels;
      sm80::store_shared_if(is_channel, smem.channels + at * 4, scale[i]);
      sm80::store_shared_if(is_channel, smem.channels + (T::kChannels + at) * 4, bias[i]);
    }
#pragma unroll
    for (int i = 0; i < kPixelTurns; ++i) {
      const int at = thread + i * T::kThreads;
      sm80::store_shared_if(condition && at < T::kPixels, smem.pixels + at * 4, pixel[i]);
    }
  }
};

/// Parts of sums, as registers hold them.
template <class T>
__device__ float4* partial_of(const Params& p, int part, int warp, int lane) {
  constexpr int kWarps = T::kThreads / 32, kFragments = T::kGroups * T::kPieces;
  return reinterpret_cast<float4*>(p.partial) + (int64_t{part} * kWarps + warp) * kFragments * 32 + lane;
}

template <class T>
__device__ __forceinline__ void store_partial(const Params& p, int part, int warp, int lane,
                                              const float (&sums)[T::kGroups][T::kPieces][4]) {
  float4* const to = partial_of<T>(p, part, warp, lane);
#pragma unroll
  for (int g = 0; g < T::kGroups; ++g)
#pragma unroll
    for (int n = 0; n < T::kPieces; ++n)
      to[(g * T::kPieces + n) * 32] = make_float4(sums[g][n][0], sums[g][n][1], sums[g][n][2], sums[g][n][3]);
}

/// This thread's columns in planes [N,K,P * Q]: pairs of pixels, 8 from one to the next.
template <class T>
struct PlanePixels {
  int first, plane;
  float* start;                ///< the first pixel in channel 0 of y, where pairs lie side by side
  uint32_t pairs[T::kPieces];  ///< elements from there to each pair

  __device__ __forceinline__ PlanePixels(const Params& p, int first) : first(first), plane(p.P * p.Q) {
    const int64_t from = at<2>(p, 0, 0, p.y_image);
    start = p.y_planes + from;
#pragma unroll
    for (int n = 0; n < T::kPieces; ++n)
      pairs[n] = sm80::opaque(static_cast<uint32_t>(at<2>(p, n * 8, 0, p.y_image) - from));
  }
  /// Pixel `e` in a tensor whose images lie so far apart; one of the last kRun where there is none.
  template <int kRun>
  __device__ int64_t at(const Params& p, int e, int channel, int64_t image_elems) const {
    const int pixel = min(first + e, p.num_pixels - kRun);
    const int image = static_cast<int>(p.by_pixels.divide(static_cast<uint32_t>(pixel)));
    return image * image_elems + int64_t{channel} * plane + (pixel - image * plane);
  }
};

/// Calls what(n, pair n of values) for all pairs in one piece of code: registers have no index, so pairs go round.
template <class T, class What>
__device__ __forceinline__ void for_each_pair(float (&values)[kRowSums<T>], const What& what) {
#pragma unroll 1
  for (int n = 0; n < T::kPieces; ++n) {
    float pair[2] = {values[0], values[1]};
    what(n, pair);
#pragma unroll
    for (int i = 0; i + 2 < kRowSums<T>; ++i) values[i] = values[i + 2];
    values[kRowSums<T> - 2] = pair[0], values[kRowSums<T> - 1] = pair[1];
  }
}

/// `values` + the residual.
template <class T>
__device__ __forceinline__ void add_residual(const Params& p, const PlanePixels<T>& pixels, int channel,
                                             float (&values)[kRowSums<T>]) {
  channel = min(channel, p.K - 1);
  if (p.by_pairs) {
#pragma unroll
    for (int n = 0; n < T::kPieces; ++n) {
      const float2 pair = __ldg(reinterpret_cast<const float2*>(
          p.residual_planes + pixels.template at<2>(p, n * 8, channel, p.residual_image)));
      values[n * 2] += pair.x, values[n * 2 + 1] += pair.y;
    }
    return;
  }
  for_each_pair<T>(values, [&](int n, float(&pair)[2]) {
#pragma unroll
    for (int e = 0; e < 2; ++e)
      pair[e] += __ldg(p.residual_planes + pixels.template at<1>(p, n * 8 + e, channel, p.residual_image));
  });
}

/// The epilogue of a channel, row `row` of the block, and its stores.
template <class T>
__device__ __forceinline__ void finish_channel(const Params& p, const ScaleSmem<T>& smem, const Place& block,
                                               const PlanePixels<T>& pixels, int row, int column,
                                               float (&values)[kRowSums<T>]) {
  using Chain = EpilogueChain<ConvChain::any, T::kParts == 1>;
  const int channel = block.channel + row;
  const float scale = sm80::load_shared_one(smem.channels + row * 4),
              bias = sm80::load_shared_one(smem.channels + (T::kChannels + row) * 4);
#pragma unroll
  for (int n = 0; n < T::kPieces; ++n) {
    const float2 of_pixels = sm80::load_shared_pair(smem.pixels + (column + n * 8) * 4);
    float* const of = values + n * 2;
    of[0] = scale_and_bias<Chain>(of[0] * scale, of_pixels.x, bias);
    of[1] = scale_and_bias<Chain>(of[1] * scale, of_pixels.y, bias);
  }
  if (p.residual_at == ResidualAt::before) add_residual<T>(p, pixels, channel, values);
  ConvEpilogue epilogue;
  epilogue.activation = p.activation, epilogue.slope = p.slope;
  run_any_activation<Chain::kFast>(epilogue, values);
  if (p.residual_at == ResidualAt::after) add_residual<T>(p, pixels, channel, values);
  const int left = channel < p.K ? p.num_pixels - pixels.first : 0;
  if (p.by_pairs) {
    float* const to = sm80::opaque_pointer(pixels.start + int64_t{channel} * pixels.plane);
#pragma unroll
    for (int n = 0; n < T::kPieces; ++n)
      sm80::store_pair_if(n * 8 < left, to + pixels.pairs[n], make_float2(values[n * 2], values[n * 2 + 1]));
    return;
  }
  for_each_pair<T>(values, [&](int n, const float(&pair)[2]) {
#pragma unroll
    for (int e = 0; e < 2; ++e)
      if (n * 8 + e < left) p.y_planes[pixels.template at<1>(p, n * 8 + e, channel, p.y_image)] = pair[e];
  });
}

/// The epilogue of a pixel, row `row` of the block, and its stores: vectors of 8 channels, 32 from one to the next (see
/// pack_mma_weights).
template <class T>
__device__ __forceinline__ void finish_pixel(const Params& p, const ScaleSmem<T>& smem, const Place& block,
                                             int row, int column, float (&values)[kRowSums<T>]) {
  constexpr int kVectors = T::kPieces / 4;
  const int number = block.pixel + row < p.num_pixels ? block.pixel + row : -1;
  uint4 residuals[kVectors];
  if (p.residual.data != nullptr && number >= 0) {
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const int channel = block.channel + column + v * 32;
      if (channel < p.K)
        residuals[v] =
            static_cast<const uint4*>(p.residual.data)[pixels::vector_of(p.residual, number, channel)];
    }
  }
#pragma unroll
  for (int i = 0; i < kRowSums<T>; i += 4) {
    const int at = column + i / 8 * 32 + i % 8;
    const float4 scale = sm80::load_shared(smem.channels + at * 4),
                 bias = sm80::load_shared(smem.channels + (T::kChannels + at) * 4);
    float* const of = values + i;
    of[0] = fmaf(of[0], scale.x, bias.x), of[1] = fmaf(of[1], scale.y, bias.y);
    of[2] = fmaf(of[2], scale.z, bias.z), of[3] = fmaf(of[3], scale.w, bias.w);
  }
  const auto add_residuals = [&] {
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const uint32_t words[4] = {residuals[v].x, residuals[v].y, residuals[v].z, residuals[v].w};
      pixels::add_pairs<T::kDtype>(words, v * 8, values);
    }
  };
  if (p.residual_at == ResidualAt::before) add_residuals();
  ConvEpilogue epilogue;
  epilogue.activation = p.activation, epilogue.slope = p.slope;
  run_any_activation<true>(epilogue, values);
  if (p.residual_at == ResidualAt::after) add_residuals();
#pragma unroll
  for (int v = 0; v < kVectors; ++v)
    pixels::store_results<T::kDtype>(p, number, block.channel + column + v * 32,
                                     reinterpret_cast<float(&)[8]>(values[v * 8]));
}

/// The epilogue of a warp's groups of 16 rows, from their first row on, a row after the other. One piece of code for all
/// of them, as unrolled it would not fit the instruction cache.
template <class T, int kGroups>
__device__ __forceinline__ void finish_groups(const Params& p, const ScaleSmem<T>& smem, const Place& block,
                                              int warp, int lane, int first_group,
                                              const float (&sums)[kGroups][T::kPieces][4]) {
  const Place mine = warp_place<T>(warp);
  int row = first_group * 16 + lane / 4 + (T::kPlanes ? mine.channel : mine.pixel);
  if constexpr (T::kPlanes) {
    if (p.by_quads) {
      const int left = p.K - block.channel - first_group * 16 - mine.channel;
      finish_quads<T>(p, smem, block, row, mine.pixel + lane % 4 * 4, min(left / 16, kGroups), sums);
      return;
    }
  }
  const int column = T::kPlanes ? mine.pixel + lane % 4 * 2 : mine.channel + lane % 4 * 8;
  const PlanePixels<T> pixels(p, T::kPlanes ? block.pixel + column : 0);
#pragma unroll 1
  for (int half = 0; half < 2 * kGroups; ++half, row += 8) {
    float values[kRowSums<T>];
    with_constant<2 * kGroups>(half, [&](auto known) {
#pragma unroll
      for (int i = 0; i < kRowSums<T>; ++i)
        values[i] = sm80::opaque_float(sums[known / 2][i / 2][known % 2 * 2 + i % 2]);
    });
    if constexpr (T::kPlanes)
      finish_channel<T>(p, smem, block, pixels, row, column, values);
    else
      finish_pixel<T>(p, smem, block, row, column, values);
  }
}

}  // namespace solder::mma
