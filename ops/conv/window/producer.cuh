#pragma once
// The producing half of conv_window_kernel: warps 0-2 convert windows of x, or fetch packed ones.

#include "ops/conv/range/convert.cuh"
#include "ops/conv/ring.cuh"
#include "ops/conv/window/params.cuh"
#include "ops/ptx/sm80.cuh"
#include "ops/ptx/sm90.cuh"

namespace solder::window {

// A unit of work is one position's 16 terms of a step. A thread's units: for each chunk, for each of its
// positions (thread, thread + 96, ...), for each 16 terms of the chunk. Units arrive in shared memory as raw
// floats, kInFlight of them under way while another is converted (30 KB a block); each thread sees only what
// it copied itself, so no barrier is needed. The loop is not unrolled: the roles' code together must fit the
// instruction caches, or everything slows down by a factor of five.
inline constexpr int kUnit = kWindowStepTerms;
inline constexpr int kInFlight = kWindowInFlight;
inline constexpr int kRawStageBytes = kProducers * kUnit * 4;

struct Unit {
  int chunk = 0, turn = 0, step = 0;
  int num_steps = 0;  ///< of this chunk, for one tap
  int channel = 0;    ///< the unit's first

  __device__ void advance(const WindowConfig& c, int num_turns, int last_steps) {
    channel += kUnit;
    if (++step < num_steps) return;
    step = 0;
    channel -= num_steps * kUnit;
    if (++turn < num_turns) return;
    turn = 0;
    ++chunk;
    channel += c.chunk_channels;
    if (chunk == c.num_chunks - 1) num_steps = last_steps;
  }
};

/// What a producer keeps from tile to tile, and what it knows about the current one.
struct Producer {
  int thread;
  int size;       ///< positions of a window, all phases
  int num_turns;  ///< positions of this thread
  RingPosition windows;
  bool is_single_image;  ///< all positions of the window lie in one image
  float scale;           ///< of that image
  float max_abs;         ///< of that image, over what this thread has converted
};

/// The input pixel of a position in one phase.
struct Pixel {
  int image, h, w;
  bool is_row;  ///< h lies in x; w may not
};

__device__ inline Pixel locate_pixel(const Params& p, int plane, uint32_t position) {
  const WindowConfig& c = p.config;
  const Position at = locate(p, position);
  int h = at.row * p.stride_h - p.pad_top, w = at.column * p.stride_w - p.pad_left;
  if (plane > 0) {
    // Planes are numbered by the taps that use them: plane j holds the remainder of tap j.
    const int phase_h = plane / c.phases_w, phase_w = plane - phase_h * c.phases_w;
    h += phase_h * p.dil_h % p.stride_h;
    w += phase_w * p.dil_w % p.stride_w;
  }
  return {at.image, h, w, at.image < p.N && h >= 0 && h < p.H};
}

/// The pixel of entry i of a window.
__device__ inline Pixel locate_entry(const Params& p, int i, int64_t first_position) {
  const int plane = static_cast<int>(p.by_window.divide(static_cast<uint32_t>(i)));
  return locate_pixel(p, plane, static_cast<uint32_t>(first_position + i - plane * p.config.window));
}

/// Fills the thread's own entries of the position table.
__device__ inline void locate_window(const Params& p, const Smem& smem, const Producer& self,
                                     int64_t first_position) {
#pragma unroll 1
  for (int i = self.thread; i < self.num_turns * kProducers; i += kProducers) {
    const Pixel pixel = locate_entry(p, i, first_position);
    // With several columns in a step each is tested where it is loaded.
    const bool is_column = p.config.filter_cols > 1 || (pixel.w >= 0 && pixel.w < p.W);
    const bool is_read = i < self.size && pixel.is_row && is_column;
    smem.origins[i] = is_read ? pixel.image * p.x_image + int64_t{pixel.h} * p.W + pixel.w : INT64_MIN;
    smem.columns[i] = pixel.w;
    if (!self.is_single_image) {
      smem.scales[i] = is_read ? power_of_two(image_exponent(p, pixel.image)) : 1.0f;
      smem.maxima[i] = 0;
    }
  }
}

/// Starts the copy of one unit to `raw`: lane by lane neighbouring pixels.
template <bool kColumns>
__device__ __forceinline__ void load_unit(const Params& p, const Smem& smem, const Producer& self,
                                          const Unit& unit, uint32_t raw) {
  const int i = self.thread + unit.turn * kProducers;
  const int64_t origin = smem.origins[i];
  const bool is_read = origin != INT64_MIN;
  const uint32_t plane_elems = static_cast<uint32_t>(p.H * p.W);
  const float* src = p.x + (origin + unit.channel * int64_t{plane_elems});
  if constexpr (kColumns) {
    const int channel_bits = p.config.filter_cols == 4 ? 2 : 3;
    const int first_column = smem.columns[i];
#pragma unroll
    for (int e = 0; e < kUnit; ++e) {
      const int channel = e & ((1 << channel_bits) - 1), shift = (e >> channel_bits) * p.dil_w;
      const int column = first_column + shift;
      const bool is_valid = is_read && channel < p.C && column >= 0 && column < p.W;
      const int64_t offset = channel * int64_t{plane_elems} + shift;
      sm80::copy_async(raw + e * kProducers * 4, src + offset, is_valid);
    }
  } else {
    const int num_channels = is_read ? p.C - unit.channel : 0;
#pragma unroll
    for (int e = 0; e < kUnit; ++e) {
      sm80::copy_async(raw + e * kProducers * 4, sm80::advance_bytes(src, plane_elems * 4, e),
                       e < num_channels);
    }
  }
}

/// Scales, rounds and stores a unit that has arrived in `raw`; hands the stage over after the chunk's last.
template <class Tile>
__device__ __forceinline__ void store_unit(const Params& p, const Smem& smem, const Unit& unit,
                                           const float* raw, Producer& self) {
  const WindowConfig& c = p.config;
  float values[kUnit];
#pragma unroll
  for (int e = 0; e < kUnit; ++e) values[e] = raw[e * kProducers];
  const int i = self.thread + unit.turn * kProducers;
  if (unit.turn == 0 && unit.step == 0) {
    sm90::mbarrier_wait(smem.window_empty + 8 * self.windows.slot, self.windows.parity ^ 1);
  }
  const float scale = self.is_single_image ? self.scale : smem.scales[i];
  uint8_t* dst =
      smem.windows + (self.windows.slot * c.window_stage_bytes + (unit.step * 2 * self.size + i) * 16);
#pragma unroll
  for (int g = 0; g < 2; ++g) {
    uint4 parts[2];
    split_values<Tile::kParts>(values + g * 8, scale, parts);
    if (i < self.size) {
      *reinterpret_cast<uint4*>(dst + g * self.size * 16) = parts[0];
      if constexpr (Tile::kParts == 2) {
        *reinterpret_cast<uint4*>(dst + c.window_stage_bytes / 2 + g * self.size * 16) = parts[1];
      }
    }
  }
  float partial[4] = {};  // four short chains
#pragma unroll
  for (int e = 0; e < kUnit; ++e) partial[e % 4] = sm80::max_nan(partial[e % 4], fabsf(values[e]));
  const float max_abs =
      sm80::max_nan(sm80::max_nan(partial[0], partial[1]), sm80::max_nan(partial[2], partial[3]));
  self.max_abs = sm80::max_nan(self.max_abs, max_abs);
  if (!self.is_single_image) smem.maxima[i] = sm80::max_nan(smem.maxima[i], max_abs);
  if (unit.turn == self.num_turns - 1 && unit.step == unit.num_steps - 1) {
    sm90::fence_proxy_async();
    __syncwarp();
    if (self.thread % 32 == 0) sm90::mbarrier_arrive(smem.window_full + 8 * self.windows.slot, 1);
    self.windows.advance(c.window_stages);
  }
}

template <class Tile, bool kColumns>
__device__ __forceinline__ void produce_units(const Params& p, const Smem& smem, Producer& self) {
  const WindowConfig& c = p.config;
  const int num_units = self.num_turns * (c.num_steps / c.num_taps);
  const int last_steps = c.last_steps / c.num_taps;
  const uint32_t raw = smem.raw + self.thread * 4;
  const float* raw_values = smem.raw_values + self.thread;
  Unit next;
  next.num_steps = c.num_chunks == 1 ? last_steps : c.chunk_steps / c.num_taps;
  Unit now = next;
  int slot = 0;  // of the unit loaded next; the one converted next lies kInFlight before it, round the ring
#pragma unroll 1
  for (int n = 0; n < num_units + kInFlight; ++n) {
    if (n < num_units) {
      load_unit<kColumns>(p, smem, self, next, raw + slot * kRawStageBytes);
      next.advance(c, self.num_turns, last_steps);
    }
    sm80::copy_async_commit();
    slot = slot == kInFlight ? 0 : slot + 1;
    if (n >= kInFlight) {
      sm80::copy_async_wait<kInFlight>();
      store_unit<Tile>(p, smem, now, raw_values + slot * (kRawStageBytes / 4), self);
      now.advance(c, self.num_turns, last_steps);
    }
  }
}

/// Reports the maxima of a tile.
__device__ inline void record_max(const Params& p, const Smem& smem, const Producer& self,
                                  int64_t first_position, int first_image) {
  if (self.is_single_image) {
    const uint32_t bits = __reduce_max_sync(0xffffffffu, __float_as_uint(self.max_abs));
    if (self.thread % 32 == 0 && bits != 0) atomicMax(&p.ranges[first_image].max_bits, bits);
    return;
  }
#pragma unroll 1
  for (int i = self.thread; i < self.size; i += kProducers) {
    const uint32_t bits = __float_as_uint(smem.maxima[i]);
    if (bits != 0) atomicMax(&p.ranges[locate_entry(p, i, first_position).image].max_bits, bits);
  }
}

template <class Tile>
__device__ void produce(const Params& p, const Smem& smem, int thread) {
  const WindowConfig& c = p.config;
  Producer self{.thread = thread, .size = c.window * c.num_planes()};
  self.num_turns = (self.size + kProducers - 1) / kProducers;
  const int num_tiles = c.tiles_k * c.tiles_positions;
#pragma unroll 1
  for (int tile = static_cast<int>(blockIdx.x); tile < num_tiles; tile += static_cast<int>(gridDim.x)) {
    const int64_t first = int64_t{tile / c.tiles_k} * Tile::kBlockPositions;
    if (!is_needed<Tile>(p, first)) continue;
    const int2 images = images_of(p, first, c.window);
    self.is_single_image = images.x >= images.y;
    self.scale = power_of_two(image_exponent(p, images.x));
    self.max_abs = 0;
    locate_window(p, smem, self, first);
    if (c.filter_cols > 1)
      produce_units<Tile, true>(p, smem, self);
    else
      produce_units<Tile, false>(p, smem, self);
    // The blocks of the other output channels see the same x.
    if (tile % c.tiles_k == 0 && !p.is_repair) record_max(p, smem, self, first, images.x);
  }
}

/// Fetches packed windows: for every 8 channels and phase a window is one run of packed x. A copy takes its
/// warp some 60 cycles to issue, so the warps take chunks in turn.
/// NOTE: never more warps than stages. A warp that waits for a slot knows the chunk one ring before its last
/// one to be released; with more warps the barrier could still be two phases behind, which a parity misses.
template <class Tile>
__device__ void fetch_windows(const Params& p, const Smem& smem, int warp, int lane) {
  const WindowConfig& c = p.config;
  const int step_runs = 2 * c.num_planes();  // 16 channels
  const int full_runs = c.chunk_steps / c.num_taps * step_runs;
  const int last_runs = c.last_steps / c.num_taps * step_runs;
  const int64_t part_runs = int64_t{c.num_chunks - 1} * full_runs + last_runs;  // of one part of packed x
  const uint32_t run_bytes = c.window * 16;
  const int num_tiles = c.tiles_k * c.tiles_positions;
  const int num_warps = min(kProducers / 32, c.window_stages);
  RingPosition windows;
  int turn = 0;
#pragma unroll 1
  for (int tile = static_cast<int>(blockIdx.x); tile < num_tiles; tile += static_cast<int>(gridDim.x)) {
    const uint4* src = p.packed_x + int64_t{tile / c.tiles_k} * Tile::kBlockPositions;
#pragma unroll 1
    for (int chunk = 0; chunk < c.num_chunks; ++chunk) {
      if (turn == warp) {
        const int runs = chunk == c.num_chunks - 1 ? last_runs : full_runs;
        const uint32_t full = smem.window_full + 8 * windows.slot;
        const uint32_t dst = sm80::smem_address(smem.windows) + windows.slot * c.window_stage_bytes;
        sm90::mbarrier_wait(smem.window_empty + 8 * windows.slot, windows.parity ^ 1);
        if (lane == 0) sm90::mbarrier_arrive_expect(full, runs * Tile::kParts * run_bytes);
        __syncwarp();
#pragma unroll 1
        for (int run = lane; run < runs; run += 32) {
#pragma unroll
          for (int part = 0; part < Tile::kParts; ++part) {
            sm90::bulk_load(dst + part * (c.window_stage_bytes / 2) + run * run_bytes,
                            src + (part * part_runs + run) * c.packed_positions, run_bytes, full);
          }
        }
      }
      turn = turn == num_warps - 1 ? 0 : turn + 1;
      src += full_runs * c.packed_positions;
      windows.advance(c.window_stages);
    }
  }
}

}  // namespace solder::window
