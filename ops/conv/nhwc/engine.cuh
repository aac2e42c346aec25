#pragma once
// How results of warpgroups that take turns get to memory by the copy engine: whole vectors of channels, behind no residual.
// The turns of a tile's products wait for its epilogue, so this does nothing that it does not need.

#include "ops/conv/nhwc/store.cuh"

namespace solder::nhwc {

/// What the engine reads: rows of 128 bytes, swizzled by their addresses.
constexpr int kEngineRowBytes = 128;

/// Stores the values of a warp's 16 pixels, of kStaged channels from the tile's channel `channel` on. The engine has time
/// until the next call to read them.
template <class Tile, DType kDtype>
__device__ __forceinline__ void store_by_engine(const Params& p, const Work& work, uint32_t staging,
                                                int channel, int warp, int lane,
                                                const float (&values)[Tile::kStaged / 2]) {
  static_assert(Tile::kStaged * 2 == kEngineRowBytes && Pass<Tile>::kBytes % kEngineRowBytes == 0);
  if (lane == 0) sm90::bulk_wait_read();
  __syncwarp();
  const uint32_t row = staging + lane % 16 * kEngineRowBytes;
  const uint32_t first = (row / kEngineRowBytes % 8) ^ (lane / 16);
#pragma unroll
  for (int i = 0; i < Tile::kStaged / 2; i += 8) {
    uint32_t pairs[4];
    pack_pairs<kDtype>(values, i, pairs);
    sm90::store_matrices(row + (first ^ (i / 4)) * 16, pairs);
  }
  sm90::fence_proxy_async();
  __syncwarp();
  if (lane != 0) return;
  const int first_row = warp % 4 * 16;
  if (Tile::kIsWindow)  // of patches, two rows of 8
    sm90::tensor_store_4d(&p.y_map, staging, work.channel + channel, work.q, work.p + first_row / 8, work.n);
  else
    sm90::tensor_store_4d(&p.y_map, staging, work.channel + channel, work.pixel + first_row, 0, 0);
}

/// A whole tile of sums, each warp its own pixels.
template <class Tile, Values kValues, ConvChain kChain>
__device__ __forceinline__ void store_tile_by_engine(const Params& p, uint32_t staging, const Work& work,
                                                     int warp, int lane, uint32_t channels,
                                                     const float (&acc)[Tile::kChannels / 2]) {
  constexpr int kSums = Tile::kStaged / 2;
#pragma unroll
  for (int index = 0; index < Tile::kPasses; ++index) {
    float values[kSums];
#pragma unroll
    for (int i = 0; i < kSums; ++i) values[i] = acc[index * kSums + i];
    if (!p.starts_with_bias) scale_pass(p, channels, index * Tile::kStaged, 0, lane, {}, values);
    if (p.scale != nullptr) scale_pass(p, channels, index * Tile::kStaged, 1, lane, {}, values);
    activate<kChain>(p, values);
    store_by_engine<Tile, dtype_of(kValues)>(p, work, staging, index * Tile::kStaged, warp, lane, values);
  }
}

}  // namespace solder::nhwc
