#pragma once
// How a consumer warp of conv_rows_kernel turns the sums of a part into outputs.

#include "ops/conv/epilogue/epilogue.cuh"
#include "ops/conv/range/range.h"
#include "ops/conv/rows/exchange.cuh"
#include "ops/conv/rows/params.cuh"
#include "ops/conv/rows/store.cuh"
#include "ops/ptx/sm80.cuh"

namespace solder::rows {

/// Where a consumer thread's accumulators lie in the residual: one channel, pixel pairs 8 apart.
struct RowPlace {
  int64_t offset;  // of the first pair
  int num_cols;    // from the first pair's first pixel to the end of the strip's row
  bool is_stored;  // the channel exists

  template <int N>
  __device__ void load(const float* tensor, float (&values)[N]) const {
#pragma unroll
    for (int i = 0; i < N; i += 2) {
      const auto at = reinterpret_cast<const float2*>(tensor + offset + i * 4);
      const float2 pair = sm80::load_if(is_stored && i * 4 < num_cols, at);
      values[i] = pair.x, values[i + 1] = pair.y;
    }
  }
};

/// out = block `index` (a run-time number) of kN accumulators of the first channel.
template <int kFirst, int kCount, int kN>
__device__ void fetch_block(const float (&acc)[kAccs], int index, float (&out)[kN]) {
  if constexpr (kCount == 1) {
#pragma unroll
    for (int i = 0; i < kN; ++i) out[i] = acc[first_half(kFirst * kN + i)];
  } else if (index < kFirst + kCount / 2) {
    fetch_block<kFirst, kCount / 2>(acc, index, out);
  } else {
    fetch_block<kFirst + kCount / 2, kCount - kCount / 2>(acc, index, out);
  }
}

/// Whether the fast activations need help: some value sum * scale + bias lies below math::kTail, or one may
/// have overflowed to infinity (a sum is below 2^45).
template <int kHalves>
__device__ bool needs_tail(const float (&acc)[kAccs], const float (&scale)[kHalves],
                           const float (&bias)[kHalves]) {
  bool needs = false;
#pragma unroll
  for (int half = 0; half < kHalves; ++half) {
    float values[kAccs / 2];
#pragma unroll
    for (int i = 0; i < kAccs / 2; ++i) values[i] = acc[first_half(i) + half * 2];
    const uint32_t largest = math::largest_bits(values);
    // A NaN must answer yes; scale is positive, so the most negative sum gives the most negative value.
    needs = needs || ((largest >> 31) != 0 &&
                      !(fmaf(__uint_as_float(largest), scale[half], bias[half]) >= math::kTail + 1));
    needs = needs || !(scale[half] < 0x1p80f) || !(fabsf(bias[half]) < 0x1p126f);
  }
  return needs;
}

/// Brings the residual of a warp's channels of a part to L2.
inline __device__ void prefetch_residual(const Params& p, int64_t offset, int num_channels, int num_cols,
                                         int lane) {
  const int lines = (num_cols + 62) / 32;  // at most, at any alignment
  const float* rows = p.epilogue.residual + offset;
#pragma unroll 1  // or it spills
  for (int i = lane; i < num_channels * lines; i += 32) {
    const int channel = i / lines;
    sm80::prefetch_l2(rows + channel * p.y_plane + min((i - channel * lines) * 32, num_cols - 1));
  }
}

/// 2^exponent, in two factors where one float cannot hold it.
struct PowerOfTwo {
  float factor, extra;

  __device__ explicit PowerOfTwo(int exponent) {
    const int main = max(-126, min(127, exponent));
    const int rest = max(-126, min(127, exponent - main));
    factor = power_of_two(main);
    extra = power_of_two(rest);
  }
};

/// What a consumer thread knows of the channels whose outputs it stores.
template <int kHalves>
struct Channels {
  int warp_channel;  // the warp's first
  float bias[kHalves];
  int weight_exponent[kHalves];
};

/// Loads them, before the rest of the start-up, which then hides the latency.
template <class FilterShape>
__device__ auto load_channels(const Params& p, const Block& b, int t) {
  constexpr int kParts = FilterShape::kParts;
  constexpr int kHalves = 2 / kParts;  // of a thread's two channels, those whose outputs it stores
  const int warp = __shfl_sync(0xffffffffu, t >> 5, 0), lane = t & 31, rank = static_cast<int>(b.rank);
  // A warp stores the 16 channels that it multiplies, with fp32 8 of them.
  Channels<kHalves> channels;
  channels.warp_channel = (kParts == 1 ? b.k_block * 2 + rank : b.k_block) * kRowsBlockChannels + warp * 16 +
                          (kParts == 1 ? 0 : rank * 8);
#pragma unroll
  for (int half = 0; half < kHalves; ++half) {
    const int channel = channels.warp_channel + half * 8 + (lane >> 2);
    channels.weight_exponent[half] = p.weight_exponents[channel];
    channels.bias[half] = channel < p.K ? epilogue_bias(p.epilogue, channel) : 0.0f;
  }
  return channels;
}

/// Runs the epilogue over a part's sums and stores its `num_cols` outputs of each channel, from y's element
/// `row_offset` on; the residual's begin at `residual_offset`.
/// NOTE: one long function: cut into three, `any` spilled half as much again.
template <class FilterShape, class Chain, int kHalves>
__device__ __forceinline__ void finish_part(const Params& p, const Channels<kHalves>& channels,
                                            int x_exponent, int64_t row_offset, int64_t residual_offset,
                                            int num_cols, float* stage, int lane, float (&acc)[kAccs]) {
  constexpr int kParts = FilterShape::kParts;
  const int warp_channel = channels.warp_channel;
  const auto& bias = channels.bias;
  float scale[kHalves];
#pragma unroll
  for (int half = 0; half < kHalves; ++half) {
    const PowerOfTwo power(-x_exponent - channels.weight_exponent[half]);
    scale[half] = power.factor;
    if (power.extra != 1.0f) [[unlikely]] {
#pragma unroll
      for (int i = 0; i < kAccs / 2; ++i) acc[first_half(i) + half * 2] *= power.extra;
    }
  }
  RowStore store;
  store.stage = stage;
  store.plane = static_cast<int>(p.y_plane);
  store.phase_step = static_cast<uint32_t>(p.y_plane) & 31;
  store.lane = lane;
  RowPlace place;
  const auto set_half = [&](int half) {
    const bool exists = warp_channel + half * 8 < p.K;
    store.first = p.y + row_offset + half * 8 * p.y_plane;
    store.num_cols = exists ? num_cols : 0;
    store.phase0 = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(store.first) >> 2) & 31;
    place.is_stored = exists;
  };
  const auto set_pixel = [&](int half, int pixel0) {
    place.offset = residual_offset + (half * 8 + (lane >> 2)) * p.y_plane + pixel0 + 2 * (lane & 3);
    place.num_cols = num_cols - pixel0 - 2 * (lane & 3);
  };
  constexpr int kNumWindows = kPartCols / kRowsStageCols;
  bool rolled = false;
  if constexpr (Chain::kHasTail) rolled = __any_sync(0xffffffffu, needs_tail<kHalves>(acc, scale, bias));
  if (rolled) {
    // Rolled up, so that the tails' formulas exist once.
    constexpr int kBlock = 8, kCols = kBlock * 4;
    static_assert(kCols == kRowsStageCols);
#pragma unroll 1
    for (int half = 0; half < kHalves; ++half) {
      set_half(half);
      const float factor = half == 0 ? scale[0] : scale[kHalves - 1];
      const float channel_bias = half == 0 ? bias[0] : bias[kHalves - 1];
#pragma unroll 1
      for (int i = 0; i < kPartCols / kCols; ++i) {
        float values[kBlock];
        fetch_block<0, kPartCols / kCols>(acc, i, values);
#pragma unroll
        for (int e = 0; e < kBlock; ++e) values[e] = scale_and_bias<Chain>(values[e], factor, channel_bias);
        set_pixel(half, i * kCols);
        run_epilogue<Chain>(p.epilogue, place, values);
        store.put(i * kCols, values);
        __syncwarp();
        store.fetch();
        store.write(i);
        __syncwarp();
      }
      store.write(kNumWindows);
#pragma unroll
      for (int i = 0; i < kAccs / 2; ++i) acc[first_half(i)] = acc[first_half(i) + 2];
    }
  } else {
    // A window's values are computed while the one before is on its way from the stage to memory. With fp32,
    // where half of the accumulators are done with, all windows' at once, which hides more latency, unless
    // they spill.
    constexpr int kBlock = kRowsStageCols / 4;
    constexpr int kAtOnce = kParts == 1 || !FilterShape::kIsKnown ? 1 : kNumWindows;
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
      float computed[kAtOnce * kBlock];
#pragma unroll
      for (int window = 0; window < kNumWindows; ++window) {
        if (window % kAtOnce == 0) {
#pragma unroll
          for (int e = 0; e < kAtOnce * kBlock; ++e) {
            computed[e] = scale_and_bias<Chain>(acc[first_half(window * kBlock + e) + half * 2], scale[half],
                                                bias[half]);
          }
          if constexpr (Chain::kChain == ConvChain::any) {
            place.is_stored = warp_channel + half * 8 < p.K;
          }
          set_pixel(half, window * kRowsStageCols);
          run_epilogue<typename Chain::TailFree>(p.epilogue, place, computed);
        }
        float values[kBlock];
#pragma unroll
        for (int e = 0; e < kBlock; ++e) values[e] = computed[window % kAtOnce * kBlock + e];
        if (window > 0) store.write(window - 1);
        if (window == 0 && half > 0) {
          store.write(kNumWindows - 1);
          store.write(kNumWindows);
        }
        if (window == 0) set_half(half);
        __syncwarp();
        store.put(window * kRowsStageCols, values);
        __syncwarp();
        store.fetch();
      }
    }
    store.write(kNumWindows - 1);
    store.write(kNumWindows);
    __syncwarp();
  }
}

}  // namespace solder::rows
