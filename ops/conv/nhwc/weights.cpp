// How conv_nhwc_kernel's weights are packed, once, at compile time.

#include <algorithm>
#include <cmath>

#include "ops/conv/nhwc/nhwc.h"
#include "runtime/check.h"
#include "runtime/divide.h"

namespace solder {
namespace {

// The tap and first channel of a slot of weights.
struct Term {
  int64_t channel, r, s;
};

Term term_of(const ConvShape& shape, const NhwcConfig& config, int64_t weight_slot) {
  const int64_t step = weight_slot / config.rows_per_step;
  const int64_t taps = config.num_steps / config.num_chunks;
  const int64_t tap = step % taps, channel = step / taps * config.slot_channels;
  if (config.rows_per_step > 1) return {channel, weight_slot % config.rows_per_step, tap};
  return {channel, tap / shape.S, tap % shape.S};
}

}  // namespace

int64_t packed_nhwc_head_bytes(const NhwcConfig& config) {
  return round_up((config.tiles_channels * config.shape().channels + 1) * 4, 256);
}

int64_t packed_nhwc_bytes(const NhwcConfig& config) {
  const int64_t channels = config.tiles_channels * config.shape().channels;
  return packed_nhwc_head_bytes(config) + channels * config.num_weight_slots() * config.row_bytes();
}

std::vector<std::byte> pack_nhwc_weights(const ConvShape& shape, const NhwcConfig& config, DType dtype,
                                         const float* w, std::span<const int32_t> exponents) {
  const int64_t tile = config.shape().channels, terms = shape.gemm_k(), filter = shape.R * shape.S;
  std::vector<std::byte> packed(static_cast<size_t>(packed_nhwc_bytes(config)));
  auto* const head = reinterpret_cast<float*>(packed.data());
  float& bound = head[config.tiles_channels * tile];
  for (int64_t k = 0; k < shape.K; ++k) {
    head[k] = std::ldexp(1.0f, -exponents[static_cast<size_t>(k)]);
    double sum = 0;
    for (int64_t i = 0; i < terms; ++i) sum += std::abs(w[k * terms + i]);
    bound = std::max(bound, static_cast<float>(sum));
  }
  auto* const slots = reinterpret_cast<uint16_t*>(packed.data() + packed_nhwc_head_bytes(config));
  const int64_t num_slots = config.num_weight_slots();
  for (int64_t k = 0; k < shape.K; ++k) {
    const int64_t row = k % tile;
    for (int64_t slot = 0; slot < num_slots; ++slot) {
      const auto [first, r, s] = term_of(shape, config, slot);
      uint16_t* const to = slots + ((k / tile * num_slots + slot) * tile + row) * config.slot_channels;
      const int64_t count = std::min<int64_t>(config.slot_channels, shape.C - first);
      for (int64_t i = 0; i < count; ++i) {
        const float value = std::ldexp(w[k * terms + (first + i) * filter + r * shape.S + s],
                                       exponents[static_cast<size_t>(k)]);
        // 16-byte units, swizzled over 8 rows: over their pairs where a row is 64 bytes.
        const int64_t at = ((i / 8) ^ (row % 8 * config.slot_channels / 64)) * 8 + i % 8;
        store_from_float(to, dtype, at, value);
      }
    }
  }
  return packed;
}

std::string packing_of(const NhwcConfig& c, DType dtype) {
  return str("nhwc ", to_string(dtype), " ", c.shape().channels, " ", c.slot_channels, " ", c.rows_per_step,
             " ", c.num_steps);
}

}  // namespace solder
