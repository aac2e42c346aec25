#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>

#include "ops/conv/choose.h"
#include "ops/conv/mma/mma.h"
#include "runtime/check.h"
#include "runtime/divide.h"

namespace solder {
namespace {

constexpr int64_t kVector = 8;  // channels of 16 bytes

// Why the kernel does not cover the shape; null where it does.
const char* why_unsupported(const ConvShape& s, const MmaInput& x) {
  if (const char* why = why_not_fused(s)) return why;
  constexpr int64_t kMost = int64_t{1} << 31;
  if (s.N * s.gemm_n() >= kMost - 4096 || s.K >= kMost - 4096) return "2^31 or more pixels";
  if (s.N * x.image >= kMost || x.part >= kMost) return "2^31 or more vectors of x";
  if (s.K * s.gemm_k() >= kMost) return "2^31 or more weights";
  if (s.R > kMostMmaTaps) return "a filter of more than 16 rows";
  if (std::max(s.H * s.W, s.gemm_n()) >= int64_t{1} << 30) return "a plane of 2^30 elements";
  // Rows and columns, those of padding too, are numbers of 31 bits.
  const auto reach = [](int64_t extent, int64_t outputs, int64_t stride, int64_t taps, int64_t dil,
                        int64_t pad) { return extent + outputs * stride + taps * dil + std::abs(pad); };
  if (std::max(reach(s.H, s.P(), s.stride_h, s.R, s.dil_h, s.pad_top),
               reach(s.W, s.Q(), s.stride_w, s.S, s.dil_w, s.pad_left)) >= int64_t{1} << 30)
    return "an extent above 2^30";
  return nullptr;
}

// Positions of a tile's pixels, from the first one's to the last tap of the last.
int64_t most_positions(int64_t Q, int pixels, int64_t step, int64_t pitch, int64_t halo) {
  const int64_t breaks = (Q + pixels - 2) / Q;  // of rows, at most
  return (pixels - 1) * step + 1 + breaks * std::max<int64_t>(pitch - Q * step, 0) + halo;
}

// One copy of a filter row's pixels for all of its columns, or a copy for each: what loads less. Rows four pixels apart
// would meet in a quarter of the banks.
void plan_positions(const ConvShape& s, bool may_share, MmaConfig* c) {
  const int pixels = c->shape().pixels();
  const int64_t halo = (s.S - 1) * s.dil_w, pitch = (s.Q() - 1) * s.stride_w + 1 + halo;
  const int64_t shared = most_positions(s.Q(), pixels, s.stride_w, pitch, halo);
  c->is_shared = may_share && s.S > 1 && s.stride_w % 4 != 0 && shared < s.S * pixels * 3 / 4 &&
                 s.N * s.P() * pitch < (int64_t{1} << 30);
  c->step = c->is_shared ? static_cast<int>(s.stride_w) : 1;
  c->pitch = static_cast<int>(c->is_shared ? pitch : s.Q());
  c->column_step = c->is_shared ? 1 : static_cast<int>(s.stride_w);
  // Even, so that what lies behind tables of 8 bytes a position is on a 16-byte line.
  c->stage_positions = static_cast<int>(round_up(c->is_shared ? shared : pixels, int64_t{2}));
}

// Stages of the sum, and of the ring.
void plan_stages(const ConvShape& s, MmaConfig* c) {
  c->num_blocks = static_cast<int>(ceil_div(s.C, int64_t{kMmaUnitChannels}));
  c->stage_units = static_cast<int>(c->is_shared ? s.S : 1);
  c->num_stages = static_cast<int>(c->num_blocks * s.R * (c->is_shared ? 1 : s.S));
  c->unit_bytes = static_cast<int>(s.dil_w * kMmaRowBytes);
  c->part_bytes = c->stage_positions * kMmaRowBytes;
  c->stage_bytes = c->part_bytes * c->shape().num_parts;
}

// Slots of the rings: what is asked for after the barrier of a unit is there two units later, before the barrier then.
void plan_memory(const SmemLimits& limits, MmaConfig* c) {
  const MmaTile& tile = c->shape();
  c->num_slots = c->stage_units == 1 ? 3 : 2;
  c->num_tables = 1 + static_cast<int>(ceil_div(c->num_slots, c->num_stages / c->split));
  const int tables = c->num_tables * c->stage_positions * 8, scales = tile.channels() * 8 + tile.pixels() * 4;
  c->smem_bytes = c->num_slots * c->stage_bytes + kMmaWeightSlots * c->weight_bytes() + tables + scales;
  c->blocks_per_sm = c->smem_bytes > limits.per_block
                         ? 0
                         : std::clamp(limits.per_sm / (c->smem_bytes + 1024), 1, tile.blocks_per_sm);
}

// Microseconds on an H200 with as many multiprocessors: families are compared by one clock, whose rates relate to each
// other on other GPUs much as on this one. Constants fitted to 189 times of 40 networks' layers, tiles and splits, 14
// percent off on average; the choice then takes 4 percent longer than the fastest. Blocks on one multiprocessor hardly
// hinder each other's products, but the stages and epilogues between them.
double predict_us(const ConvShape& s, const MmaConfig& c, const DeviceInfo& device) {
  constexpr double kCyclesPerUs = 1700, kMemoryBytesPerUs = 3.2e6;
  const MmaTile& tile = c.shape();
  const auto number = [](int64_t value) { return static_cast<double>(value); };
  const double stages = std::ceil(number(c.num_stages) / c.split), units = stages * c.stage_units;
  const double products =
      tile.warp_channels * tile.warp_pixels / 64.0 * (tile.num_parts == 2 ? 3 : 1);  // of a warp, in a unit
  const double sums = tile.warp_channels * tile.warp_pixels / 32.0 * (c.split > 1 ? 0.2 : 1);  // of a thread
  const auto turn = [&](double blocks) {
    return 1900 + units * (11 * products + 310) + stages * (550 + 460 * blocks) + sums * (40 + 25 * blocks);
  };
  const int64_t work = c.num_tiles() * c.split, at_once = int64_t{device.num_sms} * c.blocks_per_sm;
  const int64_t turns = ceil_div(work, at_once), rest = work - (turns - 1) * at_once;
  const double cycles =
      number(turns - 1) * turn(c.blocks_per_sm) + turn(number(ceil_div(rest, device.num_sms)));
  const double elem_bytes = c.is_planes ? 4 : 2;
  const double out = number(s.N * s.K * s.gemm_n()) * elem_bytes, in = number(s.N * s.C * s.H * s.W);
  const double memory = (out + in * 2 * tile.num_parts) / kMemoryBytesPerUs;
  double us = 2.7 + both(cycles / kCyclesPerUs, memory);
  if (c.is_planes)
    us += 10 + in * (4 + 2 * tile.num_parts) / kMemoryBytesPerUs;  // four launches, the pass over x
  if (c.split > 1) us += 2 + 2 * number(mma_partial_bytes(c)) / kMemoryBytesPerUs;
  // Twofold on Hopper: it displaces a kernel made for that only where there is no doubt.
  return device.cc_major == 9 ? 2 * us : us;
}

}  // namespace

SmemLimits smem_limits(int cc_major, int cc_minor) {
  if (cc_major == 7) return {64 << 10, 64 << 10};
  if (cc_major == 8 && (cc_minor == 0 || cc_minor == 7)) return {164 << 10, 163 << 10};
  if (cc_major == 8 || cc_major >= 12) return {100 << 10, 99 << 10};
  return {228 << 10, 227 << 10};
}

MmaInput packed_mma_input(const ConvShape& s, int num_parts) {
  const int64_t vectors = ceil_div(s.C, kVector), block = vectors % 4 == 0 ? 4 : vectors;
  MmaInput x{.column = block, .block_vectors = block};
  x.row = s.W * block, x.block = s.H * x.row, x.image = vectors * s.H * s.W;
  x.part = num_parts == 2 ? s.N * x.image : 0;
  return x;
}

int64_t packed_mma_input_bytes(const ConvShape& s, const MmaInput& x, int num_parts) {
  return s.N * x.image * num_parts * 16;
}

std::optional<MmaConfig> make_mma_config(const ConvShape& s, const MmaInput& x, int tile, int split,
                                         bool is_planes, const DeviceInfo& device, std::string* why_not) {
  if (const char* why = why_unsupported(s, x)) return refuse(why_not, why);
  MmaConfig c;
  c.tile = tile, c.split = split, c.x = x, c.is_planes = is_planes;
  const MmaTile& shape = c.shape();
  const SmemLimits limits = smem_limits(device.cc_major, device.cc_minor);
  for (const bool may_share : {true, false}) {
    plan_positions(s, may_share, &c);
    plan_stages(s, &c);
    if (split > 1 && c.num_stages / split < 2) return refuse(why_not, "too few terms to be split");
    plan_memory(limits, &c);
    if (c.blocks_per_sm > 0) break;
  }
  if (c.blocks_per_sm == 0) return refuse(why_not, "stages that do not fit into shared memory");
  if (!c.is_shared && s.S > kMostMmaTaps) return refuse(why_not, "a filter of more than 16 columns");
  c.tiles_channels = ceil_div(s.K, shape.channels());
  c.tiles_pixels = ceil_div(s.N * s.gemm_n(), shape.pixels());
  if (c.num_tiles() * split >= int64_t{1} << 30) return refuse(why_not, "2^30 or more tiles");
  const int64_t at_once = std::max<int64_t>(int64_t{device.num_sms} * c.blocks_per_sm / split, 1);
  c.num_blocks_x = static_cast<int>(std::min(c.num_tiles(), at_once));
  c.predicted_us = predict_us(s, c, device);
  return c;
}

std::optional<MmaConfig> choose_mma_config(const ConvShape& s, const MmaInput& x, int num_parts,
                                           bool is_planes, int64_t max_scratch_bytes,
                                           const DeviceInfo& device, std::string* why_not) {
  if (device.cc_major * 10 + device.cc_minor < 75) return refuse(why_not, "needs compute capability 7.5");
  // There float16 products with float32 sums run at half rate, and three of them lose to float32 itself.
  const bool is_geforce =
      (device.cc_major == 8 && device.cc_minor >= 6 && device.cc_minor != 7) || device.cc_major >= 12;
  if (num_parts == 2 && is_geforce) return refuse(why_not, "cuBLAS's float32 is faster on this GPU");
  if (packed_mma_input_bytes(s, x, is_planes ? num_parts : 0) > max_scratch_bytes)
    return refuse(why_not, "packed x that does not fit into the workspace");
  std::optional<MmaConfig> best;
  for (int tile = 0; tile < kNumMmaTiles; ++tile) {
    if (kMmaTiles[tile].num_parts != num_parts) continue;
    for (int split = 1; split <= kMaxMmaSplit; split *= 2) {
      const auto c = make_mma_config(s, x, tile, split, is_planes, device, why_not);
      if (!c) continue;
      const int64_t scratch = packed_mma_input_bytes(s, x, is_planes ? num_parts : 0) + mma_partial_bytes(*c);
      if (split > 1 && scratch > max_scratch_bytes) continue;
      if (!best || c->predicted_us < best->predicted_us) best = c;
    }
  }
  return best;
}

int64_t mma_partial_bytes(const MmaConfig& c) {
  return c.split == 1 ? 0 : c.num_tiles() * c.split * c.shape().channels() * c.shape().pixels() * 4;
}

std::string to_string(const MmaConfig& c) {
  const MmaTile& tile = c.shape();
  return str("tile ", tile.channels(), "x", tile.pixels(), ", ", c.num_tiles(), " tiles of ", c.num_stages,
             " stages of ", c.stage_units, " units", c.is_shared ? " of one row" : "", ", ",
             c.split > 1 ? str("split ", c.split, ", ") : "", c.stage_positions, " positions, ",
             c.num_blocks_x, " blocks, ", c.num_slots, " slots, ", c.smem_bytes, " B");
}

}  // namespace solder
