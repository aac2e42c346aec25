#include "ops/conv/cpu/taps.h"

#include "ops/conv/cpu/copy_row.h"

namespace solder {
namespace {

// Of a group's outputs; with more, panels are worth their packing. Those of one tap hold nothing twice.
constexpr int64_t kMaxChannels = 64, kMaxChannelsOfOneTap = 8;
constexpr int64_t kRowsAtOnce = 4;
constexpr int64_t kMaxTerms = 1024;
constexpr int64_t kMaxElems = 24'576;  // 96 KiB of a tile's input
constexpr int64_t kMaxSums = 2'048;    // of a tile and channel
constexpr int64_t kMaxColumns = 512;

TapTiles tiles_of(const ConvShape& s, int64_t rows, int64_t columns) {
  const int64_t reach_h = (s.R - 1) * s.dil_h, reach_w = (s.S - 1) * s.dil_w;  // of the taps
  return {s,
          s.C / s.groups,
          rows,
          columns,
          std::min(s.stride_h, reach_h + 1),
          std::min(s.stride_w, reach_w + 1),
          rows + reach_h / s.stride_h,
          columns + reach_w / s.stride_w};
}

// The part of x [C/groups, H, W] that the outputs from (p, q) on see, and zeros that are read but never used.
void pack(const TapTiles& t, const float* x, int64_t p, int64_t q, float* tile) {
  const ConvShape& s = t.shape;
  const int64_t h_begin = p * s.stride_h - s.pad_top, w_begin = q * s.stride_w - s.pad_left;
  const int64_t h_end = h_begin + t.plane_h * s.stride_h, w_end = w_begin + t.plane_w * s.stride_w;
  const bool sees_padding = h_begin < 0 || w_begin < 0 || h_end > s.H || w_end > s.W;
  const int64_t first_zero = sees_padding ? 0 : t.num_elems();
  std::fill_n(tile + first_zero, t.num_elems() + kMaxLanes - first_zero, 0.0f);
  for (int64_t c = 0; c < t.channels; ++c, x += s.H * s.W)
    for (int64_t h_phase = 0; h_phase < t.h_phases; ++h_phase)
      for (int64_t w_phase = 0; w_phase < t.w_phases; ++w_phase) {
        const int64_t w = w_begin + w_phase;
        const auto [low, high] = inside_range(s, w, t.plane_w);
        for (int64_t h = h_begin + h_phase; h < h_end; h += s.stride_h, tile += t.plane_w)
          if (h >= 0 && h < s.H && low < high)
            copy_strided(x + (h * s.W + w + low * s.stride_w), s.stride_w, high - low, tile + low);
      }
}

}  // namespace

std::optional<TapTiles> plan_tap_tiles(const ConvShape& s) {
  const int64_t max_channels = s.R * s.S > 1 ? kMaxChannels : kMaxChannelsOfOneTap;
  if (s.gemm_m() > max_channels || s.gemm_k() > kMaxTerms || s.P() <= 0 || s.Q() <= 0) return {};
  const int64_t columns = ceil_div(s.Q(), ceil_div(s.Q(), kMaxColumns));
  const auto fits = [&](int64_t rows) {
    const TapTiles t = tiles_of(s, rows, columns);
    double elems = 1;  // may be any number
    for (const int64_t extent : {t.channels, t.h_phases, t.w_phases, t.plane_h, t.plane_w})
      elems *= static_cast<double>(extent);
    return elems <= kMaxElems && t.num_sums() <= kMaxSums;
  };
  int64_t rows = 1;
  if (!fits(rows)) return {};
  while (rows < s.P() && fits(rows + 1)) ++rows;
  return tiles_of(s, ceil_div(s.P(), ceil_div(s.P(), rows)), columns);
}

void conv_taps(const TapTiles& t, const ConvStrides& strides, const float* x, const float* w, float* y,
               ThreadPool* pool, CpuLevel level) {
  const ConvShape& s = t.shape;
  const int64_t m = s.gemm_m(), terms = s.gemm_k();  // of each product
  int64_t offsets[kMaxTerms];                        // of each tap in the tile
  for (int64_t k = 0; k < terms; ++k) {
    const int64_t h = k / s.S % s.R * s.dil_h, column = k % s.S * s.dil_w;
    const int64_t plane = (k / (s.R * s.S) * t.h_phases + h % s.stride_h) * t.w_phases + column % s.stride_w;
    offsets[k] = (plane * t.plane_h + h / s.stride_h) * t.plane_w + column / s.stride_w;
  }
  const int64_t P = s.P(), Q = s.Q(), num_down = ceil_div(P, t.rows), num_across = ceil_div(Q, t.columns);
  const int64_t num_tiles = s.N * s.groups * num_down * num_across;
  // Where there are few tiles, output channels are divided; each part packs the tile anew.
  const int64_t threads = pool != nullptr ? pool->num_threads() : 1, wanted = threads > 1 ? 4 * threads : 1;
  const int64_t num_parts = std::min(ceil_div(wanted, std::max(num_tiles, int64_t{1})), ceil_div(m, 16));
  const int64_t part = round_up(ceil_div(m, num_parts), kRowsAtOnce);
  const auto multiply = [&](int64_t task) {
    const int64_t channel = task % num_parts * part, end = std::min(m, channel + part);
    if (channel >= end) return;
    const int64_t at = task / num_parts;  // the tile
    const int64_t q = at % num_across * t.columns, p = at / num_across % num_down * t.rows;
    const int64_t i = at / num_across / num_down, image = i / s.groups, group = i % s.groups;
    alignas(64) float tile[kMaxElems + kMaxLanes], sums[kRowsAtOnce * (kMaxSums + kMaxLanes)];
    pack(t, x + image * strides.x + group * t.channels * s.H * s.W, p, q, tile);
    const int64_t rows = std::min(t.rows, P - p), columns = std::min(t.columns, Q - q);
    TapProduct product{.a = w + (group * m + channel) * terms,
                       .ld_a = terms,
                       .b = tile,
                       .offsets = offsets,
                       .c = sums,
                       .ld_c = round_up(t.num_sums(), kMaxLanes),
                       .columns = (rows - 1) * t.plane_w + columns,
                       .depth = terms};
    float* to = y + image * strides.y + ((group * m + channel) * P + p) * Q + q;
    for (int64_t k = channel; k < end; k += kRowsAtOnce, product.a += kRowsAtOnce * terms) {
      product.rows = std::min(kRowsAtOnce, end - k);
      multiply_taps(level, product);
      for (int64_t row_of_a = 0; row_of_a < product.rows; ++row_of_a, to += P * Q)
        for (int64_t row = 0; row < rows; ++row)
          std::copy_n(sums + row_of_a * product.ld_c + row * t.plane_w, columns, to + row * Q);
    }
  };
  parallel_for(s.num_macs() >= kWorthThreads ? pool : nullptr, num_tiles * num_parts, multiply);
}

}  // namespace solder
