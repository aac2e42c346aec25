// Answers that this project did not compute itself. Every row is run, or counted as too expensive for the
// CPU.

#include <algorithm>
#include <array>
#include <cstdio>

#include "tests/cases/conformance.h"
#include "tests/support/support.h"

using namespace solder;
using namespace solder::test;

namespace {

uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// Tensor `which` (0 x, 1 w, 2 bias) of a conv_int row: integers in [-3, 3].
Tensor integer_tensor(const Shape& shape, uint64_t seed, uint64_t which) {
  Tensor tensor = Tensor::empty(shape);
  uint64_t state = mix(seed * 4 + which);
  for (float& value : tensor.floats()) {
    state += 0x9E3779B97F4A7C15u;
    value = static_cast<float>(static_cast<int>((mix(state) >> 33) % 7) - 3);
  }
  return tensor;
}

// CRC-32 (zlib's polynomial) of the values as little-endian int32.
uint32_t crc_of_integers(std::span<const float> values) {
  static const auto table = [] {
    std::array<uint32_t, 256> entries{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t crc = i;
      for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0xEDB88320u : 0u);
      entries[i] = crc;
    }
    return entries;
  }();
  uint32_t crc = 0xFFFFFFFFu;
  for (const float value : values) {
    const uint32_t bits = static_cast<uint32_t>(static_cast<int32_t>(value));
    for (int shift = 0; shift < 32; shift += 8) crc = (crc >> 8) ^ table[(crc ^ (bits >> shift)) & 0xFFu];
  }
  return ~crc;
}

// Runs every row of conv_int.csv below `max_macs` multiply-adds, on a GPU as the graph chooses, through the
// packed window kernel and through im2col + cuBLAS; counts are printed, failures named.
void run_conv_int(Device device, Math math, int64_t max_macs) {
  std::vector<std::string> families{""};
  if (device.is_cuda()) families.insert(families.end(), {"packed", "mma", "im2col"});
  int64_t num_rows = 0, num_failed = 0, num_left = 0;
  std::map<std::string, int64_t> paths;
  for (const CsvRow& row : read_conformance("conv_int.csv")) {
    const ConvShape s = conv_shape(row);
    if (s.num_macs() >= max_macs) {
      ++num_left;
      continue;
    }
    ++num_rows;
    const uint64_t seed = std::stoull(row.at("seed"));
    const Tensor x = integer_tensor({s.N, s.C, s.H, s.W}, seed, 0);
    const TensorMap weights{{"w", integer_tensor({s.K, s.C / s.groups, s.R, s.S}, seed, 1)},
                            {"b", integer_tensor({s.K}, seed, 2)}};
    for (const std::string& family : families) {
      const Model model =
          compile(conv_graph(s, true), weights, {.device = device, .math = math, .conv = family});
      const std::string& path = model.nodes().back().path;
      if (family != "im2col") ++paths[(family.empty() ? "" : "asked for: ") + path.substr(0, path.find(','))];
      const Tensor y = model.session().run({{"x", x}}).at("y");
      const auto [low, high] = std::minmax_element(y.floats().begin(), y.floats().end());
      const bool right =
          y.shape() == Shape{s.N, s.K, std::stoll(row.at("out_h")), std::stoll(row.at("out_w"))} &&
          *low == std::stof(row.at("min")) && *high == std::stof(row.at("max")) &&
          crc_of_integers(y.floats()) == std::stoul(row.at("crc32"), nullptr, 16);
      if (!right && ++num_failed <= 5)
        MESSAGE("row ", row.at("id"), " ", row.at("name"), ": ", to_string(s), ": ", path);
    }
  }
  std::printf(
      "conv_int on %s, %s: %lld rows run%s, %lld failed, %lld not run (at least %lld multiply-adds)\n",
      to_string(device).c_str(), to_string(math), static_cast<long long>(num_rows),
      families.size() > 1 ? ", each packed, by mma and through im2col too" : "",
      static_cast<long long>(num_failed), static_cast<long long>(num_left), static_cast<long long>(max_macs));
  for (const auto& [path, count] : paths)
    std::printf("  %5lld rows: %s\n", static_cast<long long>(count), path.c_str());
  CHECK(num_rows > 0);
  CHECK(num_failed == 0);
}

float from_bits(const std::string& hex) {
  return std::bit_cast<float>(static_cast<uint32_t>(std::stoul(hex, nullptr, 16)));
}

}  // namespace

TEST_CASE("conformance: conv_int on the CPU, rows under 20 million multiply-adds, bit-exact") {
  run_conv_int(Device::cpu(), Math::fp32, 20'000'000);
}

GPU_TEST_CASE("conformance: conv_int with Math::fp32, all rows, bit-exact") {
  run_conv_int(Device::cuda(0), Math::fp32, INT64_MAX);
}

GPU_TEST_CASE("conformance: conv_int with Math::tf32, all rows, bit-exact") {
  run_conv_int(Device::cuda(0), Math::tf32, INT64_MAX);
}

TEST_CASE("conformance: mish_f32, mish and stepwise mish of mish within 4 ULP, every row") {
  const std::vector<CsvRow> rows = read_conformance("mish_f32.csv");
  Tensor x = Tensor::empty({static_cast<int64_t>(rows.size())});
  for (size_t i = 0; i < rows.size(); ++i) x.floats()[i] = from_bits(rows[i].at("x_bits"));
  Graph g;
  const Value once = g.mish(g.input("x", x.shape()));
  g.output("mish", once);
  g.output("mish2", g.mish(once));
  Graph twice;
  twice.output("mish2", twice.mish(twice.mish(twice.input("x", x.shape()))));
  for (const Device device : devices()) {
    const TensorMap separate = compile(g, {}, {.device = device, .fuse = false}).session().run({{"x", x}});
    const TensorMap fused = compile(twice, {}, {.device = device}).session().run({{"x", x}});
    int64_t worst = 0, worst_twice = 0;
    size_t at = 0, at_twice = 0;
    for (size_t i = 0; i < rows.size(); ++i) {
      const int64_t error =
          ulp_distance(separate.at("mish").floats()[i], from_bits(rows[i].at("mish_rn_bits")));
      const int64_t error_twice =
          ulp_distance(fused.at("mish2").floats()[i], from_bits(rows[i].at("mish2_stepwise_rn_bits")));
      if (error > worst) worst = error, at = i;
      if (error_twice > worst_twice) worst_twice = error_twice, at_twice = i;
    }
    std::printf("mish_f32 on %s: %zu rows; worst %lld ULP for mish (x = %s), %lld for double_mish (x = %s)\n",
                to_string(device).c_str(), rows.size(), static_cast<long long>(worst),
                rows[at].at("x_decimal").c_str(), static_cast<long long>(worst_twice),
                rows[at_twice].at("x_decimal").c_str());
    CHECK(worst <= 4);
    CHECK(worst_twice <= 4);
    CHECK(same_bits(separate.at("mish2"), fused.at("mish2")));
  }
}
