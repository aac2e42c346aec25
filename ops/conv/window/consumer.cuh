#pragma once
// The consuming half of conv_window_kernel: two warpgroups multiply tiles and finish them.

#include "ops/conv/epilogue/epilogue.h"
#include "ops/conv/window/epilogue.cuh"
#include "ops/ptx/sm80.cuh"
#include "ops/ptx/sm90.cuh"

namespace solder::window {

template <int kAcc>
__device__ __forceinline__ void multiply(float (&acc)[kAcc], uint64_t a, uint64_t b, bool accumulate) {
  if constexpr (kAcc == 128) sm90::wgmma_m64n256k16(acc, a, b, accumulate);
  if constexpr (kAcc == 64) sm90::wgmma_m64n128k16(acc, a, b, accumulate);
  if constexpr (kAcc == 32) sm90::wgmma_m64n64k16(acc, a, b, accumulate);
  if constexpr (kAcc == 16) sm90::wgmma_m64n32k16(acc, a, b, accumulate);
}

__device__ __forceinline__ void release(uint32_t barrier, int lane) {
  if (lane == 0) sm90::mbarrier_arrive(barrier, 1);
}

/// The two products of a step that take one low part.
template <int kAcc>
__device__ __forceinline__ void multiply_low(float (&acc)[kAcc], uint64_t a, uint64_t b, uint64_t low_b,
                                             bool is_started) {
  multiply(acc, a + kWindowStepBytes / 16, b, is_started);
  multiply(acc, a, b + low_b, true);
}

/// Issues the wgmma of up to kStageSteps steps as one group. The small products of all steps come first: tensor
/// cores cut sums off instead of rounding them, so each product that is added to a sum of full size makes it smaller.
template <class Tile, int kAcc>
__device__ __forceinline__ void multiply_stage(float (&acc)[kAcc], uint64_t a, uint64_t b, uint64_t low_b,
                                               const int* offsets, int num_steps, bool is_started) {
  constexpr uint64_t kStepA = kWindowStepBytes * Tile::kParts / 16;
  constexpr bool kHasLow = Tile::kParts == 2;
  if (num_steps >= Tile::kStageSteps) {
    uint64_t step_b[Tile::kStageSteps];
#pragma unroll
    for (int i = 0; i < Tile::kStageSteps; ++i) step_b[i] = b + static_cast<uint64_t>(offsets[i]);
    sm90::wgmma_fence();
    if constexpr (kHasLow) {
#pragma unroll
      for (int i = 0; i < Tile::kStageSteps; ++i)
        multiply_low(acc, a + i * kStepA, step_b[i], low_b, is_started || i > 0);
    }
#pragma unroll
    for (int i = 0; i < Tile::kStageSteps; ++i)
      multiply(acc, a + i * kStepA, step_b[i], kHasLow || is_started || i > 0);
  } else {
    sm90::wgmma_fence();
    if constexpr (kHasLow) {
#pragma unroll 1
      for (int i = 0; i < num_steps; ++i)
        multiply_low(acc, a + i * kStepA, b + static_cast<uint64_t>(offsets[i]), low_b, is_started || i > 0);
    }
#pragma unroll 1
    for (int i = 0; i < num_steps; ++i)
      multiply(acc, a + i * kStepA, b + static_cast<uint64_t>(offsets[i]), kHasLow || is_started || i > 0);
  }
  sm90::wgmma_commit();
}

/// a + b, rounded away from zero. Tensor cores cut off what their sums have no digits for, so that parts come out 2^-24 too
/// small on average, whatever their number (measured: 5.2e-8 to 6.3e-8); the last addition of a sum gives back 4.3e-8 of
/// that, and nothing where it is exact. Otherwise a network of 60 layers adds up 3e-6.
__device__ __forceinline__ float add_away(float a, float b) {
  return a + b < 0 ? __fadd_rd(a, b) : __fadd_ru(a, b);
}

/// All steps of a tile: sums[64 channels, kPositions].
template <class Tile, int kAcc>
__device__ __forceinline__ void multiply_tile(const Params& p, const Smem& smem, Consumer& self,
                                              float (&sum)[kAcc]) {
  const WindowConfig& c = p.config;
  const int size = c.window * c.num_planes();
  const uint32_t ring = self.idx * c.weight_stages * kWindowWeightStageBytes;
  const uint64_t a0 =
      sm90::matrix_descriptor(sm80::smem_address(smem.weights) + ring, kWindowBlockK * 16, 128);
  const uint32_t shift = Tile::kSplitK ? 0 : self.idx * Tile::kPositions * 16;
  const uint64_t b0 = sm90::matrix_descriptor(sm80::smem_address(smem.windows) + shift, size * 16, 128);
  const uint64_t low_b = static_cast<uint64_t>(c.window_stage_bytes / 2 / 16);
  // tf32 multiplies into `sum` itself; fp32 a stage at a time into `part`, which is added to `sum`.
  float part[Tile::kParts == 2 ? kAcc : 1];
  if constexpr (Tile::kParts == 2) {
#pragma unroll
    for (int i = 0; i < kAcc; ++i) sum[i] = 0;
  }
  bool is_started = false;
  uint32_t pending_weights = 0, pending_window = 0;  // barriers to release when the last group is done
#pragma unroll 1
  for (int chunk = 0; chunk < c.num_chunks; ++chunk) {
    const bool is_last_chunk = chunk == c.num_chunks - 1;
    const int steps = is_last_chunk ? c.last_steps : c.chunk_steps;
    const int* offsets = smem.offsets + (is_last_chunk ? kMaxWindowChunkSteps : 0);
    const uint64_t b = b0 + static_cast<uint64_t>(self.windows.slot * (c.window_stage_bytes / 16));
    sm90::mbarrier_wait(smem.window_full + 8 * self.windows.slot, self.windows.parity);
#pragma unroll 1
    for (int first = 0; first < steps; first += Tile::kStageSteps) {
      const uint64_t a = a0 + static_cast<uint64_t>(self.weights.slot * (kWindowWeightStageBytes / 16));
      sm90::mbarrier_wait(self.weight_full + 8 * self.weights.slot, self.weights.parity);
      const bool is_last = first + Tile::kStageSteps >= steps;
      if constexpr (Tile::kParts == 2) {
        multiply_stage<Tile>(part, a, b, low_b, offsets + first, steps - first, false);
        sm90::wgmma_wait<0>();
        if (!(is_last && is_last_chunk)) {
#pragma unroll
          for (int i = 0; i < kAcc; ++i) sum[i] += part[i];
        }
      } else {
        multiply_stage<Tile>(sum, a, b, low_b, offsets + first, steps - first, is_started);
        sm90::wgmma_wait<1>();
        is_started = true;
      }
      // The group before this one is done: its stages are free.
      if (pending_weights != 0) release(pending_weights, self.lane);
      if (pending_window != 0) release(pending_window, self.lane);
      pending_weights = self.weight_empty + 8 * self.weights.slot;
      pending_window = is_last ? smem.window_empty + 8 * self.windows.slot : 0;
      self.weights.advance(c.weight_stages);
    }
    self.windows.advance(c.window_stages);
  }
  sm90::wgmma_wait<0>();
  release(pending_weights, self.lane);
  release(pending_window, self.lane);
  if constexpr (Tile::kParts == 2) {
#pragma unroll
    for (int i = 0; i < kAcc; ++i) sum[i] = add_away(sum[i], part[i]);
  }
}

/// The second warpgroup has no channels in a last, odd block: it lets the windows go.
template <class Tile>
__device__ void skip_tile(const Params& p, const Smem& smem, Consumer& self) {
  for (int chunk = 0; chunk < p.config.num_chunks; ++chunk) {
    sm90::mbarrier_wait(smem.window_full + 8 * self.windows.slot, self.windows.parity);
    release(smem.window_empty + 8 * self.windows.slot, self.lane);
    self.windows.advance(p.config.window_stages);
  }
}

template <class Tile>
__device__ void consume(const Params& p, const Smem& smem, int idx, int warp, int lane) {
  const WindowConfig& c = p.config;
  Consumer self{.idx = idx, .warp = warp, .lane = lane};
  self.weight_full = smem.weight_full + 8 * idx * kMaxWindowWeightStages;
  self.weight_empty = smem.weight_empty + 8 * idx * kMaxWindowWeightStages;
  const int num_tiles = c.tiles_k * c.tiles_positions;
#pragma unroll 1
  for (int tile = static_cast<int>(blockIdx.x); tile < num_tiles; tile += static_cast<int>(gridDim.x)) {
    const int64_t first = int64_t{tile / c.tiles_k} * Tile::kBlockPositions;
    if (!is_needed<Tile>(p, first)) continue;
    const int block = Tile::kSplitK ? tile % c.tiles_k * 2 + idx : tile % c.tiles_k;
    if (block * kWindowBlockK >= p.K) {
      skip_tile<Tile>(p, smem, self);
      continue;
    }
    const int first_k = block * kWindowBlockK;
    const int64_t first_position = first + (Tile::kSplitK ? 0 : idx * Tile::kPositions);
    if (p.epilogue.chain == ConvChain::any) prefetch_residual<Tile>(p, self, first_k, first_position);
    float sum[Tile::kPositions / 2];
    multiply_tile<Tile>(p, smem, self, sum);
    finish_tile<Tile>(p, smem, self, first_k, first_position, sum);
  }
}

}  // namespace solder::window
