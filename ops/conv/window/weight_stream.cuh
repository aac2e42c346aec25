#pragma once
// One thread of conv_window_kernel's warp 3 streams packed weights.

#include "ops/conv/ring.cuh"
#include "ops/conv/window/params.cuh"
#include "ops/ptx/sm80.cuh"
#include "ops/ptx/sm90.cuh"

namespace solder::window {

/// The way of one ring through tiles, chunks and stages.
struct WeightStream {
  int tile;
  int chunk = 0, first = 0;      ///< the next stage's
  const uint8_t* src = nullptr;  ///< its weights; null: find the next tile first
  RingPosition cursor;
};

/// Moves on to the next tile of `ring` that is computed; false when there is none.
template <class Tile>
__device__ bool find_weights(const Params& p, int ring, WeightStream& s) {
  const WindowConfig& c = p.config;
  const int num_tiles = c.tiles_k * c.tiles_positions;
  for (; s.tile < num_tiles; s.tile += static_cast<int>(gridDim.x)) {
    const int block = s.tile % c.tiles_k * Tile::kBlocks + (Tile::kSplitK ? ring : 0);
    if (block * kWindowBlockK >= p.K) continue;
    if (!is_needed<Tile>(p, int64_t{s.tile / c.tiles_k} * Tile::kBlockPositions)) continue;
    s.src = p.blocks + int64_t{block} * c.num_steps * (kWindowStepBytes * Tile::kParts);
    return true;
  }
  return false;
}

/// Loads the next stage of `ring` if its slot is free; false when all is loaded.
template <class Tile>
__device__ bool advance_weights(const Params& p, const Smem& smem, int ring, WeightStream& s) {
  const WindowConfig& c = p.config;
  constexpr int kStepBytes = kWindowStepBytes * Tile::kParts;
  if (s.src == nullptr && !find_weights<Tile>(p, ring, s)) return false;
  const int slot = ring * kMaxWindowWeightStages + s.cursor.slot;
  if (!sm90::mbarrier_test_wait(smem.weight_empty + 8 * slot, s.cursor.parity ^ 1)) return true;
  const int steps = s.chunk == c.num_chunks - 1 ? c.last_steps : c.chunk_steps;
  const uint32_t num_bytes = min(Tile::kStageSteps, steps - s.first) * kStepBytes;
  const int offset = (ring * c.weight_stages + s.cursor.slot) * kWindowWeightStageBytes;
  sm90::mbarrier_arrive_expect(smem.weight_full + 8 * slot, num_bytes);
  sm90::bulk_load(sm80::smem_address(smem.weights) + offset, s.src, num_bytes, smem.weight_full + 8 * slot);
  s.cursor.advance(c.weight_stages);
  s.src += num_bytes;
  s.first += Tile::kStageSteps;
  if (s.first < steps) return true;
  s.first = 0;
  if (++s.chunk < c.num_chunks) return true;
  s.chunk = 0;
  s.src = nullptr;
  s.tile += static_cast<int>(gridDim.x);
  return true;
}

/// One thread keeps both rings full. They are separate so that one consumer may lag behind the other by more
/// than a ring.
template <class Tile>
__device__ void stream_weights(const Params& p, const Smem& smem) {
  WeightStream streams[2] = {{static_cast<int>(blockIdx.x)}, {static_cast<int>(blockIdx.x)}};
  bool is_busy = true;
  while (is_busy) {
    const bool first = advance_weights<Tile>(p, smem, 0, streams[0]);
    const bool second = advance_weights<Tile>(p, smem, 1, streams[1]);
    is_busy = first || second;
  }
}

}  // namespace solder::window
