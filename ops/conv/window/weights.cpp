// How conv_window_kernel's weights are packed, once, at compile time.

#include <algorithm>
#include <cmath>
#include <cstring>

#include "ops/conv/window/window.h"
#include "runtime/check.h"
#include "runtime/divide.h"
#include "runtime/dtype.h"

namespace solder {

int64_t packed_window_bytes(const ConvShape& shape, const WindowConfig& config) {
  const int64_t blocks = ceil_div(shape.K, kWindowBlockK);
  return blocks * (kWindowBlockK * 4 + int64_t{config.num_steps} * kWindowStepBytes * config.num_parts);
}

std::vector<std::byte> pack_weights(const ConvShape& shape, const WindowConfig& config, const float* w,
                                    std::span<const int32_t> exponents) {
  const int64_t filter = shape.R * shape.S, terms = shape.C * filter;
  const int64_t blocks = ceil_div(shape.K, kWindowBlockK);
  std::vector<std::byte> packed(static_cast<size_t>(packed_window_bytes(shape, config)));
  std::memcpy(packed.data(), exponents.data(), exponents.size_bytes());

  const int64_t cols = ceil_div(shape.S, config.filter_cols);
  const int64_t term_channels = kWindowStepTerms / config.filter_cols;
  const int64_t all_channels = config.filter_cols > 1 ? 16 : round_up(shape.C, 16);
  const int64_t part_halves = kWindowStepBytes / 2;
  auto* out = reinterpret_cast<uint16_t*>(packed.data() + blocks * kWindowBlockK * 4);
  for (int64_t block = 0; block < blocks; ++block) {
    for (int64_t first = 0; first < all_channels; first += config.chunk_channels) {
      const int64_t chunk = std::min<int64_t>(config.chunk_channels, all_channels - first);
      for (int64_t tap = 0; tap < config.num_taps; ++tap) {
        for (int64_t base = first; base < first + chunk; base += 16, out += part_halves * config.num_parts) {
          for (int64_t m = 0; m < kWindowBlockK; ++m) {
            const int64_t k = block * kWindowBlockK + m;
            if (k >= shape.K) break;
            const int exponent = exponents[static_cast<size_t>(k)];
            for (int64_t e = 0; e < kWindowStepTerms; ++e) {
              const int64_t c = base + e % term_channels;
              const int64_t col = tap % cols * config.filter_cols + e / term_channels;
              if (c >= shape.C || col >= shape.S) continue;
              const float value =
                  std::ldexp(w[k * terms + c * filter + tap / cols * shape.S + col], exponent);
              const uint16_t high = float16_from_float(value);
              const int64_t at = (e / 8 * kWindowBlockK + m) * 8 + e % 8;
              out[at] = high;
              if (config.num_parts == 2) {
                out[part_halves + at] = float16_from_float(value - float_from_float16(high));
              }
            }
          }
        }
      }
    }
  }
  return packed;
}

std::string packing_of(const WindowConfig& c) {
  return str("window ", c.num_parts, " ", c.filter_cols, " ", c.chunk_channels, " ", c.num_taps, " ",
             c.num_steps);
}

}  // namespace solder
