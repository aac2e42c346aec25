// Convolutions over 16-bit values with channels innermost, by every family that takes such: their results on a GPU. What is
// planned: test_conv_pixels_plan.cpp.

#include <algorithm>
#include <cmath>

#include "runtime/context.h"
#include "tests/cases/conv_cases.h"
#include "tests/support/oracle.h"
#include "tests/support/pixel_conv.h"
#include "tests/support/support.h"

#if SOLDER_WITH_CUDA
using namespace solder;
using namespace solder::test;

namespace {

// Those that read 16-bit pixels on this GPU.
std::vector<std::string> families_of(const Context& context) {
  if (context.info().cc_major == 9 && SOLDER_WITH_SM90) return {"nhwc", "mma", "direct"};
  return {"mma", "direct"};
}

// Element `at` of conv(x, w) + bias + residual, where there is one; of the product the sum of its terms' magnitudes.
ConvOutput sum_oracle(const ConvShape& s, const Tensor& x, const Tensor& w, const Tensor& bias,
                      const Tensor& residual, int64_t at) {
  ConvOutput exact = conv_oracle(s, x.floats(), w.floats(), at);
  exact.value += double{bias.floats()[static_cast<size_t>(at / s.gemm_n() % s.K)]};
  if (residual.num_elems() > 0) exact.value += double{residual.floats()[static_cast<size_t>(at)]};
  return exact;
}

double activation_oracle(Op op, double x) {
  if (op == Op::relu) return x <= 0 ? 0 : x;
  if (op == Op::load || (std::isinf(x) && x > 0)) return x;
  if (op == Op::silu) return x / (1 + std::exp(-x));
  return op == Op::double_mish ? mish_oracle(mish_oracle(x)) : mish_oracle(x);
}

double rounding_of(DType dtype) { return dtype == DType::float16 ? 0x1p-11 : 0x1p-8; }

// The largest of errors over their bounds; NaN counts.
struct WorstError {
  double value = 0;
  void note(double error, double bound) {
    if (!(error / bound <= value)) value = std::isnan(error) ? INFINITY : error / bound;
  }
};

std::vector<ConvShape> gpu_shapes(const std::string& family) {
  if (family == "direct") return depthwise_shapes();
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

GPU_TEST_CASE("conv_pixels: within one rounding of the exact result, and nothing else is written") {
  const Context context(Device::cuda(0));
  uint64_t seed = 1;
  for (const std::string& family : families_of(context))
    for (const ConvShape& s : gpu_shapes(family))
      for (const DType dtype : {DType::float16, DType::bfloat16})
        for (const bool stores_float32 : {false, true}) {
          const std::string words = to_string(s);
          CAPTURE(words);
          const Tensor x = uniform_of(dtype, {s.N, s.C, s.H, s.W}, seed += 3),
                       w = uniform_of(dtype, weight_shape(s), seed + 1), bias = uniform({s.K}, seed + 2),
                       residual = uniform_of(dtype, {s.N, s.K, s.P(), s.Q()}, seed + 2);
          const Run run =
              run_family(context, s, dtype, x, w, bias, residual, Op::relu, stores_float32, family);
          CHECK(run.num_changed == 0);
          INFO(run.words);
          const double rounding = stores_float32 ? 0x1p-23 : rounding_of(dtype);
          WorstError worst;
          std::mt19937_64 engine(seed);
          const int64_t total = run.y.num_elems(), count = std::min<int64_t>(total, 4000);
          for (int64_t i = 0; i < count; ++i) {
            const int64_t at =
                total == count ? i : static_cast<int64_t>(engine() % static_cast<uint64_t>(total));
            const ConvOutput sum = sum_oracle(s, x, w, bias, residual, at);
            const double value = activation_oracle(Op::relu, sum.value);
            worst.note(std::abs(run.y.floats()[static_cast<size_t>(at)] - value),
                       rounding * std::abs(value) + 0x1p-22 * (1 + std::abs(sum.value)) +
                           static_cast<double>(s.gemm_k()) * 0x1p-24 * sum.sum_abs + 0x1p-24);
          }
          CHECK(worst.value <= 1);
        }
}

// Results that wait for no residual leave by the copy engine where warpgroups take turns: in patches, from 16 pixels side by
// side, or from such of a gathered tile. Sums begin with biases, unless a weight needs its channel's exponent.
GPU_TEST_CASE("conv_pixels: the same of tiles that take turns and have no residual") {
  const Context context(Device::cuda(0));
  if (families_of(context).front() != "nhwc" || context.info().num_sms != 132) return;
  const std::pair<ConvShape, Op> kCases[] = {
      {make_shape({16, 64, 57, 57}, {100, 3, 3}), Op::double_mish},
      {make_shape({16, 64, 57, 57}, {104, 3, 3}), Op::double_mish},
      {make_shape({40, 64, 45, 51}, {120, 3, 3}, {.stride = 2}), Op::double_mish},
      {make_shape({40, 64, 41, 37}, {248, 1, 1}), Op::relu}};
  uint64_t seed = 1;
  for (const auto& [s, activation] : kCases)
    for (const auto& [dtype, is_plain] :
         {std::pair{DType::float16, true}, {DType::float16, false}, {DType::bfloat16, true}}) {
      const Tensor x = uniform_of(dtype, {s.N, s.C, s.H, s.W}, seed += 3),
                   w = uniform_of(dtype, weight_shape(s), seed + 1), bias = uniform({s.K}, seed + 2);
      if (!is_plain)
        for (float& value : w.floats().first(static_cast<size_t>(s.gemm_k()))) value *= 0x1p-12f;
      const Run run = run_family(context, s, dtype, x, w, bias, Tensor(), activation, false, "nhwc");
      INFO(run.words);
      CHECK(run.words.find("tile 64x128") != std::string::npos);
      CHECK(run.num_changed == 0);
      WorstError worst;
      for (int64_t at = 0; at < run.y.num_elems(); at += 1 + run.y.num_elems() / 20'000) {
        const ConvOutput sum = sum_oracle(s, x, w, bias, Tensor(), at);
        const double value = activation_oracle(activation, sum.value);
        worst.note(std::abs(run.y.floats()[static_cast<size_t>(at)] - value),
                   (rounding_of(dtype) + 0x1p-16) * std::abs(value) +
                       static_cast<double>(s.gemm_k()) * 0x1p-23 * sum.sum_abs +
                       0x1p-22 * (1 + std::abs(sum.value)));
      }
      CHECK(worst.value <= 1);
    }
}

GPU_TEST_CASE("conv_pixels: a scale and a shift behind the residual, and the sum before it stored, too") {
  const Context context(Device::cuda(0));
  if (families_of(context).front() != "nhwc") return;
  constexpr std::pair<Op, bool> kEnds[] = {
      {Op::load, true}, {Op::mish, false}, {Op::mish, true}, {Op::double_mish, false}, {Op::silu, true}};
  uint64_t seed = 1;
  for (const ConvShape& s :
       {make_shape({2, 96, 14, 14}, {40, 3, 3}, {.padding = 1}),
        make_shape({1, 512, 8, 8}, {256, 3, 3}, {.padding = 1}), make_shape({40, 64, 9, 9}, {128, 1, 1}),
        make_shape({64, 192, 19, 19}, {192, 3, 3}, {.padding = 1}),
        make_shape({3, 24, 17, 19}, {1000, 3, 3}, {.stride = 2})})
    for (const DType dtype : {DType::float16, DType::bfloat16})
      for (const auto& [activation, stores_sum] : kEnds) {
        const Tensor x = uniform_of(dtype, {s.N, s.C, s.H, s.W}, seed += 5),
                     w = uniform_of(dtype, weight_shape(s), seed + 1), bias = uniform({s.K}, seed + 2),
                     residual = uniform_of(dtype, {s.N, s.K, s.P(), s.Q()}, seed + 2);
        const Affine affine{uniform({s.K}, seed + 3), uniform({s.K}, seed + 4), stores_sum};
        const Run run =
            run_family(context, s, dtype, x, w, bias, residual, activation, false, "nhwc", &affine);
        CHECK(run.num_changed == 0);
        INFO(run.words, " ", std::string(to_string(activation)));
        CHECK((run.words.find("two results") != std::string::npos) == stores_sum);
        const double rounding = rounding_of(dtype);
        WorstError worst;
        for (int64_t at = 0; at < run.y.num_elems(); at += 1 + run.y.num_elems() / 4000) {
          const int64_t k = at / s.gemm_n() % s.K;
          const double scale = affine.scale.floats()[static_cast<size_t>(k)];
          const ConvOutput exact = sum_oracle(s, x, w, bias, residual, at);
          double sum = exact.value, sums = 1.2 * static_cast<double>(s.gemm_k()) * 0x1p-24 * exact.sum_abs;
          if (stores_sum) {  // what follows reads it as it is stored
            const double stored = run.sum.floats()[static_cast<size_t>(at)];
            worst.note(std::abs(stored - sum), rounding * std::abs(sum) + sums + 0x1p-22);
            sum = stored, sums = 0;
          }
          const double before = sum * scale + double{affine.shift.floats()[static_cast<size_t>(k)]},
                       value = activation_oracle(activation, before);
          worst.note(std::abs(run.y.floats()[static_cast<size_t>(at)] - value),
                     (rounding + 0x1p-16) * std::abs(value) + sums * std::abs(scale) +
                         0x1p-20 * (1 + std::abs(before)));
        }
        CHECK(worst.value <= 1);
      }
}

GPU_TEST_CASE("conv_pixels: sums of small integers are exact, and the same 100 times") {
  const Context context(Device::cuda(0));
  for (const std::string& family : families_of(context))
    for (const ConvShape& s :
         family == "direct"
             ? depthwise_shapes()
             : std::vector{make_shape({2, 40, 13, 11}, {72, 3, 3}, {.padding = 1}),
                           make_shape({1, 512, 8, 8}, {256, 3, 3}, {.padding = 1}),
                           make_shape({3, 64, 9, 9}, {64, 1, 1}),
                           make_shape({2, 3, 33, 35}, {16, 7, 7}, {.stride = 2, .padding = 3})})
      for (const DType dtype : {DType::float16, DType::bfloat16}) {
        const Tensor x = integers({s.N, s.C, s.H, s.W}, 1), w = integers(weight_shape(s), 2),
                     bias = integers({s.K}, 3), residual = integers({s.N, s.K, s.P(), s.Q()}, 4);
        const Run run = run_family(context, s, dtype, x, w, bias, residual, Op::load, true, family);
        INFO(run.words);
        int64_t num_wrong = 0;
        for (int64_t at = 0; at < run.y.num_elems(); ++at) {
          num_wrong +=
              run.y.floats()[static_cast<size_t>(at)] != sum_oracle(s, x, w, bias, residual, at).value;
        }
        CHECK(num_wrong == 0);
        const Tensor rough = uniform_of(dtype, x.shape(), 5), rough_w = uniform_of(dtype, w.shape(), 6);
        const Run first =
            run_family(context, s, dtype, rough, rough_w, bias, residual, Op::mish, false, family);
        for (int i = 0; i < (is_sanitized() ? 2 : 100); ++i)
          CHECK(same_bits(
              run_family(context, s, dtype, rough, rough_w, bias, residual, Op::mish, false, family).y,
              first.y));
      }
}

GPU_TEST_CASE("conv_pixels: infinity, NaN and overflow stay where they belong") {
  const Context context(Device::cuda(0));
  for (const std::string& family : families_of(context))
    for (const ConvShape& s :
         family == "direct" ? std::vector{depthwise_shapes()[0]}
                            : std::vector{make_shape({2, 24, 9, 10}, {40, 3, 3}, {.padding = 1}),
                                          make_shape({2, 3, 9, 10}, {40, 3, 3}, {.stride = 2, .padding = 1})})
      for (const DType dtype : {DType::float16, DType::bfloat16})
        for (const Op activation : {Op::load, Op::relu, Op::mish, Op::double_mish, Op::silu}) {
          Tensor x = uniform_of(dtype, {s.N, s.C, s.H, s.W}, 1), w = uniform_of(dtype, weight_shape(s), 2),
                 bias = uniform({s.K}, 3), residual = uniform_of(dtype, {s.N, s.K, s.P(), s.Q()}, 4);
          x.floats()[17] = INFINITY;
          x.floats()[static_cast<size_t>(s.C * s.H * s.W) + 3] = NAN;
          residual.floats()[5] = -INFINITY;
          bias.floats()[7] = dtype == DType::float16 ? 70000.0f : 1e38f;
          const Run run = run_family(context, s, dtype, x, w, bias, residual, activation, false, family);
          INFO(run.words, " ", std::string(to_string(dtype)), " ", std::string(to_string(activation)));
          int64_t num_wrong = 0;
          std::string first;
          for (int64_t at = 0; at < run.y.num_elems(); ++at) {
            const double value = activation_oracle(activation, sum_oracle(s, x, w, bias, residual, at).value);
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

GPU_TEST_CASE("conv_pixels: in graphs, whatever follows a convolution, what the CPU computes") {
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
