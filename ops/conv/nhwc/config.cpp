#include <algorithm>

#include "ops/conv/choose.h"
#include "ops/conv/nhwc/nhwc.h"
#include "runtime/check.h"
#include "runtime/divide.h"

namespace solder {
namespace {

constexpr int64_t kSmemBytes = 227 << 10;  // a block may take
constexpr int64_t kSmemOfSm = 228 << 10;   // with 1 KiB reserved for each block
constexpr int kAlignment = 1024;           // of a swizzled slot

// Why the kernel does not cover the shape; null where it does. Limits of the copy engine: CUDA driver API, tensor maps.
const char* why_unsupported(const ConvShape& s, const PixelStrides& x) {
  if (const char* why = why_not_fused(s)) return why;
  if (x.pixel % 8 != 0 || x.row % 8 != 0 || x.image % 8 != 0)
    return "pixels of x do not begin at 16-byte lines";
  constexpr int64_t kMost = int64_t{1} << 31;
  if (s.N * s.P() * s.Q() >= kMost - 4096 || s.C >= kMost || s.K >= kMost - 4096)
    return "2^31 or more pixels";
  if (std::max({x.pixel, x.row, x.image}) >= int64_t{1} << 38) return "images too far apart";
  return nullptr;
}

// Whether x is one run of pixels, of which each makes an output.
bool is_flat(const ConvShape& s, const PixelStrides& x) {
  return s.is_pointwise() && (s.H == 1 || x.row == s.W * x.pixel) &&
         (s.N == 1 || x.image == s.H * s.W * x.pixel);
}

const char* why_not_im2col(const ConvShape& s) {
  const auto is_corner = [](int64_t at) { return at >= -128 && at <= 127; };
  if (s.stride_h > 8 || s.stride_w > 8) return "a stride above 8";
  if ((s.R - 1) * s.dil_h > 255 || (s.S - 1) * s.dil_w > 255) return "a filter that reaches over 256 pixels";
  if (!is_corner(-s.pad_top) || !is_corner(-s.pad_left) || !is_corner(s.pad_bottom - (s.R - 1) * s.dil_h) ||
      !is_corner(s.pad_right - (s.S - 1) * s.dil_w))
    return "padding or a filter that reaches over 128 pixels";
  return nullptr;
}

// A window of so many rows and columns, of whose pixels products read `num_read`; false where that is too much.
bool plan_box(int64_t rows, int64_t cols, int64_t num_read, NhwcConfig* c) {
  if (rows > 256 || cols > 256) return false;
  c->window_rows = static_cast<int>(rows), c->window_cols = static_cast<int>(cols);
  c->x_load_bytes = c->tile_images * c->window_rows * c->window_cols * c->row_bytes();
  const int64_t bytes = std::max(int64_t{c->x_load_bytes}, num_read * c->row_bytes());
  if (bytes > kSmemBytes) return false;
  c->x_slot_bytes = static_cast<int>(round_up(bytes, 128));
  return true;
}

// Tiles of patches: rectangles, of one image or of several that they cover whole.
bool plan_patches(const ConvShape& s, NhwcConfig* c) {
  c->has_patches = true;
  c->tile_images = c->shape().blocks() >> (c->across_log2 + c->down_log2);
  c->tile_rows = 8 << c->down_log2, c->tile_cols = 8 << c->across_log2;
  if (c->tile_images > 1 && (c->tile_rows < s.P() || c->tile_cols < s.Q())) return false;
  c->tiles_down = ceil_div(s.P(), c->tile_rows), c->tiles_across = ceil_div(s.Q(), c->tile_cols);
  c->tiles_pixels = ceil_div(s.N, c->tile_images) * c->tiles_down * c->tiles_across;
  return plan_box(c->tile_rows + (s.R - 1) * s.dil_h, c->tile_cols + (s.S - 1) * s.dil_w, 0, c);
}

// Tiles of runs: an image's rows lie one behind the other, with what separates them, and are cut up wherever that falls or,
// which wants smaller windows, between rows.
bool plan_runs(const ConvShape& s, bool has_whole_rows, NhwcConfig* c) {
  const int64_t down = (s.R - 1) * s.dil_h, right = (s.S - 1) * s.dil_w, pixels = c->shape().pixels();
  // What lies left of a row may serve as what lies right of the row above, if both are padding; that takes a row more.
  const int64_t least = std::min(s.pad_left, s.pad_right);
  const bool is_shared = !has_whole_rows && least >= 0 && least <= right;
  const int64_t pitch = is_shared ? s.W + std::max(s.pad_left, s.pad_right) : s.Q() + right;
  const int64_t positions = (s.P() - 1) * pitch + s.Q();
  if (pitch > 256 || positions >= int64_t{1} << 30) return false;
  const int64_t num_rows = std::min((pixels - s.Q()) / pitch + 1, s.P());
  if (has_whole_rows && s.Q() > pixels) return false;
  const int64_t step = has_whole_rows ? num_rows * pitch : pixels;
  c->tile_images = 1, c->tile_step = static_cast<int>(step), c->tiles_across = 1;
  c->tiles_down = ceil_div(positions, step);
  c->tiles_pixels = s.N * c->tiles_down;
  int64_t last_start = 0;  // where in its first row a tile begins, at most
  for (int64_t tile = 0; tile < std::min(c->tiles_down, pitch); ++tile)
    last_start = std::max(last_start, tile * step % pitch);
  const int64_t rows = has_whole_rows ? num_rows : std::min(ceil_div(last_start + pixels, pitch), s.P());
  const bool reads_below = s.Q() + right > pitch;  // the row below, with the last tap of a row's end
  // The last tap's pixels may end behind the window, those that no output needs.
  return plan_box(rows + down + reads_below, pitch, last_start + pixels + down * pitch + right, c);
}

// The ways to cut the output into tiles where x is fetched as windows; none where that makes no sense.
std::vector<NhwcConfig> plan_windows(const ConvShape& s, const NhwcWork& work, const NhwcConfig& base) {
  std::vector<NhwcConfig> ways;
  if (s.R != 3 || s.stride_h != 1 || s.stride_w != 1) return ways;
  const auto consider = [&](NhwcConfig way, const auto& plan) {
    way.rows_per_step = 3, way.steps_per_slot = static_cast<int>(s.S);
    if (plan(&way) && (way.tile_images == 1 || !work.has_image_biases)) ways.push_back(way);
  };
  NhwcConfig way = base;
  for (way.across_log2 = 0; 1 << way.across_log2 <= base.shape().blocks(); ++way.across_log2)
    for (way.down_log2 = 0; 1 << (way.across_log2 + way.down_log2) <= base.shape().blocks(); ++way.down_log2)
      consider(way, [&](NhwcConfig* c) { return plan_patches(s, c); });
  for (const bool has_whole_rows : {false, true})
    consider(base, [&](NhwcConfig* c) { return plan_runs(s, has_whole_rows, c); });
  return ways;
}

// Slots of both rings; false when they do not fit.
bool plan_smem(int64_t num_tiles_of_block, const NhwcWork& work, NhwcConfig* c) {
  const NhwcTile tile = c->shape();
  constexpr int64_t kMostChannels = 512;
  const int64_t all_channels = c->tiles_channels * tile.channels;
  const bool takes_all = num_tiles_of_block > 1 && all_channels <= kMostChannels && !tile.takes_turns;
  c->table_channels = static_cast<int>(takes_all ? all_channels : tile.channels);
  c->stagings = nhwc_passes(tile) > 1 && (work.has_residual || !tile.takes_turns) ? 2 : 1;
  c->num_tables = work.has_scale ? 2 : 1;
  const int64_t fixed = kNhwcBarrierBytes + nhwc_channel_bytes(tile, c->num_tables, c->table_channels) +
                        nhwc_staging_bytes(tile, c->split, c->stagings);
  const int64_t budget = std::min(kSmemBytes, kSmemOfSm / tile.blocks_per_sm - (1 << 10));
  const int64_t weight_bytes = int64_t{tile.channels} * c->row_bytes();
  int64_t left = budget - kAlignment - fixed;
  // What a block takes of each ring; a rank's steps may begin within a slot.
  const int64_t steps = ceil_div(c->num_steps, c->split);
  const int64_t slots =
      std::min<int64_t>(ceil_div(steps, c->steps_per_slot) + (c->split > 1 && c->steps_per_slot > 1),
                        c->num_slots()) *
      num_tiles_of_block;
  const int64_t weights = steps * c->rows_per_step * (tile.takes_turns ? 1 : num_tiles_of_block);
  const int64_t most_x = std::min<int64_t>(kMaxNhwcSlots, slots);
  const int64_t most_weights = std::min<int64_t>(kMaxNhwcWeightSlots, weights);
  c->x_slots = static_cast<int>(std::min<int64_t>(2, most_x));
  c->weight_slots = static_cast<int>(std::min<int64_t>(2 * c->rows_per_step - 1, most_weights));
  if (tile.takes_turns) {  // all weights at once
    if (weights > kMaxNhwcWeightSlots) return false;
    c->weight_slots = static_cast<int>(weights);
  }
  left -= c->x_slots * c->x_slot_bytes + c->weight_slots * weight_bytes;
  while (left < 0 && c->weight_slots > 2 && !tile.takes_turns) --c->weight_slots, left += weight_bytes;
  if (left < 0) return false;
  grow_rings(left, {&c->x_slots, most_x, c->x_slot_bytes, c->rows_per_step * c->steps_per_slot},
             {&c->weight_slots, most_weights, weight_bytes, 1});
  c->is_linear =
      !tile.takes_turns && num_tiles_of_block == 1 && c->x_slots >= slots && c->weight_slots >= weights;
  c->smem_bytes =
      static_cast<int>(kAlignment + fixed + c->x_slots * c->x_slot_bytes + c->weight_slots * weight_bytes);
  return true;
}

// Microseconds, from what each multiprocessor has to do: tensor cores, rings filled from L2, epilogues, one tile behind
// the other or overlapped; and memory. Constants fitted to 2,700 times of two networks' layers at batch 1, 16 and 64 on
// an H200 (bench_nhwc); the choice then takes 0.6 to 1.1 percent longer than the fastest, and what it says is off by 18
// percent.
double predict_us(const ConvShape& s, const NhwcConfig& c, const NhwcWork& work, int num_sms) {
  constexpr double kCyclesPerUs = 1899, kL2BytesPerCycle = 37.52, kMemoryBytesPerUs = 4.358e6,
                   kLaunchUs = 1.281;
  constexpr double kSmemBytesPerCycle = 128;  // CUDA C++ programming guide, compute capability 9.0
  constexpr double kLoadCycles = 969.5;       // of one slot, which a ring's other slots share
  const NhwcTile tile = c.shape();
  const auto number = [](int64_t value) { return static_cast<double>(value); };
  const double num_steps = number(ceil_div(c.num_steps, c.split));
  const int64_t units = c.num_tiles() * c.split;
  const double wgmma_cycles = std::max(tile.channels / 2.0, tile.channels == 32 ? 24.0 : 32.0);
  const double products =
      1.448 * num_steps * c.rows_per_step * (c.slot_channels / 16.0) * tile.blocks() * wgmma_cycles;
  const double weight_bytes = tile.takes_turns ? 0 : number(c.rows_per_step) * tile.channels * c.row_bytes();
  const double slot_bytes = c.x_load_bytes + c.steps_per_slot * weight_bytes;
  const double slot_cycles =
      kLoadCycles *
      std::max(1.0 / c.x_slots,
               tile.takes_turns ? 0 : number(c.rows_per_step * c.steps_per_slot) / c.weight_slots);
  const double fill = num_steps / c.steps_per_slot * std::max(slot_bytes / kL2BytesPerCycle, slot_cycles);
  const double vectors = tile.pixels() * tile.channels / 256.0 / c.split;  // of 8 channels, by warps
  const double vector_cycles = 196.3 + (work.has_functions ? 73.57 : 0) + (work.has_residual ? 30.17 : 0);
  const double epilogue = vectors / (4 * (tile.takes_turns ? 1 : tile.num_groups)) * vector_cycles;
  const double exchange = c.split > 1 ? 593.8 + 206.2 * c.split + tile.pixels() * tile.channels * 0.6794 : 0;
  // What im2col writes into shared memory, of 3x3 filters six times what a window does, is in the way of what is multiplied
  // from there: of the headline it takes 1.16 times as long (bench_nhwc).
  const double writes = c.fetch == NhwcFetch::im2col ? num_steps * c.x_load_bytes / kSmemBytesPerCycle : 0;
  const double tile_cycles = tile.takes_turns
                                 ? std::max({products + writes, fill, epilogue / tile.num_groups})
                                 : std::max(products, fill) + epilogue + exchange;
  const double start = tile.takes_turns ? epilogue + number(c.num_weight_slots()) * tile.channels *
                                                         c.row_bytes() / kL2BytesPerCycle
                                        : 0;
  const double serial = number(ceil_div(units, int64_t{num_sms} * tile.blocks_per_sm)) * tile_cycles + start;
  const double shared = tile.blocks_per_sm == 2 ? 1.169 * products : products;
  const double overlapped =
      number(ceil_div(units, num_sms)) * std::max({shared, fill, 0.1082 * vectors * vector_cycles});
  const int64_t read = s.N * s.C * (s.R == 1 && s.S == 1 ? s.gemm_n() : s.H * s.W) + s.K * s.gemm_k();
  const int64_t outputs = s.N * s.K * s.gemm_n();
  const int num_surfaces = 1 + work.has_residual + work.stores_sum;
  const double memory_us = 0.8 + 2 * number(read + outputs * num_surfaces) / kMemoryBytesPerUs;
  // Floats in planes: set by the times of 36 convolutions on an H200.
  const double apart_us =
      work.stores_floats ? number(outputs) * (c.fetch == NhwcFetch::flat ? 1.2e-6 : 4e-6) : 0;
  return kLaunchUs + both(both(serial, overlapped + epilogue / 2) / kCyclesPerUs, memory_us) + apart_us;
}

// Grid and rings of a config that has its tiles, and what it takes by prediction; false, with the reason, where it cannot be.
bool plan_blocks(const ConvShape& s, const NhwcWork& work, int num_sms, NhwcConfig* c, std::string* why_not) {
  const auto fails = [&](const char* why) { return refuse(why_not, why), false; };
  const NhwcTile tile = c->shape();
  if (c->num_tiles() * c->split >= int64_t{1} << 30) return fails("too many tiles");
  const int64_t at_once = int64_t{num_sms} * tile.blocks_per_sm;
  // Clusters that come in two waves take twice as long. They lie within groups of multiprocessors, of which some have
  // fewer than others: of 132 on an H200 not all take part (128 blocks in clusters of 4 or 8 came in two waves).
  if (c->split > 1 && c->num_tiles() * c->split > num_sms - 2 * c->split)
    return fails("more blocks than multiprocessors");
  c->num_blocks =
      static_cast<int>(c->split > 1 ? c->num_tiles() * c->split : std::min(c->num_tiles(), at_once));
  if (tile.takes_turns) {  // all of a block's tiles are of the same channels
    if (c->num_blocks < c->tiles_channels) return fails("more channels than multiprocessors");
    c->num_blocks -= static_cast<int>(c->num_blocks % c->tiles_channels);
  }
  if (!plan_smem(c->split > 1 ? 1 : ceil_div(c->num_tiles(), c->num_blocks), work, c))
    return fails("slots that do not fit into shared memory");
  c->predicted_us = predict_us(s, *c, work, num_sms);
  return true;
}

}  // namespace

std::optional<NhwcConfig> make_nhwc_config(const ConvShape& s, const PixelStrides& x, const NhwcWork& work,
                                           int num_sms, int tile, NhwcFetch fetch, int split,
                                           std::string* why_not) {
  if (const char* why = why_unsupported(s, x)) return refuse(why_not, why);
  NhwcConfig c;
  c.tile = tile, c.fetch = fetch, c.split = split;
  const int pixels = c.shape().pixels();
  const bool has_few = s.C <= kNhwcSlotChannels / 2 && !work.stores_sum;
  if (has_few && c.shape().channels > 64) return refuse(why_not, "a tile for more input channels");
  c.slot_channels = has_few && has_half_slots(c.shape()) ? kNhwcSlotChannels / 2 : kNhwcSlotChannels;
  c.num_chunks = static_cast<int>(ceil_div(s.C, c.slot_channels));
  const int64_t taps = fetch == NhwcFetch::window ? s.S : s.R * s.S;
  if (c.num_chunks * taps > (1 << 24)) return refuse(why_not, "a sum of too many terms");
  c.num_steps = static_cast<int>(c.num_chunks * taps);
  c.tiles_channels = ceil_div(s.K, c.shape().channels);
  c.tiles_pixels = ceil_div(s.N * s.P() * s.Q(), pixels);
  c.x_load_bytes = c.x_slot_bytes = pixels * c.row_bytes();
  if (fetch == NhwcFetch::flat && !is_flat(s, x)) return refuse(why_not, "not one run of pixels");
  if (fetch == NhwcFetch::im2col)
    if (const char* why = why_not_im2col(s)) return refuse(why_not, why);
  if (work.has_image_biases && fetch != NhwcFetch::window && s.N > 1)
    return refuse(why_not, "an image's own bias, for a tile of several images");
  if (work.stores_sum && !can_store_sums(c.shape())) return refuse(why_not, "a tile that stores no sums");
  if (split > 1 && (split > c.num_steps || !can_split(c.shape()))) return refuse(why_not, "not to be split");
  if (why_not != nullptr) *why_not = "not to be fetched as windows";
  std::vector<NhwcConfig> ways = fetch == NhwcFetch::window ? plan_windows(s, work, c) : std::vector{c};
  std::erase_if(ways, [&](NhwcConfig& way) { return !plan_blocks(s, work, num_sms, &way, why_not); });
  if (ways.empty()) return std::nullopt;
  // What is predicted of small grids differs by less than it is off: in part it is what tiles fetch and multiply in sum.
  const auto cost = [](const NhwcConfig& way) {
    return static_cast<double>(way.tiles_pixels *
                               (4 * way.shape().pixels() * way.row_bytes() + way.x_load_bytes));
  };
  const double least = cost(*std::ranges::min_element(ways, {}, cost));
  return *std::ranges::min_element(
      ways, {}, [&](const NhwcConfig& way) { return way.predicted_us * (10 + cost(way) / least); });
}

std::optional<NhwcConfig> choose_nhwc_config(const ConvShape& shape, const PixelStrides& x,
                                             const NhwcWork& work, int num_sms, std::string* why_not) {
  std::optional<NhwcConfig> best;
  for (const NhwcFetch fetch : {NhwcFetch::flat, NhwcFetch::window, NhwcFetch::im2col}) {
    if (fetch == NhwcFetch::im2col && best && best->fetch == NhwcFetch::flat) break;
    for (int tile = 0; tile < kNumNhwcTiles; ++tile)
      for (int split = 1; split <= kMaxNhwcSplit; split *= 2) {
        const auto c = make_nhwc_config(shape, x, work, num_sms, tile, fetch, split, why_not);
        if (!c) continue;
        if (!best || c->predicted_us < best->predicted_us) best = c;
      }
  }
  return best;
}

std::string to_string(const NhwcConfig& c) {
  constexpr const char* kFetches[] = {"flat", "im2col", "windows of"};
  return str("tile ", c.shape().pixels(), "x", c.shape().channels, " ", kFetches[static_cast<int>(c.fetch)],
             c.fetch != NhwcFetch::window ? ""
             : c.has_patches              ? str(" ", c.tile_images, "x", c.tile_rows, "x", c.tile_cols)
                                          : str(" ", c.window_rows, " rows of ", c.window_cols),
             ", ", c.num_tiles(), " tiles of ", c.num_steps, " steps, ",
             c.split > 1 ? str("split ", c.split, ", ") : "", "rings ", c.x_slots, " + ", c.weight_slots,
             c.is_linear ? ", linear" : "", ", ", c.num_blocks, " blocks, ", c.smem_bytes, " B");
}

}  // namespace solder
