#include "ops/conv/rows/rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "runtime/check.h"
#include "runtime/divide.h"
#include "runtime/dtype.h"

namespace solder {
std::string to_string(const RowsConfig& c) {
  return str("rows: ", c.share_channels, " x 2 input channels, ", c.num_slots, " slots, ", c.num_strips,
             " x ", c.strip_cols, " columns, ", c.num_k_blocks, " x ", c.clusters_per_k_block, " clusters, ",
             c.smem_bytes, " B shared");
}

std::optional<RowsConfig> choose_rows_config(const ConvShape& s, Math math, const DeviceInfo& device,
                                             std::string* why_not) {
  const auto refuse = [&](const std::string& reason) -> std::optional<RowsConfig> {
    if (why_not) *why_not = "rows: " + reason;
    return std::nullopt;
  };
  constexpr int64_t kMaxInt = std::numeric_limits<int32_t>::max();
  if (s.groups != 1) return refuse("groups");
  if (s.stride_h != 1 || s.stride_w != 1) return refuse("stride");
  RowsConfig config;
  config.math = math;
  const int parts = config.num_parts();
  config.share_channels = static_cast<int>(ceil_div(s.C, 16 * parts) * 8 * parts);
  if (config.share_channels / 4 > kRowsMaxPlanes) return refuse("more than 64 input channels");
  if (s.N <= 0 || s.P() <= 0 || s.Q() <= 0 || s.K <= 0) return refuse("empty");
  if (s.H > kMaxInt / 2 || s.W > kMaxInt / 2 || s.K > kMaxInt / 2 || std::abs(s.pad_top) > kMaxInt / 4 ||
      std::abs(s.pad_left) > kMaxInt / 4 || s.P() * s.Q() > kMaxInt / 16) {
    return refuse("extents beyond 32 bits");
  }
  if (s.K % 8 != 0) return refuse("output channels not in eights");
  // Slots hold a row of outputs and the columns that its filter reaches beyond it.
  const int64_t reach = (s.S - 1) * s.dil_w;
  const int64_t span = (s.R - 1) * s.dil_h + 1;  // input rows from a filter's first to its last
  const int padding = rows_slot_cols(parts) - kRowsTileCols;
  if (reach > padding) return refuse("filter too wide");
  if (span >= kRowsMaxSlots) return refuse("filter too tall");

  const int max_clusters = device.num_sms / 2;
  config.num_k_blocks = static_cast<int>(ceil_div(s.K, config.cluster_channels()));
  if (config.num_k_blocks > max_clusters) return refuse("more blocks of output channels than clusters");
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
  if (num_units > kMaxInt) return refuse("more than 2^31 rows");

  const int num_taps = static_cast<int>(s.R * s.S);
  for (int slots = kRowsMaxSlots; slots > span && config.num_slots == 0; --slots) {
    const RowsSmem smem = rows_smem(num_taps, config.share_channels, parts, slots);
    if (smem.total <= device.smem_per_block_bytes) config.num_slots = slots, config.smem_bytes = smem.total;
  }
  if (config.num_slots == 0) return refuse("weights and ring do not fit shared memory");

  config.clusters_per_k_block =
      static_cast<int>(std::min<int64_t>(max_clusters / config.num_k_blocks, num_units));
  const double executed = static_cast<double>(num_units) * kRowsTileCols * config.num_k_blocks *
                          config.cluster_channels() * (config.share_channels * 2) * num_taps;
  config.efficiency = static_cast<double>(s.num_macs()) / executed;
  return config;
}

int64_t rows_weight_bytes(const ConvShape& s, const RowsConfig& config) {
  const int64_t padded_k = int64_t{config.num_k_blocks} * config.cluster_channels();
  const int64_t padded_c = int64_t{config.share_channels} * 2;
  return padded_k * (s.R * s.S * padded_c * config.num_parts() * 2 + 4);
}

bool pack_rows_weights(const ConvShape& s, const RowsConfig& config, const float* w, void* packed) {
  const int64_t num_taps = s.R * s.S, num_parts = config.num_parts();
  const int64_t block_c = config.block_in_channels();
  const int64_t padded_k = int64_t{config.num_k_blocks} * config.cluster_channels();
  std::memset(packed, 0, static_cast<size_t>(rows_weight_bytes(s, config)));
  auto* halves = static_cast<uint16_t*>(packed);
  auto* exponents =
      reinterpret_cast<int32_t*>(halves + padded_k * num_taps * config.share_channels * 2 * num_parts);
  for (int64_t k = 0; k < s.K; ++k) {
    const float* row = w + k * s.C * num_taps;
    float largest = 0;
    for (int64_t i = 0; i < s.C * num_taps; ++i) {
      if (!std::isfinite(row[i])) return false;
      largest = std::max(largest, std::fabs(row[i]));
    }
    const int exponent = largest > 0 ? 14 - std::ilogb(largest) : 0;  // the largest lands in [2^14, 2^15)
    exponents[k] = exponent;
    const int64_t k_half = k / kRowsBlockChannels;
    for (int64_t c = 0; c < s.C; ++c) {
      // fp32: two blocks share 64 output channels; in the second, eights are swapped: see SumExchange.
      const int64_t in_half = c / block_c, block = k_half * num_parts + in_half;
      const int64_t m = k % kRowsBlockChannels ^ (in_half * 8);
      for (int64_t tap = 0; tap < num_taps; ++tap) {
        float rest = static_cast<float>(std::ldexp(static_cast<double>(row[c * num_taps + tap]), exponent));
        const int64_t group = (block * num_taps + tap) * (block_c / 8) + c % block_c / 8;
        for (int64_t part = 0; part < num_parts; ++part) {
          const uint16_t half = float16_from_float(rest);
          halves[((group * num_parts + part) * kRowsBlockChannels + m) * 8 + c % 8] = half;
          rest -= float_from_float16(half);
        }
      }
    }
  }
  return true;
}

}  // namespace solder
