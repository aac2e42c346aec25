// The convolution over 16-bit values with channels innermost: how problems are cut up and weights packed, on the CPU;
// its results on a GPU.

#include <algorithm>
#include <cmath>
#include <set>

#include "ops/conv/nhwc/nhwc.h"
#include "runtime/context.h"
#include "runtime/divide.h"
#include "tests/cases/conv_cases.h"
#include "tests/support/conv_weights.h"
#include "tests/support/oracle.h"
#include "tests/support/support.h"

using namespace solder;
using namespace solder::test;

namespace {

PixelStrides dense_pixels(const ConvShape& s) {
  const int64_t pixel = round_up(s.C, 8);
  return {pixel, s.W * pixel, s.H * s.W * pixel};
}

std::vector<ConvShape> one_group_shapes() {
  std::vector<ConvShape> shapes;
  for (const ConvCase& c : conv_cases()) shapes.push_back(c.shape);
  for (const ConvCase& c : network_conv_cases()) shapes.push_back(c.shape);
  std::erase_if(shapes, [](const ConvShape& s) { return s.groups != 1 || s.N == 0; });
  return shapes;
}

float round_to(DType dtype, float value) {
  return dtype == DType::float16 ? float_from_float16(float16_from_float(value))
                                 : float_from_bfloat16(bfloat16_from_float(value));
}

// Values that `dtype` has.
Tensor uniform_in(DType dtype, const Shape& shape, uint64_t seed, float low = -1, float high = 1) {
  Tensor tensor = uniform(shape, seed, low, high);
  for (float& value : tensor.floats()) value = round_to(dtype, value);
  return tensor;
}

// The weight of output channel k that a packed slot has for its `i`-th input channel.
float packed_weight(const ConvShape& s, const NhwcConfig& c, DType dtype,
                    const std::vector<std::byte>& packed, int64_t k, int64_t slot, int64_t i) {
  const int64_t tile = c.shape().channels, channels = c.tiles_channels * tile;
  const auto* const scales = reinterpret_cast<const float*>(packed.data());
  const auto* const slots =
      reinterpret_cast<const uint16_t*>(packed.data() + round_up(channels * 4, int64_t{256}));
  const int64_t row = k % tile;
  // As CUDA's documents have it: address bits 4 to 6 are swapped by bits 7 to 9, for 64-byte rows 4 and 5 by 7 and 8.
  const int64_t byte = row * c.row_bytes() + i * 2;
  const int64_t swizzled = byte ^ ((byte >> 7 & (c.row_bytes() == 128 ? 7 : 3)) << 4);
  CHECK(channels >= s.K);
  return scales[k] * load_as_float(slots + (k / tile * c.num_weight_slots() + slot) * tile * c.slot_channels,
                                   dtype, swizzled / 2);
}

}  // namespace

TEST_CASE("conv_nhwc: every configuration keeps to what a Hopper multiprocessor has") {
  int num_configs = 0;
  std::set<std::pair<int, NhwcFetch>> chosen;
  for (const ConvShape& s : one_group_shapes()) {
    const std::string words = to_string(s);
    CAPTURE(words);
    for (const int num_sms : {1, 114, 132}) {
      std::string why;
      const auto best = choose_nhwc_config(s, dense_pixels(s), {}, num_sms, &why);
      double least_us = INFINITY;
      for (int tile = 0; tile < kNumNhwcTiles; ++tile)
        for (const NhwcFetch fetch : {NhwcFetch::flat, NhwcFetch::im2col, NhwcFetch::rows})
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
            CHECK(c->x_slot_bytes % 1024 == 0);
            CHECK(c->x_load_bytes < 1 << 20);  // a barrier counts no more
            CHECK((c->is_linear || (c->x_slots >= 2 && c->weight_slots >= 2)));
            CHECK(c->num_blocks >= 1);
            CHECK(c->num_blocks <= c->num_tiles() * split);
            CHECK((split == 1 || c->num_blocks == c->num_tiles() * split));
            const int64_t covered = c->fetch == NhwcFetch::rows
                                        ? s.N * ceil_div(s.P(), c->tile_rows) *
                                              ceil_div(s.Q(), c->tile_cols) * c->tile_rows * c->tile_cols
                                        : c->tiles_pixels * shape.pixels();
            CHECK(covered >= s.N * s.gemm_n());
            CHECK(c->tiles_channels * shape.channels >= s.K);
            CHECK(c->num_chunks * c->slot_channels >= s.C);
            if (c->fetch == NhwcFetch::rows) {
              CHECK(c->tile_cols % 8 == 0);
              CHECK(c->tile_rows * c->tile_cols <= shape.pixels());
              CHECK(c->x_slot_bytes >= (shape.pixels() + 2 * c->tile_cols) * c->row_bytes());
            }
            CHECK(c->predicted_us > 0);
            least_us = std::min(least_us, c->predicted_us);
          }
      REQUIRE(best.has_value() == std::isfinite(least_us));
      if (best) chosen.insert({best->tile, best->fetch});
      if (best) CHECK(best->predicted_us == least_us);
    }
  }
  CHECK(num_configs > 2000);
  CHECK(chosen.size() >= 8);  // of a single one nobody would need the others
}

TEST_CASE("conv_nhwc: packed weights are the weights, in the order in which slots are taken") {
  for (const DType dtype : {DType::float16, DType::bfloat16})
    for (const ConvShape& s : {make_shape({1, 72, 9, 9}, {40, 3, 3}, {.padding = 1}),
                               make_shape({1, 24, 9, 9}, {70, 3, 2}), make_shape({1, 130, 5, 5}, {33, 1, 1})})
      for (int tile = 0; tile < kNumNhwcTiles; ++tile)
        for (const NhwcFetch fetch : {NhwcFetch::im2col, NhwcFetch::rows}) {
          std::string why;
          const auto c = make_nhwc_config(s, dense_pixels(s), {}, 132, tile, fetch, 1, &why);
          if (!c) continue;
          const std::string config = to_string(*c);
          CAPTURE(config);
          Tensor w = uniform_in(dtype, {s.K, s.C, s.R, s.S}, 7);
          // Channels of all scales that the type has, down to its smallest number.
          for (int64_t k = 0; k < s.K; ++k)
            for (int64_t i = 0; i < s.gemm_k(); ++i) {
              float& value = w.floats()[static_cast<size_t>(k * s.gemm_k() + i)];
              value = round_to(dtype, std::ldexp(value, static_cast<int>(k % 40) - 24));
            }
          const std::vector<std::byte> packed = pack_nhwc_weights(s, *c, dtype, w.floats().data());
          REQUIRE(static_cast<int64_t>(packed.size()) == packed_nhwc_bytes(*c));
          int64_t num_wrong = 0;
          for (int64_t k = 0; k < s.K; ++k)
            for (int64_t slot = 0; slot < c->num_weight_slots(); ++slot)
              for (int64_t i = 0; i < c->slot_channels; ++i) {
                const int64_t taps = c->num_weight_slots() / c->num_chunks, tap = slot % taps;
                const int64_t r = fetch == NhwcFetch::rows ? tap % 3 : tap / s.S;
                const int64_t t = fetch == NhwcFetch::rows ? tap / 3 : tap % s.S;
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
    for (int64_t at = 0; at < s.N * s.K * s.gemm_n(); ++at) {
      const int64_t q = at % s.Q(), p = at / s.Q() % s.P(), k = at / s.gemm_n() % s.K,
                    n = at / s.gemm_n() / s.K;
      CHECK(conv_oracle(windows, window_x.floats(), window_w, n, k, p, q).value ==
            doctest::Approx(conv_oracle(s, x.floats(), w.floats(), n, k, p, q).value).epsilon(1e-12));
    }
  }
}

#if SOLDER_WITH_CUDA

namespace {

// A tensor [N,C,H,W] of `dtype` in memory with channels innermost, `pitch` elements a pixel, `first` before them.
struct Pixels {
  DType dtype = DType::float16;
  int64_t pitch = 0, first = 0;
};

ConvView view_of(const Shape& shape, const Pixels& lies) {
  ConvView view{
      {nullptr, lies.dtype, shape, {shape[2] * shape[3] * lies.pitch, 1, shape[3] * lies.pitch, lies.pitch}},
      lies.first};
  return view;
}

int64_t place_in(const Shape& shape, const Pixels& lies, int64_t at) {
  const int64_t plane = shape[2] * shape[3], c = at / plane % shape[1];
  return lies.first + (at / plane / shape[1] * plane + at % plane) * lies.pitch + c;
}

// Bits, as float32 words for a Tensor's memory; what is no element of the tensor is `filler`.
Tensor spread(const Tensor& values, const Pixels& lies, uint16_t filler) {
  const Shape& shape = values.shape();
  const int64_t count = lies.first + shape[0] * shape[2] * shape[3] * lies.pitch + 64;
  Tensor memory = Tensor::empty({(count + 1) / 2});
  auto* const bits = static_cast<uint16_t*>(memory.data());
  std::fill_n(bits, (count + 1) / 2 * 2, filler);
  for (int64_t i = 0; i < values.num_elems(); ++i)
    store_from_float(bits, lies.dtype, place_in(shape, lies, i), values.floats()[static_cast<size_t>(i)]);
  return memory;
}

constexpr uint16_t kNan = 0x7fff, kGuard = 0x1234;

struct Run {
  Tensor y;                 // [N,K,P,Q], float32
  int64_t num_changed = 0;  // elements around it
  std::string words;
};

// conv(x, w), then the epilogue {+ bias, + residual, relu} or with mish; x a part of a wider tensor, NaN around it.
Run run_family(const Context& context, const ConvShape& s, DType dtype, const Tensor& x, const Tensor& w,
               const Tensor& bias, const Tensor& residual, Op activation, bool stores_float32,
               const char* family) {
  const Pixels x_lies{dtype, round_up(s.C, 8) + 8, 8}, y_lies{dtype, round_up(s.K, 8) + 16, 8};
  const Shape y_shape{s.N, s.K, s.P(), s.Q()};
  ConvProblem problem{.node = "conv",
                      .shape = s,
                      .math = Math::tf32,
                      .x = view_of(x.shape(), x_lies),
                      .y = view_of(y_shape, y_lies),
                      .weights = known_weights(w.floats(), s.K),
                      .workspace_bytes = int64_t{1} << 30};
  if (stores_float32) problem.y = {dense_view(nullptr, DType::float32, y_shape)};
  Program program{.num_operands = 2, .from_result = true};
  program.push({.op = Op::add, .source = Source::operand, .index = 0});
  program.push({.op = Op::add, .source = Source::operand, .index = 1});
  if (activation != Op::load) program.push({.op = activation});
  program.push({.op = Op::store_output});
  problem.epilogue = program;
  problem.operands = {{dense_view(nullptr, DType::float32, {s.K, 1, 1})}, view_of(y_shape, y_lies)};
  const auto plan = plan_conv(problem, &context.info(), family);
  REQUIRE(plan != nullptr);
  const Device device = context.device();
  const std::vector<std::byte> weights = plan->pack(problem);
  Tensor packed = Tensor::empty({static_cast<int64_t>(weights.size() + 3) / 4});
  std::copy(weights.begin(), weights.end(), static_cast<std::byte*>(packed.data()));
  const Tensor on_device[] = {spread(x, x_lies, kNan).to(device), packed.to(device), bias.to(device),
                              spread(residual, y_lies, kNan).to(device),
                              Tensor::empty({(plan->scratch_bytes + 3) / 4}, DType::float32, device)};
  Tensor y = Tensor::empty(y_shape);
  std::fill(y.floats().begin(), y.floats().end(), NAN);
  const Tensor memory = (stores_float32 ? y : spread(y, y_lies, kGuard)).to(device);
  ConvTensors t;
  t.x = static_cast<const uint16_t*>(on_device[0].data()) + x_lies.first;
  t.packed = on_device[1].data();
  t.operands = {on_device[2].data(), static_cast<uint16_t*>(on_device[3].data()) + y_lies.first};
  t.scratch = on_device[4].data();
  t.y = stores_float32 ? memory.data() : static_cast<uint16_t*>(memory.data()) + y_lies.first;
  plan->enqueue(&context, t);
  context.synchronize();
  Run run{memory.to(Device::cpu()), 0, plan->words};
  if (stores_float32) return run;
  const auto* const bits = static_cast<const uint16_t*>(run.y.data());
  std::vector<bool> is_mine(static_cast<size_t>(run.y.num_elems() * 2));
  for (int64_t i = 0; i < y.num_elems(); ++i) {
    const int64_t at = place_in(y_shape, y_lies, i);
    y.floats()[static_cast<size_t>(i)] = load_as_float(bits, dtype, at);
    is_mine[static_cast<size_t>(at)] = true;
  }
  for (size_t i = 0; i < is_mine.size(); ++i) run.num_changed += !is_mine[i] && bits[i] != kGuard;
  run.y = y;
  return run;
}

// Those that read 16-bit pixels on this GPU.
std::vector<const char*> families_of(const Context& context) {
  if (context.info().cc_major == 9 && SOLDER_WITH_SM90) return {"nhwc", "mma"};
  return {"mma"};
}

std::vector<ConvShape> gpu_shapes() {
  std::vector<ConvShape> shapes = one_group_shapes();
  std::erase_if(shapes, [](const ConvShape& s) {
    return s.num_macs() > (is_sanitized() ? 30'000'000 : 1'500'000'000) || s.pad_left >= 128;
  });
  // All tiles, with and without a split; more tiles than blocks.
  for (const int64_t n : {1, 3, 40})
    for (const int64_t k : {40, 64, 200, 1000})
      if (!is_sanitized()) shapes.push_back(make_shape({n, 96, 14, 14}, {k, 3, 3}, {.padding = 1}));
  return shapes;
}

}  // namespace

GPU_TEST_CASE("conv_nhwc: within one rounding of the exact result, and nothing else is written") {
  const Context context(Device::cuda(0));
  uint64_t seed = 1;
  for (const char* family : families_of(context))
    for (const ConvShape& s : gpu_shapes())
      for (const DType dtype : {DType::float16, DType::bfloat16})
        for (const bool stores_float32 : {false, true}) {
          const std::string words = to_string(s);
          CAPTURE(words);
          const Tensor x = uniform_in(dtype, {s.N, s.C, s.H, s.W}, seed += 3),
                       w = uniform_in(dtype, {s.K, s.C, s.R, s.S}, seed + 1), bias = uniform({s.K}, seed + 2),
                       residual = uniform_in(dtype, {s.N, s.K, s.P(), s.Q()}, seed + 2);
          const Run run =
              run_family(context, s, dtype, x, w, bias, residual, Op::relu, stores_float32, family);
          CHECK(run.num_changed == 0);
          INFO(run.words);
          const double rounding = stores_float32 ? 0x1p-23 : dtype == DType::float16 ? 0x1p-11 : 0x1p-8;
          double worst = 0;
          std::mt19937_64 engine(seed);
          const int64_t total = run.y.num_elems(), count = std::min<int64_t>(total, 4000);
          for (int64_t i = 0; i < count; ++i) {
            const int64_t at =
                total == count ? i : static_cast<int64_t>(engine() % static_cast<uint64_t>(total));
            const int64_t q = at % s.Q(), p = at / s.Q() % s.P(), k = at / s.gemm_n() % s.K,
                          n = at / s.gemm_n() / s.K;
            const ConvOutput exact = conv_oracle(s, x.floats(), w.floats(), n, k, p, q);
            const double before = exact.value + double{bias.floats()[static_cast<size_t>(k)]} +
                                  double{residual.floats()[static_cast<size_t>(at)]};
            const double value = std::max(before, 0.0);
            const double bound = rounding * std::abs(value) + 0x1p-22 * (1 + std::abs(before)) +
                                 static_cast<double>(s.gemm_k()) * 0x1p-24 * exact.sum_abs + 0x1p-24;
            const double error = std::abs(run.y.floats()[static_cast<size_t>(at)] - value) / bound;
            if (!(error <= worst)) worst = std::isnan(error) ? INFINITY : error;
          }
          CHECK(worst <= 1);
        }
}

GPU_TEST_CASE("conv_nhwc: sums of small integers are exact, and the same 100 times") {
  const Context context(Device::cuda(0));
  for (const char* family : families_of(context))
    for (const ConvShape& s :
         {make_shape({2, 40, 13, 11}, {72, 3, 3}, {.padding = 1}),
          make_shape({1, 512, 8, 8}, {256, 3, 3}, {.padding = 1}), make_shape({3, 64, 9, 9}, {64, 1, 1}),
          make_shape({2, 3, 33, 35}, {16, 7, 7}, {.stride = 2, .padding = 3})})
      for (const DType dtype : {DType::float16, DType::bfloat16}) {
        const auto integers = [](Tensor tensor) {
          for (float& value : tensor.floats()) value = std::round(value);
          return tensor;
        };
        const Tensor x = integers(uniform({s.N, s.C, s.H, s.W}, 1, -3, 3)),
                     w = integers(uniform({s.K, s.C, s.R, s.S}, 2, -3, 3)),
                     bias = integers(uniform({s.K}, 3, -3, 3)),
                     residual = integers(uniform({s.N, s.K, s.P(), s.Q()}, 4, -3, 3));
        const Run run = run_family(context, s, dtype, x, w, bias, residual, Op::load, true, family);
        INFO(run.words);
        int64_t num_wrong = 0;
        for (int64_t at = 0; at < run.y.num_elems(); ++at) {
          const int64_t q = at % s.Q(), p = at / s.Q() % s.P(), k = at / s.gemm_n() % s.K,
                        n = at / s.gemm_n() / s.K;
          const double value = conv_oracle(s, x.floats(), w.floats(), n, k, p, q).value +
                               double{bias.floats()[static_cast<size_t>(k)]} +
                               double{residual.floats()[static_cast<size_t>(at)]};
          num_wrong += run.y.floats()[static_cast<size_t>(at)] != value;
        }
        CHECK(num_wrong == 0);
        const Tensor rough = uniform_in(dtype, x.shape(), 5), rough_w = uniform_in(dtype, w.shape(), 6);
        const Run first =
            run_family(context, s, dtype, rough, rough_w, bias, residual, Op::mish, false, family);
        for (int i = 0; i < (is_sanitized() ? 2 : 100); ++i)
          CHECK(same_bits(
              run_family(context, s, dtype, rough, rough_w, bias, residual, Op::mish, false, family).y,
              first.y));
      }
}

GPU_TEST_CASE("conv_nhwc: infinity, NaN and overflow stay where they belong") {
  const Context context(Device::cuda(0));
  for (const char* family : families_of(context))
    for (const ConvShape& s : {make_shape({2, 24, 9, 10}, {40, 3, 3}, {.padding = 1}),
                               make_shape({2, 3, 9, 10}, {40, 3, 3}, {.stride = 2, .padding = 1})})
      for (const DType dtype : {DType::float16, DType::bfloat16})
        for (const Op activation : {Op::load, Op::relu, Op::mish, Op::silu}) {
          Tensor x = uniform_in(dtype, {s.N, s.C, s.H, s.W}, 1),
                 w = uniform_in(dtype, {s.K, s.C, s.R, s.S}, 2), bias = uniform({s.K}, 3),
                 residual = uniform_in(dtype, {s.N, s.K, s.P(), s.Q()}, 4);
          x.floats()[17] = INFINITY;
          x.floats()[static_cast<size_t>(s.C * s.H * s.W) + 3] = NAN;
          residual.floats()[5] = -INFINITY;
          bias.floats()[7] = dtype == DType::float16 ? 70000.0f : 1e38f;
          const Run run = run_family(context, s, dtype, x, w, bias, residual, activation, false, family);
          INFO(run.words, " ", std::string(to_string(dtype)), " ", std::string(to_string(activation)));
          int64_t num_wrong = 0;
          std::string first;
          for (int64_t at = 0; at < run.y.num_elems(); ++at) {
            const int64_t q = at % s.Q(), p = at / s.Q() % s.P(), k = at / s.gemm_n() % s.K,
                          n = at / s.gemm_n() / s.K;
            double value = conv_oracle(s, x.floats(), w.floats(), n, k, p, q).value +
                           double{bias.floats()[static_cast<size_t>(k)]} +
                           double{residual.floats()[static_cast<size_t>(at)]};
            if (activation == Op::relu) value = value <= 0 ? 0 : value;
            if (activation == Op::mish) value = std::isinf(value) && value > 0 ? value : mish_oracle(value);
            if (activation == Op::silu)
              value = std::isinf(value) && value > 0 ? value : value / (1 + std::exp(-value));
            const float got = run.y.floats()[static_cast<size_t>(at)];
            const bool is_huge = std::abs(value) > (dtype == DType::float16 ? 65520.0 : 3.4e38);
            if (std::isnan(value))
              num_wrong += !std::isnan(got);
            else if (is_huge)
              num_wrong += !(std::isinf(got) && (got > 0) == (value > 0));
            else
              num_wrong += !(std::abs(got - value) <= 0x1p-7 * std::abs(value) + 1e-2);
            if (num_wrong > 0 && first.empty()) first = str(got, " for ", value, " at ", at);
          }
          INFO(first);
          CHECK(num_wrong == 0);
        }
}

GPU_TEST_CASE("conv_nhwc: in graphs, whatever follows a convolution, what the CPU computes") {
  Graph g;
  TensorMap weights;
  const auto conv = [&](Value x, int64_t k, int64_t r, const Conv2dOptions& options) {
    const std::string name = "w" + std::to_string(weights.size());
    const int64_t c = g.type(x).shape[1] / options.groups;
    weights[name] = uniform({k, c, r, r}, weights.size() + 1, -0.2f, 0.2f);
    return g.conv2d(x, g.parameter(name, {k, c, r, r}), options);
  };
  const Value x = g.input("x", {3, 3, 21, 18});
  const Value stem = g.hard_swish(conv(x, 20, 3, {.stride = 2, .padding = 1}));
  const Value raw = conv(stem, 40, 3, {.padding = 1}), activated = g.silu(g.mul(raw, 0.5f));
  const Value grouped = g.relu(conv(activated, 40, 3, {.padding = 1, .groups = 4}));
  const Value depthwise = g.clip(conv(grouped, 40, 3, {.padding = 1, .groups = 40}), 0, 6);
  const Value sum = g.mish(g.add(conv(depthwise, 40, 1, {}), raw));
  const Value joined = g.concat(
      {sum, conv(activated, 24, 1, {}), g.avg_pool2d(raw, {.kernel = 3, .stride = 1, .padding = 1})}, 1);
  const Value gate = g.sigmoid(conv(g.global_avg_pool(joined), 104, 1, {}));
  g.output("features", conv(g.mul(joined, gate), 30, 5, {.padding = 2}));
  g.output("last", g.relu(conv(joined, 16, 3, {})), Layout::channels_last);
  const TensorMap inputs{{"x", uniform({3, 3, 21, 18}, 99)}};
  for (const Math math : {Math::fp16, Math::bf16})
    for (const bool fuse : {true, false}) {
      const auto outputs = [&](Device device) {
        return compile(g, weights, {.device = device, .math = math, .fuse = fuse}).session().run(inputs);
      };
      const TensorMap expected = outputs(Device::cpu()), got = outputs(Device::cuda(0));
      for (const auto& [name, tensor] : expected) {
        double error = 0, sum_squares = 0;
        for (int64_t i = 0; i < tensor.num_elems(); ++i) {
          const double want = tensor.floats()[static_cast<size_t>(i)];
          const double difference = got.at(name).floats()[static_cast<size_t>(i)] - want;
          error += difference * difference, sum_squares += want * want;
        }
        INFO(name, " ", std::string(to_string(math)), " fused ", fuse);
        CHECK(std::sqrt(error / sum_squares) < (math == Math::fp16 ? 1e-3 : 8e-3));
      }
    }
}

#endif
