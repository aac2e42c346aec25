// How conv_mma_kernel's weights are packed, once, at compile time.

#include <cmath>
#include <cstring>

#include "ops/conv/mma/mma.h"
#include "runtime/check.h"
#include "runtime/divide.h"

namespace solder {
namespace {

constexpr int64_t kStep = 16;  // terms
constexpr int64_t kLanes = 32;

// The tap and first channel of a step.
struct Term {
  int64_t channel, r, s;
};

Term term_of(const ConvShape& shape, const MmaConfig& c, int64_t step) {
  const int64_t unit = step / 2 % c.stage_units, stage = step / 2 / c.stage_units;
  const int64_t columns = c.is_shared ? 1 : shape.S, block = stage / (shape.R * columns);
  const int64_t tap = stage % (shape.R * columns);
  const int64_t channel = block * kMmaUnitChannels + step % 2 * kStep;
  if (c.is_shared) return {channel, tap, unit};
  return {channel, tap / columns, tap % columns};
}

// Where channels are columns of the product: a thread holds two neighbours of each piece of 8 columns, and those of four
// pieces are to be 8 neighbouring channels.
int64_t column_of_channel(int64_t k) { return k / 32 * 32 + k % 8 / 2 * 8 + k % 32 / 8 * 2 + k % 2; }

}  // namespace

int64_t packed_mma_bytes(const MmaConfig& c) {
  const int64_t channels = c.padded_channels();
  return round_up(channels * 4, 256) + channels * c.num_steps() * kStep * c.shape().num_parts * 2;
}

std::vector<std::byte> pack_mma_weights(const ConvShape& s, const MmaConfig& c, DType dtype, const float* w,
                                        std::span<const int32_t> exponents) {
  std::vector<std::byte> packed(static_cast<size_t>(packed_mma_bytes(c)));
  for (int64_t k = 0; k < s.K; ++k) {
    const float scale = std::ldexp(1.0f, -exponents[static_cast<size_t>(k)]);
    std::memcpy(packed.data() + k * 4, &scale, 4);
  }
  auto* const steps =
      reinterpret_cast<uint16_t*>(packed.data() + round_up(c.padded_channels() * 4, int64_t{256}));
  const int64_t num_parts = c.shape().num_parts, channels = c.shape().channels(),
                part_elems = channels * kStep;
  for (int64_t step = 0; step < c.num_steps(); ++step) {
    const auto [first, r, tap_s] = term_of(s, c, step);
    for (int64_t k = 0; k < s.K; ++k) {
      const int64_t place = c.is_planes ? k : column_of_channel(k);
      uint16_t* const group = steps + (place / channels * c.num_steps() + step) * num_parts * part_elems +
                              place % channels / 16 * kLanes * 8;
      for (int64_t column = 0; column < std::min(kStep, s.C - first); ++column) {
        const float value = std::ldexp(w[((k * s.C + first + column) * s.R + r) * s.S + tap_s],
                                       exponents[static_cast<size_t>(k)]);
        const int64_t lane = place % 8 * 4 + column % 8 / 2, second_term = column / 8,
                      second_channel = place % 16 / 8;
        const int64_t pair =
            c.is_planes ? second_term * 2 + second_channel : second_channel * 2 + second_term;
        uint16_t* const at = group + lane * 8 + pair * 2 + column % 2;
        store_from_float(at, dtype, 0, value);
        if (num_parts == 2) store_from_float(at, dtype, part_elems, value - float_from_float16(*at));
      }
    }
  }
  return packed;
}

std::string packing_of(const MmaConfig& c, DType dtype) {
  return str("mma ", to_string(dtype), " ", c.shape().num_parts, " ", c.padded_channels(), " in ",
             c.shape().channels(), " ", c.stage_units, " ", c.num_stages, c.is_shared ? " shared" : "",
             c.is_planes ? " rows" : "");
}

}  // namespace solder
