#pragma once
// How a consumer warpgroup of conv_window_kernel turns the sums of a tile into outputs.

#include "ops/conv/epilogue/epilogue.cuh"
#include "ops/conv/range/range.h"
#include "ops/conv/ring.cuh"
#include "ops/conv/window/params.cuh"
#include "ops/ptx/sm80.cuh"

namespace solder::window {

/// What a consumer warpgroup keeps from tile to tile.
struct Consumer {
  int idx;   ///< 0, 1
  int warp;  ///< in the warpgroup
  int lane;
  RingPosition windows, weights;
  uint32_t weight_full, weight_empty;  ///< barriers of its ring
};

/// Where the residual of one position lies, for the epilogue: channels first_k, first_k + 1, ...
struct Place {
  int first_k, num_k;
  int64_t offset, stride;  ///< of first_k, from channel to channel
  bool is_stored;
  template <int N>
  __device__ void load(const float* tensor, float (&values)[N]) const {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      values[i] = is_stored && first_k + i < num_k ? __ldg(tensor + offset + i * stride) : 0.0f;
    }
  }
};

/// Channels of one position that go through the program together: as many as the registers hold.
/// NOTE: what has to be held here also decides whether ptxas keeps the state of multiply_tile in uniform
/// registers. Where it does not, each wgmma costs two more instructions: whoever changes the epilogue should
/// look at that loop.
template <class Chain, class Tile>
inline constexpr int kEpilogueRows = (Chain::kChain == ConvChain::any
                                          ? Tile::kPositions >= 64 && Tile::kPositions * Tile::kParts <= 128
                                          : Tile::kPositions <= 128)
                                         ? 16
                                         : 8;

/// Where and how one warp finishes its 16 channels x kPositions.
struct Finish {
  int warp_k;              ///< first channel
  int64_t first_position;  ///< of the warpgroup
  uint32_t staging_smem;   ///< this thread's place in the staging buffer, as wgmma lays out sums
  const float* staging;    ///< this lane's column
  const float* biases;     ///< [16]
  bool is_single_image;
  float scale;  ///< of that image
};

/// Runs one chain over the sums and stores. The warp turns its 16 channels x kPositions around in slices of
/// 32 positions, so that a store covers 128 bytes of one output row.
template <class Chain, class Tile, int kAcc>
__device__ __forceinline__ void finish_with(const Params& p, const Finish& f, int lane,
                                            const float (&sum)[kAcc]) {
  constexpr int kRows = kEpilogueRows<Chain, Tile>;
  const uint32_t plane_bytes = static_cast<uint32_t>(p.P * p.Q) * 4;
  const int64_t plane_elems = int64_t{p.P} * p.Q;
#pragma unroll 1
  for (int slice = 0; slice < Tile::kPositions / 32; ++slice) {
    __syncwarp();
#pragma unroll
    for (int s = 0; s < Tile::kPositions / 32; ++s) {
      if (s != slice) continue;
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const int half = i % 2, group = i / 2, at = (s * 4 + group) * 4 + half * 2;
        sm80::store_shared(
            f.staging_smem + static_cast<uint32_t>(half * 8 * kWindowStagingPitch + group * 8) * 4, sum[at],
            sum[at + 1]);
      }
    }
    __syncwarp();
    const Position at = locate(p, static_cast<uint32_t>(f.first_position + slice * 32 + lane));
    bool is_stored = at.is_inside && at.column < p.Q && at.row < p.P && at.image < p.N;
    if (is_stored && p.is_repair) is_stored = needs_rescale(p, at.image);
    float scale = f.scale;
    if (!f.is_single_image) scale = is_stored ? power_of_two(-image_exponent(p, at.image)) : 1.0f;
    const int64_t in_image = f.warp_k * plane_elems + at.row * int64_t{p.Q} + at.column;
    const int64_t pixel = at.image * p.y_image + in_image;
    const int64_t residual_pixel = at.image * p.epilogue.residual_image + in_image;
#pragma unroll 1
    for (int r = 0; r < 16; r += kRows) {
      float values[kRows];
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        values[i] = scale_and_bias<Chain>(f.staging[(r + i) * kWindowStagingPitch], scale, f.biases[r + i]);
      }
      const int num_rows = p.K - f.warp_k - r;
      const Place place{f.warp_k + r, p.K, residual_pixel + r * plane_elems, plane_elems, is_stored};
      run_epilogue<Chain>(p.epilogue, place, values);
      float* dst = p.y + (pixel + r * plane_elems);
      if (is_stored) {
#pragma unroll
        for (int i = 0; i < kRows; ++i) {
          if (i < num_rows) *sm80::advance_bytes(dst, plane_bytes, i) = values[i];
        }
      }
    }
  }
}

/// Scales the sums to float32's range and hands them to their chain.
template <class Tile, int kAcc>
__device__ __forceinline__ void finish_tile(const Params& p, const Smem& smem, const Consumer& self,
                                            int first_k, int64_t first_position, float (&sum)[kAcc]) {
  float* staging = smem.staging + (self.idx * 4 + self.warp) * (kWindowStagingBytes / 4);
  float* biases = staging + 16 * kWindowStagingPitch;
  const int row = self.lane / 4, column = self.lane % 4 * 2;
  const int warp_k = first_k + self.warp * 16;
  if (warp_k >= p.K || first_position >= p.config.num_positions) return;
  // NOTE: weights are within [2^-100, 2^60], so that sum * 2^-exponent neither overflows nor loses bits.
  const float scales[2] = {power_of_two(-p.exponents[warp_k + row]),
                           power_of_two(-p.exponents[warp_k + row + 8])};
  // Here and not where they are stored: the products are invariant in that loop, and the compiler would keep
  // them beside the sums.
#pragma unroll
  for (int i = 0; i < kAcc; ++i) sum[i] *= scales[i / 2 % 2];
  __syncwarp();  // the last tile's biases have been read
  if (self.lane < 16) {
    const int k = min(warp_k + self.lane, p.K - 1);
    biases[self.lane] = epilogue_bias(p.epilogue, k);
  }
  const int2 images = images_of(p, first_position, Tile::kPositions);
  const Finish f{.warp_k = warp_k,
                 .first_position = first_position,
                 .staging_smem = sm80::smem_address(staging + row * kWindowStagingPitch + column),
                 .staging = staging + self.lane,
                 .biases = biases,
                 .is_single_image = images.x >= images.y,
                 .scale = power_of_two(-image_exponent(p, images.x))};
  constexpr bool kFast = Tile::kMath == Math::tf32;
  switch (p.epilogue.chain) {
    case ConvChain::bias:
      return finish_with<EpilogueChain<ConvChain::bias, kFast>, Tile>(p, f, self.lane, sum);
    case ConvChain::relu:
      return finish_with<EpilogueChain<ConvChain::relu, kFast>, Tile>(p, f, self.lane, sum);
    case ConvChain::leaky_relu:
      return finish_with<EpilogueChain<ConvChain::leaky_relu, kFast>, Tile>(p, f, self.lane, sum);
    case ConvChain::silu:
      return finish_with<EpilogueChain<ConvChain::silu, kFast>, Tile>(p, f, self.lane, sum);
    case ConvChain::mish:
      return finish_with<EpilogueChain<ConvChain::mish, kFast>, Tile>(p, f, self.lane, sum);
    case ConvChain::double_mish:
      return finish_with<EpilogueChain<ConvChain::double_mish, kFast>, Tile>(p, f, self.lane, sum);
    case ConvChain::any: return finish_with<EpilogueChain<ConvChain::any, kFast>, Tile>(p, f, self.lane, sum);
  }
}

/// Asks for the residual of a warp's 16 channels, so that it is in the L2 cache when the tile is multiplied.
template <class Tile>
__device__ void prefetch_residual(const Params& p, const Consumer& self, int first_k,
                                  int64_t first_position) {
  const int k = min(first_k + self.warp * 16 + self.lane % 16, p.K - 1);
#pragma unroll 1
  for (int slice = 0; slice < Tile::kPositions / 32; ++slice) {
    // The first position for half of the lanes, the last for the others: 32 rarely spread over more lines.
    const int64_t position = first_position + slice * 32 + self.lane / 16 * 31;
    const Position at = locate(p, static_cast<uint32_t>(position));
    const int image = min(at.image, p.N - 1), row = min(at.row, p.P - 1), column = min(at.column, p.Q - 1);
    sm80::prefetch_l2(p.epilogue.residual + image * p.epilogue.residual_image +
                      (int64_t{k} * p.P + row) * p.Q + column);
  }
}

}  // namespace solder::window
