// Hopper's convolution over 16-bit values with channels innermost: how problems are cut up and weights packed, on the CPU.
// Its results on a GPU: test_conv_pixels.cpp.

#include <algorithm>
#include <cmath>
#include <set>

#include "ops/conv/nhwc/nhwc.h"
#include "runtime/divide.h"
#include "tests/cases/conv_cases.h"
#include "tests/support/oracle.h"
#include "tests/support/support.h"

using namespace solder;
using namespace solder::test;

namespace {

PixelStrides dense_pixels(const ConvShape& s) {
  const int64_t pixel = round_up(s.C, 8);
  return {pixel, s.W * pixel, s.H * s.W * pixel};
}

// The weight of output channel k that a packed slot has for its `i`-th input channel.
float packed_weight(const ConvShape& s, const NhwcConfig& c, DType dtype,
                    const std::vector<std::byte>& packed, int64_t k, int64_t slot, int64_t i) {
  const int64_t tile = c.shape().channels;
  const auto* const scales = reinterpret_cast<const float*>(packed.data());
  const auto* const slots = reinterpret_cast<const uint16_t*>(packed.data() + packed_nhwc_head_bytes(c));
  const int64_t row = k % tile;
  // As CUDA's documents have it: address bits 4 to 6 are swapped by bits 7 to 9, for 64-byte rows 4 and 5 by 7 and 8.
  const int64_t byte = row * c.row_bytes() + i * 2;
  const int64_t swizzled = byte ^ ((byte >> 7 & (c.row_bytes() == 128 ? 7 : 3)) << 4);
  CHECK(c.tiles_channels * tile >= s.K);
  return scales[k] * load_as_float(slots + (k / tile * c.num_weight_slots() + slot) * tile * c.slot_channels,
                                   dtype, swizzled / 2);
}

// All tiles' pixels, as the kernel has them, are different outputs, whose taps lie in the window or meet padding there, and
// all outputs of the first images are somebody's.
void check_windows(const ConvShape& s, const NhwcConfig& c) {
  const int64_t pixels = c.shape().pixels(), cols = c.window_cols;
  std::set<std::array<int64_t, 3>> outputs;
  int64_t num_wrong = 0;
  for (int64_t tile = 0; tile < c.tiles_down * c.tiles_across; ++tile) {
    int64_t first_p = tile / c.tiles_across * c.tile_rows, first_q = tile % c.tiles_across * c.tile_cols;
    if (!c.has_patches) first_p = tile * c.tile_step / cols, first_q = tile * c.tile_step % cols;
    const int64_t left = (c.has_patches ? first_q : 0) - s.pad_left, top = first_p - s.pad_top;
    for (int64_t row = 0; row < pixels; ++row) {
      int64_t image = 0, p = 0, q = 0, at = row;  // `at`: the pixel of the window that its first tap meets
      if (c.has_patches) {
        const int64_t across = 1 << c.across_log2, block = row / 64;
        image = block / across >> c.down_log2;
        p = (block / across - (image << c.down_log2)) * 8 + row % 64 / 8, q = block % across * 8 + row % 8;
        at = (image * c.window_rows + p) * cols + q;
        q += first_q;
      } else {
        at = first_q + row, p = at / cols, q = at % cols;
      }
      const int64_t last = at + (s.R - 1) * s.dil_h * cols + (s.S - 1) * s.dil_w;
      num_wrong += (last + 1) * c.row_bytes() > c.x_slot_bytes;
      p += first_p;
      if (p >= s.P() || q >= s.Q() || (!c.has_patches && row >= c.tile_step)) continue;
      num_wrong += image >= c.tile_images || !outputs.insert({image, p, q}).second;
      for (int64_t r = 0; r < s.R; ++r)
        for (int64_t t = 0; t < s.S; ++t) {
          const int64_t place = at + r * s.dil_h * cols + t * s.dil_w - image * c.window_rows * cols;
          const int64_t h = top + place / cols, w = left + place % cols;
          const int64_t want_h = p - s.pad_top + r * s.dil_h, want_w = q - s.pad_left + t * s.dil_w;
          const bool is_padding = want_w < 0 || want_w >= s.W;
          num_wrong += place >= c.window_rows * cols;
          num_wrong += is_padding ? w >= 0 && w < s.W : h != want_h || w != want_w;
        }
    }
  }
  CHECK(num_wrong == 0);
  CHECK(static_cast<int64_t>(outputs.size()) == c.tile_images * s.P() * s.Q());
  CHECK(c.tiles_pixels == ceil_div(s.N, c.tile_images) * c.tiles_down * c.tiles_across);
  CHECK(c.x_load_bytes == c.tile_images * c.window_rows * c.window_cols * c.row_bytes());
  CHECK(std::max(c.window_rows, c.window_cols) <= 256);  // of a box
}

}  // namespace

TEST_CASE("conv_nhwc: every configuration keeps to what a Hopper multiprocessor has") {
  int num_configs = 0, num_windows = 0;
  std::set<std::pair<int, NhwcFetch>> chosen;
  std::vector<ConvShape> shapes = one_group_shapes();
  // Left and right of an image's rows is not the same.
  for (const Padding& padding : {Padding(1, 0, 1, 2), Padding(1, 2, 1, 0), Padding(0, -1, 0, 1), Padding(3)})
    shapes.push_back(make_shape({2, 64, 15, 17}, {33, 3, 3}, {.padding = padding}));
  for (const ConvShape& s : shapes) {
    const std::string words = to_string(s);
    CAPTURE(words);
    for (const int num_sms : {1, 114, 132}) {
      std::string why;
      const auto best = choose_nhwc_config(s, dense_pixels(s), {}, num_sms, &why);
      double least_us = INFINITY;
      for (int tile = 0; tile < kNumNhwcTiles; ++tile)
        for (const NhwcFetch fetch : {NhwcFetch::flat, NhwcFetch::im2col, NhwcFetch::window})
          for (int split = 1; split <= kMaxNhwcSplit; split *= 2) {
            const auto c = make_nhwc_config(s, dense_pixels(s), {}, num_sms, tile, fetch, split, &why);
            if (!c) {
              CHECK(!why.empty());
              continue;
            }
            ++num_configs;
            const std::string config = to_string(*c);
            CAPTURE(config);
            const NhwcTile shape = c->shape();
            CHECK(c->smem_bytes <= 227 << 10);
            CHECK(shape.blocks_per_sm * (c->smem_bytes + 1024) <= 228 << 10);
            CHECK(c->x_slots >= 1);
            CHECK(c->x_slots <= kMaxNhwcSlots);
            CHECK(c->weight_slots >= 1);
            CHECK(c->weight_slots <= kMaxNhwcWeightSlots);
            CHECK(c->x_slot_bytes % 128 == 0);
            CHECK(c->x_load_bytes < 1 << 20);  // a barrier counts no more
            const int64_t tiles_of_block = split > 1 ? 1 : ceil_div(c->num_tiles(), c->num_blocks);
            CHECK(c->x_slots >= std::min<int64_t>(2, tiles_of_block * ceil_div(c->num_slots(), split)));
            CHECK((c->is_linear || c->weight_slots >= 2 || c->num_weight_slots() == 1));
            if (shape.takes_turns) CHECK(c->weight_slots == c->num_weight_slots());
            if (shape.takes_turns) CHECK(c->num_blocks % c->tiles_channels == 0);
            CHECK(c->num_blocks >= 1);
            CHECK(c->num_blocks <= c->num_tiles() * split);
            CHECK((split == 1 || c->num_blocks == c->num_tiles() * split));
            if (c->fetch != NhwcFetch::window) CHECK(c->tiles_pixels * shape.pixels() >= s.N * s.gemm_n());
            CHECK(c->tiles_channels * shape.channels >= s.K);
            CHECK(c->num_chunks * c->slot_channels >= s.C);
            if (c->fetch == NhwcFetch::window && split == 1 && num_sms == 1) check_windows(s, *c);
            num_windows += c->fetch == NhwcFetch::window;
            CHECK(c->predicted_us > 0);
            least_us = std::min(least_us, c->predicted_us);
          }
      REQUIRE(best.has_value() == std::isfinite(least_us));
      if (best) chosen.insert({best->tile, best->fetch});
      if (best) CHECK(best->predicted_us == least_us);
    }
  }
  CHECK(num_configs > 2000);
  CHECK(num_windows > 500);
  CHECK(chosen.size() >= 8);  // of a single one nobody would need the others
}

TEST_CASE("conv_nhwc: packed weights are the weights, in the order in which slots are taken") {
  for (const DType dtype : {DType::float16, DType::bfloat16})
    for (const ConvShape& s : {make_shape({1, 72, 9, 9}, {40, 3, 3}, {.padding = 1}),
                               make_shape({1, 24, 9, 9}, {70, 3, 2}), make_shape({1, 130, 5, 5}, {33, 1, 1})})
      for (int tile = 0; tile < kNumNhwcTiles; ++tile)
        for (const NhwcFetch fetch : {NhwcFetch::im2col, NhwcFetch::window}) {
          std::string why;
          const auto c = make_nhwc_config(s, dense_pixels(s), {}, 132, tile, fetch, 1, &why);
          if (!c) continue;
          const std::string config = to_string(*c);
          CAPTURE(config);
          Tensor w = uniform_of(dtype, {s.K, s.C, s.R, s.S}, 7);
          // Channels of all scales that the type has, down to its smallest number.
          for (int64_t k = 0; k < s.K; ++k)
            for (int64_t i = 0; i < s.gemm_k(); ++i) {
              float& value = w.floats()[static_cast<size_t>(k * s.gemm_k() + i)];
              value = round_to(dtype, std::ldexp(value, static_cast<int>(k % 40) - 24));
            }
          const std::vector<int32_t> exponents = pixel_exponents(s, dtype, w.floats().data());
          const std::vector<std::byte> packed = pack_nhwc_weights(s, *c, dtype, w.floats().data(), exponents);
          REQUIRE(static_cast<int64_t>(packed.size()) == packed_nhwc_bytes(*c));
          int64_t num_wrong = 0;
          for (int64_t k = 0; k < s.K; ++k)
            for (int64_t slot = 0; slot < c->num_weight_slots(); ++slot)
              for (int64_t i = 0; i < c->slot_channels; ++i) {
                const int64_t taps = c->num_weight_slots() / c->num_chunks, tap = slot % taps;
                const int64_t r = fetch == NhwcFetch::window ? tap % 3 : tap / s.S;
                const int64_t t = fetch == NhwcFetch::window ? tap / 3 : tap % s.S;
                const int64_t channel = slot / taps * c->slot_channels + i;
                const float expected =
                    channel >= s.C
                        ? 0
                        : w.floats()[static_cast<size_t>(((k * s.C + channel) * s.R + r) * s.S + t)];
                num_wrong += packed_weight(s, *c, dtype, packed, k, slot, i) != expected;
              }
          CHECK(num_wrong == 0);
        }
}

TEST_CASE("conv_nhwc: a stem's windows leave the same convolution") {
  for (const ConvShape& s : {make_shape({2, 3, 20, 17}, {5, 7, 4}, {.stride = {2, 3}, .padding = {3, 2}}),
                             make_shape({2, 3, 9, 8}, {4, 3, 3}),
                             make_shape({1, 8, 7, 7}, {3, 2, 5}, {.padding = Padding(1, 4, -1, 2)}),
                             make_shape({1, 3, 19, 16}, {6, 4, 4}, {.stride = 4}),
                             make_shape({1, 2, 9, 9}, {3, 2, 2}, {.stride = 3})}) {
    const std::string words = to_string(s);
    CAPTURE(words);
    REQUIRE(is_stem(s));
    const ConvShape windows = stem_windows(s);
    const PixelStrides lies = stem_strides(s);
    REQUIRE(windows.P() == s.P());
    REQUIRE(windows.Q() == s.Q());
    CHECK(lies.pixel % 8 == 0);
    const Tensor x = uniform({s.N, s.C, s.H, s.W}, 1), w = uniform({s.K, s.C, s.R, s.S}, 2);
    // x' as is_stem() has it, then its windows as a tensor of their own.
    std::vector<float> blocks(static_cast<size_t>(s.N * lies.image));
    for (size_t at = 0; at < blocks.size(); ++at) {
      const int64_t i = static_cast<int64_t>(at), channel = i % lies.pixel,
                    column = i % lies.row / lies.pixel, row = i % lies.image / lies.row, n = i / lies.image;
      const int64_t in_block = channel / s.C, h = row * s.stride_h + in_block / s.stride_w - s.pad_top,
                    j = column * s.stride_w + in_block % s.stride_w - s.pad_left;
      if (in_block < stem_rows(s) * s.stride_w && h >= 0 && h < s.H && j >= 0 && j < s.W)
        blocks[at] = x.floats()[static_cast<size_t>(((n * s.C + channel % s.C) * s.H + h) * s.W + j)];
    }
    Tensor window_x = Tensor::empty({windows.N, windows.C, windows.H, windows.W});
    for (int64_t at = 0; at < window_x.num_elems(); ++at) {
      const int64_t q = at % windows.W, h = at / windows.W % windows.H,
                    c = at / windows.W / windows.H % windows.C;
      const int64_t from =
          at / windows.W / windows.H / windows.C * lies.image + h * lies.row + q * lies.pixel + c;
      REQUIRE(from < static_cast<int64_t>(blocks.size()));
      window_x.floats()[static_cast<size_t>(at)] = blocks[static_cast<size_t>(from)];
    }
    const std::vector<float> window_w = stem_weights(s, w.floats());
    for (int64_t at = 0; at < s.N * s.K * s.gemm_n(); ++at)
      CHECK(conv_oracle(windows, window_x.floats(), window_w, at).value ==
            doctest::Approx(conv_oracle(s, x.floats(), w.floats(), at).value).epsilon(1e-12));
  }
}
