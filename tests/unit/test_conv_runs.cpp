// Hopper's convolution over 16-bit values: tiles that are runs of an image's rows, every configuration of windows, and
// biases of each image's own.

#include <algorithm>
#include <cmath>

#include "ops/conv/nhwc/launch.h"
#include "tests/support/oracle.h"
#include "tests/support/pixel_conv.h"
#include "tests/support/planning.h"

#if SOLDER_WITH_SM90
using namespace solder;
using namespace solder::test;

namespace {

// Images of sizes that are no multiples of 8, with every kind of edge.
std::vector<ConvShape> odd_shapes() {
  return {make_shape({3, 72, 19, 19}, {40, 3, 3}, {.padding = 1}),
          make_shape({2, 24, 33, 26}, {200, 3, 3}, {.padding = 1}),  // half slots
          make_shape({2, 130, 20, 23}, {96, 3, 3}),
          make_shape({1, 64, 13, 45}, {72, 3, 3}, {.padding = {2, 2}, .dilation = 2}),
          make_shape({2, 64, 15, 17}, {33, 3, 3}, {.padding = {1, 0, 1, 2}}),  // less on the left
          make_shape({2, 64, 15, 17}, {33, 3, 3}, {.padding = {1, 2, 1, 0}}),
          make_shape({1, 64, 21, 22}, {64, 3, 3}, {.padding = {-1, -2, 1, -3}}),
          make_shape({1, 64, 9, 11}, {64, 3, 3}, {.padding = 3}),  // more than a filter reaches
          make_shape({2, 64, 31, 11}, {64, 3, 2}, {.padding = 1}),
          make_shape({5, 64, 7, 7}, {64, 3, 3}, {.padding = 1})};
}

// y of one call by a config, float32 planes.
Tensor run_config(const Context& context, const ConvShape& s, const NhwcConfig& config, const Tensor& x,
                  const Tensor& w) {
  const Pixels lies{DType::float16, round_up(s.C, 8), 0};
  const Device gpu = context.device();
  const std::vector<std::byte> weights = pack_nhwc_weights(s, config, lies.dtype, w.floats().data(),
                                                           pixel_exponents(s, lies.dtype, w.floats().data()));
  Tensor packed = Tensor::empty({static_cast<int64_t>(weights.size() + 3) / 4});
  std::copy(weights.begin(), weights.end(), static_cast<std::byte*>(packed.data()));
  const Tensor on_gpu[] = {spread(x, lies, kNan).to(gpu), packed.to(gpu)};
  Tensor y = Tensor::empty({s.N, s.K, s.P(), s.Q()});
  std::fill(y.floats().begin(), y.floats().end(), NAN);
  const Tensor result = y.to(gpu);
  PixelCall call{.shape = s,
                 .x_strides = {lies.pitch, s.W * lies.pitch, s.H * s.W * lies.pitch},
                 .x = on_gpu[0].data(),
                 .packed = on_gpu[1].data()};
  call.y = {.data = const_cast<void*>(result.data()),
            .image = s.K * s.gemm_n(),
            .pixel = 1,
            .channel = s.gemm_n(),
            .is_float32 = true};
  conv_nhwc(context, call, config);
  context.synchronize();
  return result.to(Device::cpu());
}

}  // namespace

GPU_TEST_CASE("conv_nhwc: sums of small integers are exact by every tile of windows") {
  const Context context(Device::cuda(0));
  if (context.info().cc_major != 9) return;
  int num_patches = 0, num_rows = 0, num_runs = 0;
  for (const ConvShape& s : odd_shapes()) {
    const Tensor x = integers({s.N, s.C, s.H, s.W}, 1), w = integers(weight_shape(s), 2);
    std::vector<float> exact;
    for (int64_t at = 0; at < s.N * s.K * s.gemm_n(); ++at)
      exact.push_back(static_cast<float>(conv_oracle(s, x.floats(), w.floats(), at).value));
    for (int tile = 0; tile < kNumNhwcTiles; ++tile)
      for (const int split : {1, 2, 8})
        for (const int num_sms : {2, context.info().num_sms}) {
          const PixelStrides strides{round_up(s.C, 8), s.W * round_up(s.C, 8), s.H * s.W * round_up(s.C, 8)};
          std::string why;
          const auto c = make_nhwc_config(s, strides, {}, num_sms, tile, NhwcFetch::window, split, &why);
          if (!c) continue;
          INFO(to_string(s), ": ", to_string(*c));
          ++(c->has_patches ? num_patches : c->tile_step == c->shape().pixels() ? num_runs : num_rows);
          const Tensor y = run_config(context, s, *c, x, w);
          CHECK(std::ranges::equal(y.floats(), exact));
        }
  }
  CHECK(std::min({num_patches, num_rows, num_runs}) > 10);
}

TEST_CASE("conv_nhwc: biases of each image's own are for tiles of one image") {
  const auto plan = [](const ConvShape& s, const Shape& bias, int cc_major = 9, int64_t bias_image = 0,
                       DType dtype = DType::float32) {
    const Pixels x_lies{DType::float16, round_up(s.C, 8), 0}, y_lies{DType::float16, round_up(s.K, 8), 0};
    const Tensor w = uniform(weight_shape(s), 1);
    ConvProblem problem = problem_of(s, view_of({s.N, s.C, s.H, s.W}, x_lies),
                                     view_of({s.N, s.K, s.P(), s.Q()}, y_lies), w, Op::mish);
    problem.operands[0] = {dense_view(nullptr, dtype, bias)};
    if (bias_image > 0) problem.operands[0].strides[0] = bias_image;
    std::string why_not;
    const auto planned = plan_conv(problem, &gpu_of(cc_major), "", &why_not);
    return planned && planned->runs_epilogue ? planned->words : "";
  };
  const ConvShape three = make_shape({5, 192, 19, 19}, {192, 3, 3}, {.padding = 1}),
                  one = make_shape({5, 192, 19, 19}, {192, 1, 1}),
                  alone = make_shape({1, 192, 19, 19}, {192, 1, 1});
  const std::string words = plan(three, {5, 192, 1, 1});
  CHECK(words.find("windows") != std::string::npos);
  CHECK(plan(three, {5, 192, 1, 1}, 9, 400) == words);                               // parts of wider rows
  const ConvShape small = make_shape({64, 512, 8, 8}, {512, 3, 3}, {.padding = 1});  // two images a tile
  CHECK(plan(small, {512, 1, 1}).find("windows of 2x8x8") != std::string::npos);
  CHECK(plan(small, {64, 512, 1, 1}).find("windows of 1x8x8") != std::string::npos);
  CHECK(plan(one, {5, 192, 1, 1}) == "");
  CHECK(plan(alone, {1, 192, 1, 1}) != "");
  CHECK(plan(three, {5, 192, 1, 1}, 8) == "");
  CHECK(plan(three, {5, 192, 1, 1}, 9, 0, DType::float16) == words);  // of x's type
  CHECK(plan(three, {192, 1, 1}, 9, 0, DType::float16) != "");
  CHECK(plan(three, {192, 1, 1}, 8, 0, DType::float16) == "");
  CHECK(plan(three, {192, 1, 1}, 9, 0, DType::bfloat16) == "");
  CHECK(plan(three, {5, 1, 1, 1}) == "");
  CHECK(plan(three, {192, 1, 1}) != "");
}

GPU_TEST_CASE("conv_nhwc: an image's bias is its own") {
  const Context context(Device::cuda(0));
  if (context.info().cc_major != 9) return;
  uint64_t seed = 1;
  for (const ConvShape& s : {make_shape({5, 96, 19, 19}, {192, 3, 3}, {.padding = 1}),
                             make_shape({3, 24, 9, 10}, {40, 3, 3}, {.padding = 1}),
                             make_shape({64, 64, 8, 8}, {200, 3, 3}, {.padding = 1}),
                             make_shape({40, 64, 19, 19}, {128, 3, 3}, {.padding = 1}),
                             make_shape({2, 512, 7, 7}, {64, 3, 3}, {.padding = 1})})
    for (const DType dtype : {DType::float16, DType::bfloat16})
      for (const auto& [stores_sum, is_narrow] : {std::pair{false, false}, {true, false}, {false, true}}) {
        const Tensor x = uniform_of(dtype, {s.N, s.C, s.H, s.W}, seed += 5),
                     w = uniform_of(dtype, weight_shape(s), seed + 1),
                     bias = uniform_of(is_narrow ? dtype : DType::float32, {s.N, s.K, 1, 1}, seed + 2),
                     residual = uniform_of(dtype, {s.N, s.K, s.P(), s.Q()}, seed + 2);
        const Affine affine{uniform({s.K}, seed + 3), uniform({s.K}, seed + 4), stores_sum};
        const Run run = run_family(context, s, dtype, x, w, is_narrow ? bias.to(dtype) : bias, residual,
                                   Op::relu, false, "nhwc", &affine);
        INFO(run.words);
        CHECK(run.num_changed == 0);
        const double rounding = dtype == DType::float16 ? 0x1p-11 : 0x1p-8;
        double worst = 0;
        for (int64_t at = 0; at < run.y.num_elems(); at += 1 + run.y.num_elems() / 4000) {
          const auto k = static_cast<size_t>(at / s.gemm_n() % s.K),
                     row = static_cast<size_t>(at / s.gemm_n());
          const ConvOutput exact = conv_oracle(s, x.floats(), w.floats(), at);
          double sum =
              exact.value + double{bias.floats()[row]} + double{residual.floats()[static_cast<size_t>(at)]};
          double sums = 1.2 * static_cast<double>(s.gemm_k()) * 0x1p-24 * exact.sum_abs;
          if (stores_sum) {  // what follows reads it as it is stored
            const double stored = run.sum.floats()[static_cast<size_t>(at)];
            worst = std::max(worst, std::abs(stored - sum) / (rounding * std::abs(sum) + sums + 0x1p-22));
            sum = stored, sums = 0;
          }
          const double scale = affine.scale.floats()[k];
          const double value = std::max(sum * scale + double{affine.shift.floats()[k]}, 0.0);
          const double bound =
              rounding * std::abs(value) + sums * std::abs(scale) + 0x1p-20 * (1 + std::abs(sum));
          const double error = std::abs(run.y.floats()[static_cast<size_t>(at)] - value) / bound;
          worst = error <= worst ? worst : std::isnan(error) ? INFINITY : error;
        }
        CHECK(worst <= 1);
      }
}

#endif
