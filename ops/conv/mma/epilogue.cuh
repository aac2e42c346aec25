#pragma once
// What conv_mma_kernel does with its sums.

#include "ops/conv/epilogue/epilogue.cuh"
#include "ops/conv/mma/params.cuh"
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

  __device__ __forceinline__ void store(const Smem<T>& smem, int thread) const {
#pragma unroll
    for (int i = 0; i < kChannelTurns; ++i) {
      const int at = thread + i * T::kThreads;
      if (at >= T::kChannels) continue;
      sm80::store_shared(smem.channels + at * 4, scale[i]);
      sm80::store_shared(smem.channels + (T::kChannels + at) * 4, bias[i]);
    }
#pragma unroll
    for (int i = 0; i < kPixelTurns; ++i) {
      const int at = thread + i * T::kThreads;
      if (at < T::kPixels) sm80::store_shared(smem.pixels + at * 4, pixel[i]);
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

/// Eight neighbouring pixels, in planes [N, K, P * Q].
struct PlanePixels {
  int first, count, plane;  ///< count: of those that there are, up to 8
  float* fours[2];          ///< of channel 0 in y: the first of each four, where planes have whole fours

  __device__ PlanePixels(const Params& p, int first) : first(first), plane(p.P * p.Q) {
    count = min(max(p.num_pixels - first, 0), 8);
#pragma unroll
    for (int q = 0; q < 2; ++q) fours[q] = p.y_planes + at<4>(p, q * 4, 0, p.y_image);
  }
  /// Pixel e in a tensor whose images lie so far apart; behind the last pixel its last kRun.
  template <int kRun>
  __device__ int64_t at(const Params& p, int e, int channel, int64_t image_elems) const {
    const int pixel = min(first + e, p.num_pixels - kRun);
    const int image = static_cast<int>(p.by_pixels.divide(static_cast<uint32_t>(pixel)));
    return image * image_elems + int64_t{channel} * plane + (pixel - image * plane);
  }
};

/// `values` + the residual of a channel's 8 pixels.
template <int kItems>
__device__ __forceinline__ void add_residual(const Params& p, const PlanePixels& pixels,
                                             const int (&channels)[kItems], float (&values)[kItems * 8]) {
#pragma unroll
  for (int b = 0; b < kItems; ++b) {
    const int channel = min(channels[b], p.K - 1);
    if (p.by_vectors) {
#pragma unroll
      for (int q = 0; q < 2; ++q) {
        const float4 four = __ldg(reinterpret_cast<const float4*>(
            p.residual_planes + pixels.at<4>(p, q * 4, channel, p.residual_image)));
        float* const to = values + b * 8 + q * 4;
        to[0] += four.x, to[1] += four.y, to[2] += four.z, to[3] += four.w;
      }
    } else {
#pragma unroll
      for (int e = 0; e < 8; ++e)
        values[b * 8 + e] += __ldg(p.residual_planes + pixels.at<1>(p, e, channel, p.residual_image));
    }
  }
}

/// The epilogue of vectors of the same 8 pixels, and their stores.
template <class T, int kItems>
__device__ __forceinline__ void finish_planes(const Params& p, const Smem<T>& smem, const PlanePixels& pixels,
                                              const float (&pixel_scales)[8], const int (&rows)[kItems],
                                              int first_channel, float (&values)[kItems * 8]) {
  using Chain = EpilogueChain<ConvChain::any, T::kParts == 1>;
  int channels[kItems];
#pragma unroll
  for (int b = 0; b < kItems; ++b) {
    channels[b] = first_channel + rows[b];
    const float scale = sm80::load_shared_one(smem.channels + rows[b] * 4);
    const float bias = sm80::load_shared_one(smem.channels + (T::kChannels + rows[b]) * 4);
#pragma unroll
    for (int e = 0; e < 8; ++e)
      values[b * 8 + e] = scale_and_bias<Chain>(values[b * 8 + e] * scale, pixel_scales[e], bias);
  }
  if (p.residual_at == ResidualAt::before) add_residual<kItems>(p, pixels, channels, values);
  ConvEpilogue epilogue;
  epilogue.activation = p.activation, epilogue.slope = p.slope;
  run_any_activation<Chain::kFast>(epilogue, values);
  if (p.residual_at == ResidualAt::after) add_residual<kItems>(p, pixels, channels, values);
  if (p.by_vectors) {
#pragma unroll
    for (int b = 0; b < kItems; ++b)
#pragma unroll
      for (int q = 0; q < 2; ++q) {
        const float* const of = values + b * 8 + q * 4;
        const float four[4] = {of[0], of[1], of[2], of[3]};
        sm80::store_if(channels[b] < p.K && q * 4 < pixels.count,
                       sm80::advance_bytes(pixels.fours[q], channels[b], pixels.plane * 4), four);
      }
    return;
  }
#pragma unroll
  for (int e = 0; e < 8; ++e) {
    float* const to = p.y_planes + pixels.at<1>(p, e, 0, p.y_image);
#pragma unroll
    for (int b = 0; b < kItems; ++b)
      if (channels[b] < p.K && e < pixels.count) to[int64_t{channels[b]} * pixels.plane] = values[b * 8 + e];
  }
}

/// Where a vector of 8 columns lies in a staged row of kColumns: even groups of four in the first half, odd ones behind, so
/// that neither fragments nor vectors meet in a bank. Rows are kColumns + 8 floats apart, halves kColumns / 2 + 4.
template <int kColumns>
__device__ uint32_t staged_value(uint32_t row_smem, int vector, int e) {
  return row_smem + static_cast<uint32_t>(vector * 16 + e / 4 * (kColumns / 2 + 4) * 4 + e % 4 * 4);
}

/// The epilogue of vectors of the same 8 channels, and their stores; `staged`: where each may be put aside.
template <class T, int kItems>
__device__ __forceinline__ void finish_pixels(const Params& p, const Smem<T>& smem,
                                              const int (&numbers)[kItems], int channel, int column,
                                              const uint32_t (&staged)[kItems], float (&values)[kItems * 8]) {
  uint4 residuals[kItems];
  if (p.residual.data != nullptr) {
#pragma unroll
    for (int b = 0; b < kItems; ++b)
      if (numbers[b] >= 0 && channel < p.K)
        residuals[b] =
            static_cast<const uint4*>(p.residual.data)[pixels::vector_of(p.residual, numbers[b], channel)];
  }
#pragma unroll
  for (int e = 0; e < 8; e += 4) {
    const float4 scale = sm80::load_shared(smem.channels + (column + e) * 4),
                 bias = sm80::load_shared(smem.channels + (T::kChannels + column + e) * 4);
#pragma unroll
    for (int b = 0; b < kItems; ++b) {
      float* const of = values + b * 8 + e;
      of[0] = fmaf(of[0], scale.x, bias.x), of[1] = fmaf(of[1], scale.y, bias.y);
      of[2] = fmaf(of[2], scale.z, bias.z), of[3] = fmaf(of[3], scale.w, bias.w);
    }
  }
  const auto add_residuals = [&] {
#pragma unroll
    for (int b = 0; b < kItems; ++b) {
      const uint32_t words[4] = {residuals[b].x, residuals[b].y, residuals[b].z, residuals[b].w};
      pixels::add_pairs<T::kDtype>(words, b * 8, values);
    }
  };
  if (p.residual_at == ResidualAt::before) add_residuals();
  ConvEpilogue epilogue;
  epilogue.activation = p.activation, epilogue.slope = p.slope;
  run_any_activation<true>(epilogue, values);
  if (p.residual_at == ResidualAt::after) add_residuals();
#pragma unroll
  for (int b = 0; b < kItems; ++b) {
    const float* const of = values + b * 8;
    if (pixels::takes_vectors(p)) [[likely]] {
      pixels::store_vector(
          p, numbers[b], channel,
          make_uint4(pack_pair(T::kDtype, of[0], of[1]), pack_pair(T::kDtype, of[2], of[3]),
                     pack_pair(T::kDtype, of[4], of[5]), pack_pair(T::kDtype, of[6], of[7])));
      continue;
    }
#pragma unroll
    for (int e = 0; e < 8; ++e) sm80::store_shared(staged_value<T::kColumns>(staged[b], 0, e), of[e]);
#pragma unroll 1
    for (int e = 0; e < 8; ++e)
      pixels::store_value<T::kDtype>(p, numbers[b], channel + e,
                                     sm80::load_shared_one(staged_value<T::kColumns>(staged[b], 0, e)));
  }
}

/// The sums of a warp's groups of 16 rows, 8 rows at a time through shared memory, where their columns become vectors.
/// One piece of code for all groups: unrolled it would not fit the instruction cache.
template <class T, int kGroups>
__device__ __forceinline__ void finish_groups(const Params& p, const Smem<T>& smem, uint32_t staging,
                                              const Place& block, int warp, int lane, int first_group,
                                              const float (&sums)[kGroups][T::kPieces][4]) {
  constexpr int kColumns = T::kColumns, kPitch = kColumns + 8, kVectors = kColumns / 8, kItems = kVectors / 4;
  const Place mine = warp_place<T>(warp);
  staging += warp * 8 * kPitch * 4;
  const uint32_t to = staging + (lane / 4 * kPitch + lane % 4 / 2 * (kColumns / 2 + 4) + lane % 2 * 2) * 4;
  const int vector = lane % kVectors;
  const int column = vector * 8 + (T::kPlanes ? mine.pixel : mine.channel);
  const PlanePixels pixels(p, T::kPlanes ? block.pixel + column : 0);
  float pixel_scales[8];
  if constexpr (T::kPlanes) {
#pragma unroll
    for (int e = 0; e < 8; ++e) pixel_scales[e] = sm80::load_shared_one(smem.pixels + (column + e) * 4);
  }
#pragma unroll 1
  for (int half = 0; half < 2 * kGroups; ++half) {
    __syncwarp();
#pragma unroll
    for (int known = 0; known < 2 * kGroups; ++known) {
      if (known != half) continue;  // registers have no index
#pragma unroll
      for (int n = 0; n < T::kPieces; ++n)
        sm80::store_shared(to + n * 16, sums[known / 2][n][known % 2 * 2],
                           sums[known / 2][n][known % 2 * 2 + 1]);
    }
    __syncwarp();
    uint32_t staged[kItems];
    int rows[kItems];  // of the block
    float values[kItems * 8];
#pragma unroll
    for (int b = 0; b < kItems; ++b) {
      const int row = lane / kVectors + b * (32 / kVectors);
      rows[b] = first_group * 16 + half * 8 + row + (T::kPlanes ? mine.channel : mine.pixel);
      staged[b] = staged_value<kColumns>(staging + row * kPitch * 4, vector, 0);
      const float4 low = sm80::load_shared(staged[b]),
                   high = sm80::load_shared(staged_value<kColumns>(staged[b], 0, 4));
      const float eight[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
      for (int e = 0; e < 8; ++e) values[b * 8 + e] = eight[e];
    }
    if constexpr (T::kPlanes) {
      finish_planes<T, kItems>(p, smem, pixels, pixel_scales, rows, block.channel, values);
    } else {
      int numbers[kItems];  // of pixels; -1: none
#pragma unroll
      for (int b = 0; b < kItems; ++b)
        numbers[b] = block.pixel + rows[b] < p.num_pixels ? block.pixel + rows[b] : -1;
      finish_pixels<T, kItems>(p, smem, numbers, block.channel + column, column, staged, values);
    }
  }
}

}  // namespace solder::mma
