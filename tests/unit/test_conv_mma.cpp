// The portable convolution: how problems are cut up for each architecture and weights packed, on the CPU. Its results on
// a GPU: test_conv.cpp, test_conv_fused.cpp, and for 16-bit values test_conv_pixels.cpp, where it is one of the families.

#include <algorithm>
#include <set>

#include "ops/conv/mma/mma.h"
#include "runtime/divide.h"
#include "tests/cases/conv_cases.h"
#include "tests/support/support.h"

using namespace solder;
using namespace solder::test;

namespace {

// CUDA C++ programming guide, technical specifications per compute capability.
struct Limits {
  int cc_major, cc_minor, num_sms;
  int threads, blocks;  // of a multiprocessor
  int smem_per_sm, smem_per_block;
};
constexpr Limits kLimits[] = {
    {7, 5, 40, 1024, 16, 64 << 10, 64 << 10},    {8, 0, 108, 2048, 32, 164 << 10, 163 << 10},
    {8, 6, 82, 1536, 16, 100 << 10, 99 << 10},   {8, 9, 128, 1536, 24, 100 << 10, 99 << 10},
    {9, 0, 132, 2048, 32, 228 << 10, 227 << 10}, {12, 0, 170, 1536, 24, 100 << 10, 99 << 10}};
constexpr int kRegisters = 65536, kRegistersOfThread = 255;

DeviceInfo device_of(const Limits& limits) {
  DeviceInfo device;
  device.cc_major = limits.cc_major, device.cc_minor = limits.cc_minor, device.num_sms = limits.num_sms;
  return device;
}

std::vector<ConvShape> covered_shapes() {
  std::vector<ConvShape> shapes;
  for (const ConvCase& c : conv_cases()) shapes.push_back(c.shape);
  for (const ConvCase& c : network_conv_cases()) shapes.push_back(c.shape);
  for (const CsvRow& row : read_conformance("conv_shapes.csv")) shapes.push_back(conv_shape(row));
  shapes.push_back(headline_case().shape);
  std::erase_if(shapes, [](const ConvShape& s) { return s.groups != 1 || s.N == 0; });
  for (ConvShape& s : shapes)
    if (folds_rows(s.C, s.R, s.groups)) s = folded(s);
  return shapes;
}

constexpr int64_t kScratch = int64_t{64} << 30;

std::optional<MmaConfig> choose(const ConvShape& s, int num_parts, const DeviceInfo& device,
                                std::string* why) {
  return choose_mma_config(s, packed_mma_input(s, num_parts), num_parts, true, kScratch, device, why);
}

// Where pixel `pixel` of all images lies among all positions.
int64_t position_of(const ConvShape& s, const MmaConfig& c, int64_t pixel) {
  return pixel / s.Q() * c.pitch + pixel % s.Q() * c.step;
}

}  // namespace

TEST_CASE("conv_mma: what is chosen fits every architecture since Turing") {
  std::set<int> tiles, splits, slots;
  int num_configs = 0;
  for (const Limits& limits : kLimits)
    for (const ConvShape& s : covered_shapes())
      for (const int num_parts : {1, 2}) {
        std::string why;
        const auto c = choose(s, num_parts, device_of(limits), &why);
        const std::string words = c ? to_string(*c) : why;
        INFO(limits.cc_major, ".", limits.cc_minor, ", ", num_parts, " parts, ", to_string(s), ": ", words);
        const bool is_geforce = limits.cc_minor >= 6 || limits.cc_major == 12;
        // One filter of 20 columns needs more shared memory for both parts than Turing has.
        if (!c && limits.cc_major == 7 && s.S > kMostMmaTaps && num_parts == 2) continue;
        REQUIRE(c.has_value() == !(num_parts == 2 && is_geforce));
        if (!c) continue;
        ++num_configs;
        const MmaTile& tile = c->shape();
        tiles.insert(c->tile), splits.insert(c->split);
        CHECK(tile.num_parts == num_parts);
        CHECK(c->smem_bytes <= limits.smem_per_block);
        CHECK(c->blocks_per_sm >= 1);
        CHECK(c->blocks_per_sm <= limits.blocks);
        CHECK(c->blocks_per_sm * (c->smem_bytes + 1024) <=
              std::max(limits.smem_per_sm, c->smem_bytes + 1024));
        CHECK(c->blocks_per_sm * tile.threads() <= limits.threads);
        CHECK(mma_registers(tile) * tile.threads() * tile.blocks_per_sm <= kRegisters);
        CHECK(mma_registers(tile) <= kRegistersOfThread);
        // Sums, both sets of pixels and the weights, and 40 for all else.
        const int sums = tile.warp_channels * tile.warp_pixels / 32 * num_parts;
        const int operands = tile.warp_pixels / 16 * 4 * num_parts * 2 + tile.warp_channels / 16 * 4 * 2;
        CHECK(sums + operands + 40 <= mma_registers(tile));
        CHECK(c->num_tiles() * tile.channels() * tile.pixels() >= s.K * s.N * s.gemm_n());
        CHECK(c->num_stages / c->split >= (c->split == 1 ? 1 : 2));
        // A stage is there when it is multiplied (see conv_mma_kernel).
        CHECK((c->num_slots - 1) * c->stage_units >= kMmaWeightSlots - 1);
        CHECK((c->num_tables - 1) * (c->num_stages / c->split) >= c->num_slots);
        slots.insert(c->num_slots);
        CHECK(c->num_blocks_x >= 1);
        CHECK(c->num_blocks_x <= c->num_tiles());
        CHECK(c->predicted_us > 0);
      }
  CHECK(num_configs > 1000);
  CHECK(tiles.size() == kNumMmaTiles);  // of none nobody would need the others
  CHECK(splits.size() > 2);
  CHECK(slots == std::set<int>{2, 3});
}

TEST_CASE("conv_mma: two blocks of the headline's tile fit a multiprocessor of 100 KB") {
  std::string why;
  const ConvShape s = headline_case().shape;
  const auto c = make_mma_config(s, packed_mma_input(s, 1), 0, 1, true, device_of(kLimits[2]), &why);
  REQUIRE(c);
  CHECK(c->blocks_per_sm == 2);
}

TEST_CASE("conv_mma: the positions of every tile fit its stages") {
  std::string why;
  int num_shared = 0;
  for (const ConvShape& s : covered_shapes())
    for (int tile = 0; tile < kNumMmaTiles; ++tile) {
      const int num_parts = kMmaTiles[tile].num_parts;
      const auto c =
          make_mma_config(s, packed_mma_input(s, num_parts), tile, 1, true, device_of(kLimits[4]), &why);
      if (!c) continue;
      const std::string words = to_string(s) + ": " + to_string(*c);
      CAPTURE(words);
      num_shared += c->is_shared;
      const int64_t halo = c->is_shared ? (s.S - 1) * s.dil_w : 0, all = s.N * s.gemm_n();
      int64_t most = 0;
      for (int64_t first = 0; first < all; first += c->shape().pixels()) {
        const int64_t last = std::min(first + c->shape().pixels(), all) - 1;
        most = std::max(most, position_of(s, *c, last) - position_of(s, *c, first) + 1 + halo);
      }
      CHECK(most <= c->stage_positions);
      CHECK(most > 0);
      CHECK(c->stage_bytes >= c->stage_positions * kMmaRowBytes * num_parts);
      CHECK(kMmaRowBytes % 32 == 16);           // rows that follow each other begin in other banks
      CHECK(c->stage_positions * 8 % 16 == 0);  // scales lie behind tables of them
    }
  CHECK(num_shared > 100);
}

TEST_CASE("conv_mma: every weight is packed once, where its lane multiplies it") {
  for (const ConvShape& s : {make_shape({1, 40, 9, 9}, {72, 3, 3}), make_shape({1, 128, 9, 9}, {24, 1, 1}),
                             make_shape({1, 70, 20, 20}, {130, 2, 5}, {.stride = 3}),
                             make_shape({1, 40, 20, 20}, {40, 3, 2}, {.stride = 3})})
    for (const auto& [num_parts, is_planes] : {std::pair(1, true), {2, true}, {1, false}}) {
      std::string why;
      const auto c = choose_mma_config(s, packed_mma_input(s, num_parts), num_parts, is_planes, kScratch,
                                       device_of(kLimits[4]), &why);
      REQUIRE(c);
      const std::string words = to_string(s) + ": " + to_string(*c);
      CAPTURE(words);
      std::vector<float> w(static_cast<size_t>(s.K * s.gemm_k()));
      // Of as many digits as the parts have.
      for (size_t i = 0; i < w.size(); ++i)
        w[i] = num_parts == 1 ? static_cast<float>(i % 2039 + 1) * 0x1p-9f
                              : static_cast<float>(i % 65521 + 1) * 0x1p-13f;
      std::vector<int32_t> exponents;
      for (int64_t k = 0; k < s.K; ++k) exponents.push_back(static_cast<int32_t>(k % 5));
      const std::vector<std::byte> packed = pack_mma_weights(s, *c, DType::float16, w.data(), exponents);
      REQUIRE(static_cast<int64_t>(packed.size()) == packed_mma_bytes(*c));
      const auto* const scales = reinterpret_cast<const float*>(packed.data());
      const auto* const values =
          reinterpret_cast<const uint16_t*>(packed.data() + round_up(c->padded_channels() * 4, 256));
      const int64_t channels = c->padded_channels(), num_terms = c->num_steps() * 16;
      const int64_t columns = c->is_shared ? 1 : s.S, in_tile = c->shape().channels();
      double sum = 0, expected = 0;
      int64_t num_wrong = 0;
      for (int64_t k = 0; k < channels; ++k)
        for (int64_t term = 0; term < num_terms; ++term) {
          // PTX ISA, fragments of mma.m16n8k16: a lane has rows lane / 4 and 8 on, columns lane % 4 * 2, 1 on, 8 on.
          // Of a column operand it has column lane / 4; of the results' columns lane % 4 * 2 and 1 on, which of four
          // pieces are 8 channels.
          const int64_t place = is_planes ? k : k / 32 * 32 + k % 8 / 2 * 8 + (k % 32 / 8 * 2 + k % 2);
          const int64_t lane = place % 8 * 4 + term % 8 / 2, half = term / 8 % 2, eight = place / 8 % 2;
          const int64_t word = is_planes ? half * 2 + eight : eight * 2 + half;
          const int64_t step = place / in_tile * (num_terms / 16) + term / 16;
          const int64_t at =
              (step * num_parts * in_tile / 16 + place % in_tile / 16) * 256 + lane * 8 + word * 2 + term % 2;
          double value = load_as_float(values, DType::float16, at);
          if (num_parts == 2) value += load_as_float(values, DType::float16, at + in_tile * 16);
          value *= k < s.K ? scales[k] : 0;
          // Its tap and channel.
          const int64_t unit = term / 32 % c->stage_units, stage = term / 32 / c->stage_units;
          const int64_t block = stage / (s.R * columns), tap = stage % (s.R * columns);
          const int64_t r = tap / columns, col = c->is_shared ? unit : tap % columns;
          const int64_t channel = block * kMmaUnitChannels + term % 32;
          const bool is_weight = k < s.K && channel < s.C && block < c->num_blocks;
          const float exact =
              is_weight ? w[static_cast<size_t>(((k * s.C + channel) * s.R + r) * s.S + col)] : 0;
          num_wrong += value != exact;
          sum += value;
        }
      for (const float value : w) expected += value;
      CHECK(num_wrong == 0);
      CHECK(sum == doctest::Approx(expected));
    }
}

TEST_CASE("conv_mma: what it does not take, and why") {
  const DeviceInfo ampere = device_of(kLimits[1]);
  std::string why;
  const ConvShape plain = make_shape({1, 64, 20, 20}, {64, 3, 3});
  CHECK(choose(plain, 1, ampere, &why));
  DeviceInfo volta = ampere;
  volta.cc_major = 7;
  CHECK_FALSE(choose(plain, 1, volta, &why));
  CHECK(why.find("7.5") != std::string::npos);
  CHECK_FALSE(choose(plain, 2, device_of(kLimits[2]), &why));
  CHECK(why.find("float32") != std::string::npos);
  CHECK_FALSE(choose(make_shape({1, 64, 20, 20}, {64, 3, 3}, {.groups = 2}), 1, ampere, &why));
  CHECK(why == "groups");
  CHECK_FALSE(choose(make_shape({1, 16, 40, 40}, {16, 17, 1}), 1, ampere, &why));
  CHECK(why == "a filter of more than 16 rows");
  CHECK_FALSE(choose_mma_config(plain, packed_mma_input(plain, 1), 1, true, 1000, ampere, &why));
  CHECK(why.find("workspace") != std::string::npos);
}
