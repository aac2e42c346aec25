#pragma once
// How the sums of conv_nhwc_kernel get to memory. Products leave wgmma as fragments: a thread has two neighbouring
// channels of two pixels, 8 apart. Results are worked out there, packed, and cross a warp's shared memory, 64 channels at
// a time, to be stored as vectors; the residual comes the same way, copied there while the products run.
// apart.cuh has what happens where results are no such vectors, exchange.cuh where blocks of a cluster have split the terms,
// engine.cuh where the copy engine stores them.

#include "ops/conv/nhwc/apart.cuh"
#include "ops/conv/nhwc/epilogue.cuh"
#include "ops/conv/nhwc/scaled.cuh"

namespace solder::nhwc {

/// From 16 channels of a fragment's row to the next.
constexpr int kMatrixBytes = 32;

/// A pass of a warp's part of a tile: 16 pixels, kStaged channels, a vector to a lane and turn.
template <class Tile>
struct Pass {
  static constexpr int kVectors = Tile::kStaged / kVector, kPixelsAtOnce = 32 / kVectors,
                       kTurns = 16 / kPixelsAtOnce;
  static constexpr uint32_t kBytes = nhwc_pass_bytes(Tile::kStaged), kPitch = kBytes / 16;

  uint32_t staged;  // where it crosses shared memory
  int row;          // of the tile: its first
  int channel;      // of the tile: its first
  int pixel;        // of its row lane % 16

  __device__ Pass(const Params& p, const Work& work, uint32_t staging, int warp, int lane, int index)
      : staged(staging + (index & (p.config.stagings - 1)) * kBytes),
        row(Tile::block_of(warp / 4) * 64 + warp % 4 * 16),
        channel(index * Tile::kStaged),
        pixel(pixel_of<Tile>(p, work, row + lane % 16)) {}

  /// The pixel of a row of the pass; of all lanes together.
  /// NOTE: not in a loop whose turns depend on the lane: for the compiler the warp is then never whole again, and each
  /// product's descriptors go through four moves to uniform registers.
  __device__ int pixel_at(const Params& p, const Work& work, int row_of_pass) const {
    if constexpr (Tile::kIsWindow) return __shfl_sync(0xffffffffu, pixel, row_of_pass);
    return pixel_of<Tile>(p, work, row + row_of_pass);
  }
  __device__ int row_of(int lane, int turn) const { return turn * kPixelsAtOnce + lane / kVectors; }
  __device__ int channel_of(int lane) const { return channel + lane % kVectors * kVector; }
  __device__ uint32_t vector_smem(int lane, int turn) const {
    return staged + (turn * kPixelsAtOnce + lane / kVectors) * kPitch + lane % kVectors * 16;
  }
  /// Of fragments: where the lane's row of four matrices lies, pixels innermost, of the first 16 channels.
  __device__ uint32_t matrix_smem(int lane) const { return staged + lane % 16 * kPitch + lane / 16 * 16; }
};

/// Asks for a pass' residual, zeros behind the last vector of channels; what that has behind the last channel is its
/// padding, or another tensor's.
template <class Tile>
__device__ __forceinline__ void start_residual(const Params& p, const Work& work, const Pass<Tile>& pass,
                                               int lane) {
  const int channel = work.channel + pass.channel_of(lane);
#pragma unroll
  for (int turn = 0; turn < Pass<Tile>::kTurns; ++turn) {
    const int pixel = pass.pixel_at(p, work, pass.row_of(lane, turn));
    if (pixel >= 0)
      sm80::copy_async_16(pass.vector_smem(lane, turn),
                          static_cast<const uint4*>(p.residual.data) + vector_of(p.residual, pixel, channel),
                          channel < p.K ? 16 : 0);
  }
  sm80::copy_async_commit();
}

/// The first pass' residual, while the rest of a tile's comes nearer: a line for each pixel and pass.
template <class Tile>
__device__ __forceinline__ void start_tile(const Params& p, uint32_t staging, const Work& work, int warp,
                                           int lane) {
  if (p.residual.data == nullptr || !takes_vectors(p)) return;
  __syncwarp();  // the last tile's vectors have been read
  start_residual(p, work, Pass<Tile>(p, work, staging, warp, lane, 0), lane);
#pragma unroll 1
  for (int line = 16 + lane; line < 16 * Tile::kPasses; line += 32) {
    const Pass<Tile> pass(p, work, staging, warp, lane, line / 16);
    const int channel = work.channel + pass.channel;
    if (pass.pixel >= 0 && channel < p.K)
      sm80::prefetch_l2(static_cast<const uint4*>(p.residual.data) +
                        vector_of(p.residual, pass.pixel, channel));
  }
}

/// Values first to first + 7 as pairs.
template <DType kDtype, int N>
__device__ __forceinline__ void pack_pairs(const float (&values)[N], int first, uint32_t (&pairs)[4]) {
#pragma unroll
  for (int e = 0; e < 4; ++e) pairs[e] = pack_pair(kDtype, values[first + e * 2], values[first + e * 2 + 1]);
}

/// A pass of values to shared memory as 16-bit fragments, where vectors may be read then; what(i, pairs) may look at those
/// of values i to i + 7.
template <class Tile, DType kDtype, class What>
__device__ __forceinline__ void stage(const Pass<Tile>& pass, int lane,
                                      const float (&values)[Tile::kStaged / 2], const What& what) {
#pragma unroll
  for (int i = 0; i < Tile::kStaged / 2; i += 8) {
    uint32_t pairs[4];
    pack_pairs<kDtype>(values, i, pairs);
    what(i, pairs);
    sm90::store_matrices(pass.matrix_smem(lane) + i / 8 * kMatrixBytes, pairs);
  }
  __syncwarp();
}

/// And from there to memory; what(pixel, vector) may look at each.
template <class Tile, class What>
__device__ __forceinline__ void store_staged(const Params& p, const Surface& surface, const Work& work,
                                             const Pass<Tile>& pass, int lane, const What& what) {
  // All on their way before the first is stored: one after the other they took a seventh of a mish tile's time.
  int pixels[Pass<Tile>::kTurns];
  uint4 vectors[Pass<Tile>::kTurns];
#pragma unroll
  for (int turn = 0; turn < Pass<Tile>::kTurns; ++turn) {
    pixels[turn] = pass.pixel_at(p, work, pass.row_of(lane, turn));
    vectors[turn] = sm80::load_shared_bits(pass.vector_smem(lane, turn));
  }
#pragma unroll
  for (int turn = 0; turn < Pass<Tile>::kTurns; ++turn) {
    store_vector(p, surface, pixels[turn], work.channel + pass.channel_of(lane), vectors[turn]);
    what(pixels[turn], vectors[turn]);
  }
}

/// Stores a pass of sums, and rounds them likewise.
template <class Tile, DType kDtype>
__device__ __forceinline__ void store_sums(const Params& p, const Work& work, const Pass<Tile>& pass,
                                           int lane, float (&values)[Tile::kStaged / 2]) {
  __syncwarp();  // the last pass' vectors have been read
  stage<Tile, kDtype>(pass, lane, values,
                      [&](int i, const uint32_t(&pairs)[4]) { unpack_pairs<kDtype>(pairs, i, values); });
  store_staged(p, p.sum, work, pass, lane, [](int, const uint4&) {});
  __syncwarp();
}

/// The pixel of row `row` of the 16 whose sums a warp has; a thread has those of rows lane / 4 and 8 below.
template <class Tile>
__device__ int pixel_of_row(const Params& p, const Work& work, int warp, int row) {
  return pixel_of<Tile>(p, work, Tile::block_of(warp / 4) * 64 + warp % 4 * 16 + row);
}

/// Of a tile that may have pixels of several images notes the largest results: pairs of those of the two rows whose sums a
/// thread has, which are scaled by 2^results, a row's lane % 16.
template <class Tile>
__device__ __forceinline__ void note_tile(const Params& p, uint32_t joined, const Work& work, int warp,
                                          int lane, int results, const uint32_t (&tops)[2]) {
  const int first_row = Tile::block_of(warp / 4) * 64;
  const int pixel = pixel_of_row<Tile>(p, work, warp, lane % 16), image = image_of(p, pixel);
  int images[2];
  float values[2];
  for (int half : {0, 1}) {
    images[half] = __shfl_sync(0xffffffffu, image, lane / 4 + half * 8);
    const int exponent = __shfl_sync(0xffffffffu, results, lane / 4 + half * 8);
    values[half] = images[half] < 0 ? 0 : finite_largest(tops[half]) * power_of_two(-exponent);
  }
  // Two images in one thread are as rare as they are slow.
  const bool are_two = images[0] != images[1] && images[0] >= 0 && images[1] >= 0;
  if (are_two) add_maximum(p, images[1], __float_as_uint(values[1])), values[1] = 0;
  join_largest(p, joined, lane, image_of(p, pixel_of<Tile>(p, work, first_row)),
               images[0] >= 0 ? images[0] : images[1], fmaxf(values[0], values[1]));
}

/// A pass' sums, of channels from the tile's channel `first` on, times the scales of table `index`, plus its biases; 1: those
/// behind the residual.
template <int N>
__device__ __forceinline__ void scale_pass(const Params& p, uint32_t channels, int first, int index, int lane,
                                           const RowPowers& sums, float (&to)[N]) {
  const uint32_t table =
      channels + index * p.config.table_channels * 8 + (first + lane % 4 * 2) / 2 * kChannelPairBytes;
#pragma unroll
  for (int i = 0; i < N; i += 4) {
    const float4 pair = sm80::load_shared(table + i / 4 * 4 * kChannelPairBytes);
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      float* const of = to + i + 2 * row;
      of[0] = fmaf(of[0], pair.x * sums.of[row], pair.z);
      of[1] = fmaf(of[1], pair.y * sums.of[row], pair.w);
    }
  }
}

/// A whole tile of sums, each warp its own pixels; `channels`: the scales of its first channels; `kept` and `joined`, of
/// scaled values: of its only image, and what its group has found. One piece of code for all passes: several would not fit
/// the instruction cache; but where warpgroups take turns, mostly by the engine, one would spill registers.
template <class Tile, Values kValues, ConvChain kChain, Scaling kScaling>
__device__ __forceinline__ void store_tile(const Params& p, uint32_t staging, uint32_t joined,
                                           const Work& work, int warp, int lane, uint32_t channels,
                                           const Kept& kept, const float (&acc)[Tile::kChannels / 2]) {
  constexpr DType kDtype = dtype_of(kValues);
  constexpr bool kIsScaled = kScaling != Scaling::none;
  constexpr int kSums = Tile::kStaged / 2;
  const bool is_measured = kIsScaled && p.scaling.is_measured;
  ImageScale of_row;      // of row lane % 16
  uint32_t tops[2] = {};  // of the two rows whose sums a thread has, or one of all
  if constexpr (kScaling == Scaling::table) of_row = kept.scale();
  if constexpr (kScaling == Scaling::rows) {
    const int pixel = pixel_of_row<Tile>(p, work, warp, lane % 16), image = image_of(p, pixel);
    of_row = scale_of(p, image);
    if (work.channel == 0) note_scale(p, pixel, image, of_row);
  }
  if (!takes_vectors(p)) [[unlikely]] {
    const int pixel = pixel_of_row<Tile>(p, work, warp, lane % 16);
    return store_tile_apart<Tile, kValues, kChain, kScaling>(p, staging, work, warp, lane, channels, of_row,
                                                             pixel, acc);
  }
#pragma unroll(Tile::kTakesTurns && !kIsScaled ? Tile::kPasses : 1)
  for (int index = 0; index < Tile::kPasses; ++index) {
    const Pass<Tile> pass(p, work, staging, warp, lane, index);
    if (p.residual.data != nullptr) {
      sm80::copy_async_wait<0>();
      __syncwarp();
      if (index + 1 < Tile::kPasses)
        start_residual(p, work, Pass<Tile>(p, work, staging, warp, lane, index + 1), lane);
    }
    float values[kSums];
#pragma unroll
    for (int known = 0; known < Tile::kPasses; ++known) {
#pragma unroll
      for (int i = 0; i < kSums; ++i) {
        // Registers have no index.
        values[i] = known == 0 || known == index ? acc[known * kSums + i] : values[i];
      }
    }
    const auto scale = [&](int index, float(&to)[kSums]) {
      const RowPowers sums =
          kScaling == Scaling::rows && index == 0 ? powers_at(of_row.sums, lane) : RowPowers{};
      scale_pass(p, channels, pass.channel, index, lane, sums, to);
    };
    finish<kChain, Tile::kStoresSums>(
        p, values, scale,
        [&](float(&to)[kSums]) {
          RowPowers powers;
          if constexpr (kIsScaled) powers = powers_at(residual_exponent<kScaling, kChain>(of_row), lane);
#pragma unroll
          for (int i = 0; i < kSums / 8; ++i) {
            uint32_t pairs[4];
            sm80::load_matrices(pass.matrix_smem(lane) + i * kMatrixBytes, pairs);
            add_pairs<kDtype>(pairs, i * 8, to, powers.of[0], powers.of[1]);
          }
        },
        [&](float(&to)[kSums]) { store_sums<Tile, kDtype>(p, work, pass, lane, to); });
    if constexpr (kScalesResults<kScaling, kChain>) {
      const RowPowers powers = powers_at(of_row.results, lane);
#pragma unroll
      for (int i = 0; i < kSums; ++i) values[i] *= powers.of[i / 2 % 2];
    }
    if (p.config.stagings == 1 && p.residual.data == nullptr)
      __syncwarp();  // the last pass' vectors have been read
    stage<Tile, kDtype>(pass, lane, values, [&](int, const uint32_t(&pairs)[4]) {
      if constexpr (kScaling == Scaling::rows)
        for (int e = 0; e < 4; ++e) tops[e % 2] = larger_halves(tops[e % 2], pairs[e]);
    });
    store_staged(p, p.y, work, pass, lane, [&](int pixel, const uint4& vector) {
      if constexpr (kScaling == Scaling::table)
        if (is_measured && pixel >= 0) tops[0] = larger_vector(tops[0], vector);
    });
  }
  if (!is_measured) return;
  if constexpr (kScaling == Scaling::rows) note_tile<Tile>(p, joined, work, warp, lane, of_row.results, tops);
  if constexpr (kScaling == Scaling::table) kept.add(lane, tops[0]);
}

}  // namespace solder::nhwc
