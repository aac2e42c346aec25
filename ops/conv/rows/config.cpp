#include "ops/conv/rows/rows.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/conv/choose.h"
#include "runtime/check.h"
#include "runtime/divide.h"

namespace solder {
namespace {

// A model of the run time: each cluster walks its rows one by one. Fitted to the headline model and its batch
// of one.
void predict(const ConvShape& s, int64_t num_units, RowsConfig* c) {
  const double num_taps = static_cast<double>(s.R * s.S), in_channels = 2.0 * c->share_channels;
  const double executed = static_cast<double>(num_units) * kRowsTileCols * c->num_k_blocks *
                          c->cluster_channels() * in_channels * num_taps;
  c->efficiency = static_cast<double>(s.num_macs()) / executed;
  // Of one row: a wgmma takes 67 cycles; its epilogue; x and y of all clusters go through the memory.
  const double steps = num_taps * c->block_in_channels() / 16 * (c->num_parts() == 2 ? 3 : 1);
  const double multiply = 2 * steps * 67 / 1700;
  const double row_bytes = 4 * (in_channels * kRowsTileCols + double(c->cluster_channels()) * c->strip_cols);
  const double dram = row_bytes * c->num_k_blocks * c->clusters_per_k_block / 3e6;
  constexpr double kEpilogue = 1.8, kOverlap = 0.15, kStart = 8;
  const double row = std::max({multiply, dram, kEpilogue}) + kOverlap * (multiply + dram + kEpilogue);
  c->predicted_us = kStart + static_cast<double>(ceil_div(num_units, c->clusters_per_k_block)) * row;
  // Nothing was fitted below this share of useful arithmetic, where the window kernel has been found faster.
  constexpr double kMinEfficiency = 0.75;
  if (c->efficiency < kMinEfficiency) c->predicted_us = std::numeric_limits<double>::infinity();
}

}  // namespace

std::string to_string(const RowsConfig& c) {
  return str(c.share_channels, " x 2 input channels, ", c.num_slots, " slots, ", c.num_strips, " x ",
             c.strip_cols, " columns, ", c.num_k_blocks, " x ", c.clusters_per_k_block, " clusters, ",
             c.smem_bytes, " B shared");
}

std::optional<RowsConfig> choose_rows_config(const ConvShape& s, Math math, const DeviceInfo& device,
                                             std::string* why_not) {
  constexpr int64_t kMaxInt = std::numeric_limits<int32_t>::max();
  if (const char* why = why_not_fused(s)) return refuse(why_not, why);
  if (s.stride_h != 1 || s.stride_w != 1) return refuse(why_not, "stride");
  RowsConfig config;
  config.math = math;
  const int parts = config.num_parts();
  config.share_channels = static_cast<int>(ceil_div(s.C, 16 * parts) * 8 * parts);
  if (config.share_channels / 4 > kRowsMaxPlanes) return refuse(why_not, "more than 64 input channels");
  if (s.H > kMaxInt / 2 || s.W > kMaxInt / 2 || s.K > kMaxInt / 2 || std::abs(s.pad_top) > kMaxInt / 4 ||
      std::abs(s.pad_left) > kMaxInt / 4 || s.P() * s.Q() > kMaxInt / 16) {
    return refuse(why_not, "extents beyond 32 bits");
  }
  if (s.Q() % 2 != 0) return refuse(why_not, "an odd number of output columns");
  if (s.K % 8 != 0) return refuse(why_not, "output channels not in eights");
  // Slots hold a row of outputs and the columns that its filter reaches beyond it.
  const int64_t reach = (s.S - 1) * s.dil_w;
  const int64_t span = (s.R - 1) * s.dil_h + 1;  // input rows from a filter's first to its last
  const int padding = rows_slot_cols(parts) - kRowsTileCols;
  if (reach > padding) return refuse(why_not, "filter too wide");
  if (span >= kRowsMaxSlots) return refuse(why_not, "filter too tall");

  const int max_clusters = device.num_sms / 2;
  config.num_k_blocks = static_cast<int>(ceil_div(s.K, config.cluster_channels()));
  if (config.num_k_blocks > max_clusters)
    return refuse(why_not, "more blocks of output channels than clusters");
  // One strip if its input columns (the image's own) fit the 256 that a block loads; strips have no static
  // padding.
  if (s.Q() <= kRowsTileCols && s.pad_left >= 0 && s.W <= kRowsTileCols && s.pad_left <= padding) {
    config.num_strips = 1;
    config.strip_cols = static_cast<int>(s.Q());
  } else {
    const int64_t widest = kRowsTileCols - ceil_div(reach, 2) * 2;
    config.num_strips = static_cast<int>(ceil_div(s.Q(), widest));
    config.strip_cols =
        static_cast<int>(ceil_div(ceil_div(s.Q(), config.num_strips), 2) * 2);  // even: paired access
    config.num_strips = static_cast<int>(ceil_div(s.Q(), config.strip_cols));
  }
  const int64_t num_units = s.N * config.num_strips * s.P();
  if (num_units > kMaxInt) return refuse(why_not, "more than 2^31 rows");

  const int num_taps = static_cast<int>(s.R * s.S);
  for (int slots = kRowsMaxSlots; slots > span && config.num_slots == 0; --slots) {
    const RowsSmem smem = rows_smem(num_taps, config.share_channels, parts, slots);
    if (smem.total <= device.smem_per_block_bytes) config.num_slots = slots, config.smem_bytes = smem.total;
  }
  if (config.num_slots == 0) return refuse(why_not, "weights and ring do not fit shared memory");

  config.clusters_per_k_block =
      static_cast<int>(std::min<int64_t>(max_clusters / config.num_k_blocks, num_units));
  predict(s, num_units, &config);
  return config;
}

int64_t rows_weight_bytes(const ConvShape& s, const RowsConfig& config) {
  const int64_t padded_k = int64_t{config.num_k_blocks} * config.cluster_channels();
  const int64_t padded_c = int64_t{config.share_channels} * 2;
  return padded_k * (s.R * s.S * padded_c * config.num_parts() * 2 + 4);
}

}  // namespace solder
