#include <algorithm>
#include <cmath>
#include <utility>

#include "ops/conv/im2col/im2col.h"
#include "ops/conv/range/range.h"
#include "runtime/check.h"
#include "runtime/divide.h"

namespace solder {
namespace {

constexpr int64_t kPixelStep = 32;  // of chunks: keeps every GEMM's row pitch a multiple of 64 or 128 bytes
constexpr int64_t kTile = 128;      // of cuBLAS's, both ways
// Of launches, and of what a step reads and writes.
constexpr double kGemmUs = 5, kStepUs = 3, kStepBytesPerUs = 2.5e6;

constexpr int64_t kLeastSharedBytes = int64_t{4} << 20;  // smaller images are better cut many at a time

// Columns and sums that stay in the L2 cache save DRAM traffic.
int64_t target_bytes(const DeviceInfo& device) {
  return std::max<int64_t>(device.l2_bytes * 3 / 4, int64_t{16} << 20);
}

// What a chunk takes: so much for each of its units (pixels, or rows where they are shared), and so much beside.
struct ChunkCost {
  int64_t unit_bytes, fixed_bytes;

  int64_t bytes(int64_t units) const { return fixed_bytes + units * unit_bytes; }
  int64_t units(int64_t budget) const { return std::max<int64_t>((budget - fixed_bytes) / unit_bytes, 0); }
};

ChunkCost chunk_cost(const ConvShape& s, const Im2colConfig& c) {
  const int64_t taps = s.C * s.S * c.elem_bytes(), sums = padded_channels(s.K) * int64_t{sizeof(float)};
  if (!c.shares_rows) return {taps * s.R + sums, 0};
  return {(taps * s.stride_h + sums) * c.width, (s.R - s.stride_h) * taps * c.width};
}

int64_t chunk_bytes(const ConvShape& s, const Im2colConfig& c) {
  return chunk_cost(s, c).bytes(c.shares_rows ? c.rows_per_gemm : c.width);
}

// Of scratch, beside a chunk: the images' ranges, and what starts at multiples of 256 bytes.
int64_t beside_bytes(const ConvShape& s, const Im2colConfig& c) {
  return 2 * 256 + (c.is_half ? round_up(conv_range_bytes(s.N), 256) : 0);
}

// `units` in even chunks of at most `most`: the last one would otherwise be a sliver that fills few multiprocessors.
int64_t even_chunk(int64_t units, int64_t most, int64_t step) {
  most = std::max(step, most / step * step);
  return std::min(most, round_up(ceil_div(units, ceil_div(units, most)), step));
}

// Sets the chunk's size: the largest ones save launches, smaller ones may fill cuBLAS's waves better. False, with the
// bytes it takes, where the smallest one does not fit.
bool plan_chunks(const ConvShape& s, int64_t workspace_bytes, const DeviceInfo& device, Im2colConfig* c,
                 int64_t* least_bytes) {
  const int64_t step = c->shares_rows ? 1 : kPixelStep, units = c->shares_rows ? s.P() : s.N * s.gemm_n();
  if (c->shares_rows) c->width = round_up(s.Q(), 8);
  const ChunkCost cost = chunk_cost(s, *c);
  *least_bytes = cost.bytes(step) + beside_bytes(s, *c);
  if (workspace_bytes < *least_bytes) return false;
  workspace_bytes -= beside_bytes(s, *c);
  const int64_t most = cost.units(std::clamp(target_bytes(device), cost.bytes(step), workspace_bytes));
  const auto sized = [&](int64_t chunk) {
    Im2colConfig config = *c;
    (c->shares_rows ? config.rows_per_gemm : config.width) = even_chunk(units, chunk, step);
    return config;
  };
  Im2colConfig best = sized(most);
  constexpr int64_t kTries = 32;
  for (int64_t i = kTries - 1; i > kTries / 4; --i) {
    const Im2colConfig other = sized(std::max(most * i / kTries, step));
    if (predict_im2col_us(s, other, device) < predict_im2col_us(s, best, device)) best = other;
  }
  *c = best;
  return true;
}

// Whether rows are worth sharing: cuBLAS cuts each into tiles, and a chunk is at most an image.
bool can_share_rows(const ConvShape& s) {
  if (s.dil_h != 1 || s.stride_h >= s.R || 4 * s.Q() < 3 * round_up(s.Q(), kTile)) return false;
  // Groups are multiplied one by one then: each must fill the device.
  if (s.groups > 1 && s.P() * ceil_div(s.Q(), kTile) < 128) return false;
  const Im2colConfig image{
      .is_half = true, .shares_rows = true, .rows_per_gemm = s.P(), .width = round_up(s.Q(), 8)};
  return chunk_bytes(s, image) >= kLeastSharedBytes;
}

}  // namespace

int64_t im2col_scratch_bytes(const ConvShape& s, const Im2colConfig& c) {
  return c.width == 0 ? 0 : chunk_bytes(s, c) + beside_bytes(s, c);
}

Im2colLayout im2col_layout(const ConvShape& s, const Im2colConfig& c, int64_t num_rows, int64_t width) {
  const int64_t channels = s.C / s.groups;
  Im2colLayout layout{};
  if (c.shares_rows) {
    layout.num_blocks = (num_rows - 1) * s.stride_h + s.R;
    layout.blocks_per_row = s.stride_h;
    layout.channel_stride = s.S * width;
    layout.block_stride = channels * layout.channel_stride;
    layout.group_stride = layout.num_blocks * layout.block_stride;
  } else {
    layout.num_blocks = layout.blocks_per_row = s.R;
    layout.block_stride = s.S * width;
    layout.channel_stride = s.R * layout.block_stride;
    layout.group_stride = channels * layout.channel_stride;
  }
  return layout;
}

std::string to_string(const Im2colConfig& c) {
  if (c.is_pointwise) return "cuBLAS on x itself";
  return str(c.is_half ? "float16, " : "float32, ",
             c.shares_rows ? str(c.rows_per_gemm, " rows of ", c.width) : str(c.width), " pixels a GEMM");
}

std::optional<Im2colConfig> choose_im2col_config(const ConvShape& s, Math math, int64_t workspace_bytes,
                                                 const DeviceInfo& device, bool knows_weights,
                                                 std::string* why_not) {
  Im2colConfig config{.math = math, .is_pointwise = s.is_pointwise()};
  if (config.is_pointwise || s.N == 0) return config;
  // What packed weights depend on does not depend on the batch: models of several sizes share them. The ways behind
  // the first may fit less memory.
  const bool is_half = knows_weights && math == Math::tf32, shares_rows = is_half && can_share_rows(s);
  for (const auto& [half, shares] : {std::pair{is_half, shares_rows}, {is_half, false}, {false, false}}) {
    config.is_half = half, config.shares_rows = shares;
    int64_t least_bytes = 0;
    if (plan_chunks(s, workspace_bytes, device, &config, &least_bytes)) return config;
    *why_not =
        str("workspace_bytes leaves ", workspace_bytes, " B and the columns need at least ", least_bytes);
  }
  return std::nullopt;
}

// Rates of an H200.
double predict_im2col_us(const ConvShape& s, const Im2colConfig& c, const DeviceInfo& device) {
  if (s.N == 0) return 0;
  // Tiles take turns on the multiprocessors.
  const double tile_us = static_cast<double>(s.gemm_k()) * 2 * kTile * kTile /
                         (c.is_half              ? 3.4e6
                          : c.math == Math::tf32 ? 1.75e6
                                                 : 0.37e6);
  const auto gemm_us = [&](double count, double pixels) {
    const double tiles =
        count * std::ceil(pixels / kTile) * std::ceil(static_cast<double>(s.gemm_m()) / kTile);
    return kGemmUs + tile_us * std::ceil(tiles / std::max(device.num_sms, 1));
  };
  const double x_bytes = 4.0 * static_cast<double>(s.N * s.C * s.H * s.W);
  const double y_bytes = 4.0 * static_cast<double>(s.N * s.K * s.gemm_n());
  if (c.is_pointwise)
    return std::max(gemm_us(static_cast<double>(s.N * s.groups), static_cast<double>(s.gemm_n())),
                    kGemmUs + (x_bytes + y_bytes) / kStepBytesPerUs);
  const int64_t units = c.shares_rows ? c.rows_per_gemm : c.width;
  const double num_chunks =
      static_cast<double>(c.shares_rows ? s.N * ceil_div(s.P(), units) : ceil_div(s.N * s.gemm_n(), units));
  const double step_us =
      kStepUs + (static_cast<double>(chunk_bytes(s, c)) + (x_bytes + y_bytes) / num_chunks) / kStepBytesPerUs;
  const double multiply_us =
      c.shares_rows
          ? static_cast<double>(s.groups) * gemm_us(static_cast<double>(units), static_cast<double>(c.width))
          : gemm_us(static_cast<double>(s.groups), static_cast<double>(units));
  const double find_us =
      c.is_half ? 6 + x_bytes / 4e6 : 0;  // the images' ranges, and the strict kernel's look at them
  return kStepUs + num_chunks * (step_us + multiply_us) + find_us;
}

// Fitted to times of 35 convolutions of networks on an H200, each with a bias and mish (bench_conv): but for kDoubt most are met
// within 15 percent, the worst within 40. Two more, left out, take about twice as long.
std::optional<double> fitted_im2col_us(const ConvShape& s, const Im2colConfig& c, const DeviceInfo& device) {
  if (c.math != Math::tf32 || device.cc_major != 9 || s.groups != 1 || s.N == 0) return std::nullopt;
  if (!c.is_half && !c.is_pointwise) return std::nullopt;
  constexpr double kDoubt = 1.15;  // other families' times are an H100's, too long by as much
  const double x_bytes = 4.0 * static_cast<double>(s.N * s.C * s.H * s.W);
  const double y_bytes = 4.0 * static_cast<double>(s.N * s.K * s.gemm_n());
  // Tiles take turns on the multiprocessors; fewer than those are cut up.
  const auto gemm_us = [&](double count, double pixels, double flops_per_us) {
    const double tiles =
        count * std::ceil(pixels / kTile) * std::ceil(static_cast<double>(s.gemm_m()) / kTile);
    const double turns = tiles / std::max(device.num_sms, 1);
    return static_cast<double>(s.gemm_k()) * 2 * kTile * kTile / flops_per_us *
           (turns < 1 ? turns : std::ceil(turns));
  };
  if (c.is_pointwise) {
    const auto pixels = static_cast<double>(s.gemm_n());
    // Where rows of pixels lie on no 16 bytes cuBLAS takes other kernels.
    const double multiply_us = s.gemm_n() % 4 == 0 ? gemm_us(static_cast<double>(s.N), pixels, 6e6)
                                                   : 2 * static_cast<double>(s.num_macs()) / 7.2e7;
    return kDoubt * (7 + (x_bytes + y_bytes) / 3.8e6 + multiply_us + 2.5 + 2 * y_bytes / 4.2e6);
  }
  const auto units = static_cast<double>(c.shares_rows ? c.rows_per_gemm : c.width);
  const double num_chunks = c.shares_rows
                                ? static_cast<double>(s.N) * std::ceil(static_cast<double>(s.P()) / units)
                                : std::ceil(static_cast<double>(s.N * s.gemm_n()) / units);
  const double multiply_us =
      c.shares_rows ? gemm_us(units, static_cast<double>(c.width), 4.4e6) : gemm_us(1, units, 4.4e6);
  const double chunk_us = 4.2 + static_cast<double>(chunk_bytes(s, c)) / 4.1e6 + multiply_us;
  return kDoubt * (9 + (x_bytes + y_bytes) / 2.2e6 + num_chunks * chunk_us);
}

}  // namespace solder
