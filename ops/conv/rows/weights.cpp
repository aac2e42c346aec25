// How conv_rows_kernel's weights are packed, once, at compile time.

#include <cmath>
#include <cstring>

#include "ops/conv/rows/rows.h"
#include "runtime/check.h"
#include "runtime/dtype.h"

namespace solder {

std::vector<std::byte> pack_weights(const ConvShape& s, const RowsConfig& config, const float* w,
                                    std::span<const int32_t> exponents) {
  const int64_t num_taps = s.R * s.S, num_parts = config.num_parts();
  const int64_t block_c = config.block_in_channels();
  const int64_t padded_k = int64_t{config.num_k_blocks} * config.cluster_channels();
  std::vector<std::byte> packed(static_cast<size_t>(rows_weight_bytes(s, config)));
  auto* halves = reinterpret_cast<uint16_t*>(packed.data());
  auto* last = halves + padded_k * num_taps * config.share_channels * 2 * num_parts;
  std::memcpy(last, exponents.data(), exponents.size_bytes());
  for (int64_t k = 0; k < s.K; ++k) {
    const float* row = w + k * s.C * num_taps;
    const int exponent = exponents[static_cast<size_t>(k)];
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
  return packed;
}

std::string packing_of(const RowsConfig& config) {
  return str("rows ", config.num_parts(), " ", config.share_channels, " ", config.num_k_blocks);
}

}  // namespace solder
