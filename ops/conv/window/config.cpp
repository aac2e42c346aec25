#include "ops/conv/window/window.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "ops/conv/choose.h"
#include "ops/conv/range/range.h"
#include "runtime/check.h"
#include "runtime/divide.h"

namespace solder {
namespace {

// Shared memory a block may take on Hopper, by how much of the 256 KiB it leaves to L1 (1 KiB is reserved):
// loads on their way need L1 lines, so the least that does is best.
constexpr int64_t kSmemBudgets[] = {163 << 10, 195 << 10, 227 << 10};
constexpr int kMaxWindow = 16383;  // 14 bits of a wgmma descriptor

// Rows (columns) of virtual images that may overlap the next one's because both are all padding. `extent` is
// the input's, `outputs` the output's, `reach` the largest offset a window position adds to outputs * stride.
int64_t shared_padding(int64_t extent, int64_t outputs, int64_t stride, int64_t pad, int64_t halo,
                       int64_t reach) {
  int64_t leading = 0, trailing = 0;
  while (leading < halo && leading * stride + reach < pad) ++leading;
  while (trailing < halo && (outputs + halo - 1 - trailing) * stride - pad >= extent) ++trailing;
  return std::min(leading, trailing);
}

// Fills everything that does not depend on tile and strips.
void plan_terms(const ConvShape& s, Math math, WindowConfig* c) {
  c->math = math;
  c->num_parts = math == Math::fp32 ? 2 : 1;
  c->filter_cols = 1;
  // Few channels: fill a step's 16 terms with neighbouring filter columns. Their distance in the input must
  // be whole outputs.
  for (const int cols : {4, 2}) {
    if (s.C <= 16 / cols && s.S > 1 && cols * s.dil_w % s.stride_w == 0) {
      c->filter_cols = cols;
      break;
    }
  }
  const int64_t cols = ceil_div(s.S, c->filter_cols);
  c->num_taps = static_cast<int>(s.R * cols);
  const int64_t step_w = c->filter_cols * s.dil_w;
  const auto num_phases = [](int64_t taps, int64_t stride, int64_t dilation) {
    return static_cast<int>(std::min(taps, stride / std::gcd(stride, dilation)));
  };
  c->phases_h = num_phases(s.R, s.stride_h, s.dil_h);
  c->phases_w = num_phases(cols, s.stride_w, step_w);
  c->halo_h = static_cast<int>((s.R - 1) * s.dil_h / s.stride_h);
  c->halo_w = static_cast<int>((cols - 1) * step_w / s.stride_w);
}

// Geometry of `num_strips` strips.
void plan_positions(const ConvShape& s, int64_t num_strips, WindowConfig* c) {
  const int64_t P = s.P(), Q = s.Q();
  c->strip_w = static_cast<int>(ceil_div(Q, num_strips));
  c->num_strips = static_cast<int>(ceil_div(Q, c->strip_w));
  const int64_t reach_h = s.stride_h - 1;
  const int64_t reach_w = c->filter_cols > 1 ? (c->filter_cols - 1) * s.dil_w : s.stride_w - 1;
  c->rows =
      static_cast<int>(P + c->halo_h - shared_padding(s.H, P, s.stride_h, s.pad_top, c->halo_h, reach_h));
  c->pitch = c->strip_w + c->halo_w;
  if (c->num_strips == 1) {
    c->pitch -= static_cast<int>(shared_padding(s.W, Q, s.stride_w, s.pad_left, c->halo_w, reach_w));
  }
  c->num_positions = s.N * c->num_strips * c->rows * int64_t{c->pitch};
}

// Cuts all terms into chunks of `channels`.
void plan_chunks(int64_t all_channels, int64_t channels, WindowConfig* c) {
  const int64_t num_chunks = ceil_div(all_channels, channels);
  c->chunk_channels = static_cast<int>(channels);
  c->num_chunks = static_cast<int>(num_chunks);
  c->chunk_steps = static_cast<int>(c->num_taps * channels / 16);
  c->last_steps = static_cast<int>(c->num_taps * (all_channels - (num_chunks - 1) * channels) / 16);
  c->num_steps = static_cast<int>(c->num_taps * all_channels / 16);
}

constexpr int64_t kWeightStage = 2 * kWindowWeightStageBytes;  // of both rings

// How many stages each ring gets where producers convert x; false when two windows and `min_weights` do not
// fit.
bool plan_converted_stages(int64_t fixed, int64_t stage, int min_weights, WindowConfig* c) {
  for (const int64_t budget : kSmemBudgets) {
    int64_t left = budget - fixed - 2 * stage;
    if (left < min_weights * kWeightStage) continue;
    int64_t weight_stages = std::min<int64_t>(left / kWeightStage, 4);
    left -= weight_stages * kWeightStage;
    const int64_t more_windows = std::min<int64_t>(left / stage, 2);
    left -= more_windows * stage;
    weight_stages = std::min<int64_t>(weight_stages + left / kWeightStage, 6);
    c->window_stages = static_cast<int>(2 + more_windows);
    c->weight_stages = static_cast<int>(weight_stages);
    return true;
  }
  return false;
}

// Where x is packed nothing needs L1. False when `min_windows` and `min_weights` do not fit.
bool plan_packed_stages(int64_t fixed, int64_t stage, int min_windows, int min_weights, WindowConfig* c) {
  const int64_t left = kSmemBudgets[2] - fixed - min_windows * stage - min_weights * kWeightStage;
  if (left < 0) return false;
  c->window_stages = min_windows;
  c->weight_stages = min_weights;
  grow_rings(left, {&c->window_stages, kMaxWindowStages, stage, c->chunk_steps},
             {&c->weight_stages, kMaxWindowWeightStages, kWeightStage, weight_stage_steps(c->math)});
  return true;
}

// Chunks and stages that fit into shared memory for the tile; false when none do.
bool plan_smem(const ConvShape& s, WindowConfig* c) {
  const WindowTile tile = kWindowTiles[c->tile];
  const int64_t window = tile.block_positions() + int64_t{c->halo_h} * c->pitch + c->halo_w;
  const int64_t planes = c->num_planes();
  if (window * planes > kMaxWindow) return false;
  c->window = static_cast<int>(window);
  const int64_t fixed = window_fixed_bytes(*c);
  const int64_t all_channels = c->filter_cols > 1 ? 16 : round_up(s.C, 16);
  // A ring of two weight stages waits for every load: rather smaller chunks (8 percent faster on average).
  for (const auto& [min_windows, min_weights] : {std::pair{3, 3}, std::pair{2, 3}, std::pair{2, 2}}) {
    if (!c->is_packed && min_windows > 2) continue;
    for (const int chunk : {64, 32, 16}) {
      // A chunk beyond all channels wastes nothing only where the next smaller one would need two.
      if (chunk > 16 && chunk / 2 >= all_channels) continue;
      const int64_t channels = std::min<int64_t>(chunk, all_channels);
      if (c->num_taps * channels / 16 > kMaxWindowChunkSteps) continue;
      const int64_t stage = window * planes * channels * 2 * c->num_parts;
      plan_chunks(all_channels, channels, c);
      if (!(c->is_packed ? plan_packed_stages(fixed, stage, min_windows, min_weights, c)
                         : plan_converted_stages(fixed, stage, min_weights, c)))
        continue;
      c->window_stage_bytes = static_cast<int>(stage);
      c->smem_bytes = static_cast<int>(fixed + c->window_stages * stage + c->weight_stages * kWeightStage);
      return true;
    }
  }
  return false;
}

// Microseconds of the pass that packs x, and of its repair: rows of x that some tap reads, and their copy.
double predict_pack_us(const ConvShape& s, const WindowConfig& c) {
  const double x_bytes = double(s.N * s.C * s.H * s.W) * 4 * std::min(1.0, c.phases_h / double(s.stride_h));
  return 2.8 + (x_bytes + double(packed_x_bytes(s, c))) / 2.46e6;
}

// A model of the run time, in cycles of 1.7 GHz. Its constants were fitted to 1,400 ways to cut up 40 shapes
// of real networks (H100, both modes): it is 6 percent off on average, and what it chooses is 1 percent
// slower than the best way. A tenth more or less of any constant changes no more than 0.3 percent.
void predict(const ConvShape& s, int num_sms, WindowConfig* c) {
  const WindowTile tile = kWindowTiles[c->tile];
  const bool is_fp32 = c->math == Math::fp32, is_packed = c->is_packed;
  const double n = tile.positions, steps = c->num_steps;
  const double num_warpgroups = tile.split_k && s.K <= kWindowBlockK ? 1 : 2;
  // Tensor cores take n / 2 cycles a wgmma; below n = 64 shared memory takes longer. Then the barriers; a
  // ring of two waits for every load. NOTE: all parts are smaller here than by themselves, as kOverlap adds
  // to them.
  const double wgmma = (is_packed ? 0.62 : 0.66) * (std::max(n / 2, 16 + n / 4) + 2);
  const double stages = std::ceil(steps / weight_stage_steps(c->math));
  const double multiply =
      steps * (is_fp32 ? 3 : 1) * wgmma * num_warpgroups + stages * (c->weight_stages > 2 ? 125 : 350);
  const double slice = is_fp32 ? 1265 : n > 128 ? 1020 : 655;  // of 32 positions
  const double epilogue = 1160 + n / 32 * slice;
  const double positions = double(c->window) * c->num_planes();
  const double turns = std::ceil(positions / kWindowProducers);
  const double terms = c->filter_cols > 1 ? 16 : double(round_up(s.C, 16));
  const double produce = is_packed ? 0 : turns * (terms * (is_fp32 ? 31 : 23) + 620);
  const double weight_bytes = num_warpgroups * steps * kWindowStepBytes * c->num_parts;
  const double window_bytes =
      is_packed ? positions * terms * 2 * c->num_parts : positions * double(s.C) * 4 * (1 + 8.0 / c->pitch);
  const double l2 = (weight_bytes + window_bytes) / 64.5;
  const double useful = double(s.P() * s.Q() * s.N) / double(c->num_positions);
  // Strips that do not begin at whole sectors of 32 bytes have most of their lines written in two goes.
  const double rewrites = c->num_strips > 1 && c->strip_w % 8 != 0 ? 2.5 : 1;
  const double out_bytes = double(tile.block_k()) * tile.block_positions() * useful * 4 * rewrites;
  const double dram = (out_bytes + window_bytes / c->tiles_k) / 29;
  const double longest = std::max({multiply + epilogue, l2, produce, dram});
  constexpr double kOverlap = 0.395;  // of what should hide behind the longest, how much shows
  const double cycles = longest + kOverlap * (multiply + epilogue + l2 + produce + dram);
  const double waves = double(ceil_div(c->num_tiles(), num_sms));
  constexpr double kLaunches = 16700;
  c->predicted_us = (kLaunches + 1.14 * produce / c->num_chunks + waves * cycles) / 1700;
  if (is_packed) c->predicted_us += predict_pack_us(s, *c);
}

// Why the kernel does not cover the shape; null where it does.
const char* why_unsupported(const ConvShape& s) {
  if (const char* why = why_not_fused(s)) return why;
  constexpr int64_t kMaxExtent = 1 << 20;
  for (const int64_t extent : {s.C, s.H, s.W, s.K, s.P(), s.Q(), s.R, s.S, s.stride_h, s.stride_w, s.dil_h,
                               s.dil_w, std::abs(s.pad_top), std::abs(s.pad_left)}) {
    if (extent > kMaxExtent) return "an extent above 2^20";
  }
  constexpr int64_t kMaxPlane = int64_t{1} << 30;
  if (s.H * s.W >= kMaxPlane || s.P() * s.Q() >= kMaxPlane) return "a plane of 2^30 elements";
  return s.K < 8 ? "fewer than 8 output channels" : nullptr;
}

}  // namespace

std::optional<WindowConfig> make_window_config(const ConvShape& shape, Math math, int num_sms, int tile,
                                               int num_strips, bool is_packed, std::string* why_not) {
  if (const char* why = why_unsupported(shape)) return refuse(why_not, why);
  WindowConfig c;
  c.is_packed = is_packed;
  plan_terms(shape, math, &c);
  c.tile = tile;
  // fp32 keeps its sums twice (see conv_window_kernel): at most 128 positions fit the registers.
  if (math == Math::fp32 && kWindowTiles[tile].positions > 128)
    return refuse(why_not, "no such tile for fp32");
  plan_positions(shape, num_strips, &c);
  if (c.num_positions >= (int64_t{1} << 31) - 65536) return refuse(why_not, "2^31 or more positions");
  if (!plan_smem(shape, &c)) return refuse(why_not, "a window that does not fit into shared memory");
  c.tiles_k = static_cast<int>(ceil_div(shape.K, kWindowTiles[tile].block_k()));
  c.tiles_positions = static_cast<int>(ceil_div(c.num_positions, kWindowTiles[tile].block_positions()));
  if (c.num_tiles() >= (int64_t{1} << 31) - 65536) return refuse(why_not, "2^31 or more tiles");
  if (c.is_packed)
    c.packed_positions = int64_t{c.tiles_positions - 1} * kWindowTiles[tile].block_positions() + c.window;
  predict(shape, num_sms, &c);
  return c;
}

std::optional<WindowConfig> choose_window_config(const ConvShape& shape, Math math, int num_sms,
                                                 bool is_packed, int64_t max_packed_bytes,
                                                 std::string* why_not) {
  if (const char* why = why_unsupported(shape)) return refuse(why_not, why);
  std::optional<WindowConfig> best;
  int64_t last_strip = 0;
  for (int64_t strips = 1; strips <= ceil_div(shape.Q(), 14); ++strips) {
    const int64_t strip = ceil_div(shape.Q(), strips);
    if (strip == last_strip) continue;
    last_strip = strip;
    for (int tile = 0; tile < kNumWindowTiles; ++tile) {
      const auto c =
          make_window_config(shape, math, num_sms, tile, static_cast<int>(strips), is_packed, why_not);
      if (c && packed_x_bytes(shape, *c) > max_packed_bytes)
        refuse(why_not, "packed x that does not fit into the workspace");
      else if (c && (!best || c->predicted_us < best->predicted_us))
        best = c;
    }
    // Very wide images: the number of strips matters less and less.
    if (strips > 16) strips += strips / 8;
  }
  return best;
}

int64_t packed_x_bytes(const ConvShape& shape, const WindowConfig& config) {
  const int64_t terms = config.filter_cols > 1 ? 16 : round_up(shape.C, 16);
  return config.num_parts * terms * 2 * config.num_planes() * config.packed_positions;
}

int64_t conv_scratch_bytes(const ConvShape& shape, const WindowConfig& config) {
  const int64_t ranges = conv_range_bytes(shape.N);
  return config.is_packed ? round_up(ranges, 256) + packed_x_bytes(shape, config) : ranges;
}

std::string to_string(const WindowConfig& c) {
  const WindowTile tile = kWindowTiles[c.tile];
  return str("tile ", tile.block_k(), "x", tile.block_positions(), tile.split_k ? "k" : "p", ", ",
             c.num_tiles(), " tiles, ", c.num_chunks, " chunks of ", c.chunk_channels,
             c.filter_cols > 1 ? " terms" : " channels", ", ", c.num_steps, " steps, ", c.num_strips,
             " strips of ", c.strip_w, " (pitch ", c.pitch, ", rows ", c.rows, "), ", c.num_planes(),
             " phases of ", c.window, " positions, stages ", c.window_stages, " + ", c.weight_stages, ", ",
             c.smem_bytes, " B");
}

}  // namespace solder
