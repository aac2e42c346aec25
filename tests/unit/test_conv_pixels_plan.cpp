// What is planned for convolutions over 16-bit values with channels innermost, for every GPU, on the CPU.

#include <algorithm>
#include <cmath>
#include <cstring>

#include "ops/conv/kernels.h"
#include "ops/conv/pixels/plan.h"
#include "runtime/divide.h"
#include "tests/cases/conv_cases.h"
#include "tests/support/pixel_conv.h"
#include "tests/support/planning.h"
#include "tests/support/support.h"

#if SOLDER_WITH_CUDA
using namespace solder;
using namespace solder::test;

TEST_CASE("conv_pixels: depthwise convolutions are direct ones of pixels, on every GPU") {
  for (const int cc_major : {7, 8, 9})
    for (const ConvShape& s : depthwise_shapes())
      for (const DType dtype : {DType::float16, DType::bfloat16}) {
        DeviceInfo device;
        device.cc_major = cc_major, device.cc_minor = cc_major == 7 ? 5 : 0, device.num_sms = 100;
        const Pixels lies{dtype, round_up(s.C, 8), 0};
        const Tensor w = uniform(weight_shape(s), 1);
        ConvProblem problem = problem_of(s, view_of({s.N, s.C, s.H, s.W}, lies),
                                         view_of({s.N, s.K, s.P(), s.Q()}, lies), w, Op::mish);
        const auto plan = plan_conv(problem, &device, "");
        REQUIRE(plan != nullptr);
        CHECK(plan->words.starts_with("direct, "));
        CHECK(plan->runs_epilogue);
        CHECK(plan->scratch_bytes == 0);
        const std::vector<std::byte> packed = plan->pack(w.floats());
        const auto* const values = reinterpret_cast<const float*>(packed.data());
        const int64_t taps = s.R * s.S, row = round_up(s.K, 8);
        REQUIRE(static_cast<int64_t>(packed.size()) == taps * row * 4);
        int64_t num_wrong = 0;
        for (int64_t i = 0; i < taps * row; ++i)
          num_wrong +=
              values[i] != (i % row < s.K ? w.floats()[static_cast<size_t>(i % row * taps + i / row)] : 0);
        CHECK(num_wrong == 0);
        // Float32 values with channels innermost are no family's.
        problem.x.dtype = DType::float32;
        std::string why_not;
        CHECK(plan_conv(problem, &device, "", &why_not) == nullptr);
        CHECK(why_not.find("dense images") != std::string::npos);
      }
}

TEST_CASE("conv_pixels: a residual is a run of pixels, or no kernel's") {
  DeviceInfo device;
  device.cc_major = 8, device.num_sms = 100;
  const auto plans = [&](const ConvShape& s, const ConvView& residual) {
    const Tensor w = uniform(weight_shape(s), 1);
    const Pixels lies{DType::float16, round_up(s.C, 8), 0};
    ConvProblem problem = problem_of(s, view_of({s.N, s.C, s.H, s.W}, lies),
                                     view_of({s.N, s.K, s.P(), s.Q()}, lies), w, Op::relu);
    problem.operands[1] = residual;
    return plan_conv(problem, &device, "") != nullptr;
  };
  // Parts of wider pixels: a column, one pixel an image, one pixel.
  for (const Shape& x : {Shape{2, 40, 13, 1}, Shape{2, 40, 1, 1}, Shape{1, 40, 1, 1}, Shape{2, 40, 1, 13}}) {
    const ConvShape s = make_shape({x[0], x[1], x[2], x[3]}, {40, 1, 1});
    CHECK(plans(s, view_of(x, {DType::float16, 56, 8})));
  }
  // Backward in rows and columns pixels are one stride apart too, but not forward.
  const ConvShape s = make_shape({1, 64, 16, 16}, {64, 3, 3}, {.padding = 1});
  ConvView flipped = view_of({1, 64, 16, 16}, {DType::float16, 64, 0});
  CHECK(plans(s, flipped));
  flipped.strides[2] = -flipped.strides[2], flipped.strides[3] = -flipped.strides[3];
  flipped.offset_elems = (16 * 16 - 1) * 64;
  CHECK(!plans(s, flipped));
  const ConvShape column = make_shape({1, 64, 16, 1}, {64, 1, 1});
  flipped = view_of({1, 64, 16, 1}, {DType::float16, 64, 0});
  flipped.strides[2] = -flipped.strides[2], flipped.offset_elems = (16 - 1) * 64;
  CHECK(!plans(column, flipped));
}

TEST_CASE("conv_pixels: where warpgroups take turns only weights that need exponents have them") {
  const ConvShape s = make_shape({16, 64, 57, 57}, {104, 3, 3});
  for (const DType dtype : {DType::float16, DType::bfloat16}) {
    const Pixels x_lies{dtype, s.C, 0}, y_lies{dtype, s.K, 0};
    // The scales of the packed weights that are not 1; -1: no kernel, in a build without Hopper's.
    const auto num_scales = [&](const Tensor& w) -> int64_t {
      std::string why_not;
      const auto plan =
          plan_conv(problem_of(s, view_of({s.N, s.C, s.H, s.W}, x_lies),
                               view_of({s.N, s.K, s.P(), s.Q()}, y_lies), w, Op::mish, false, nullptr, false),
                    &gpu_of(9), "nhwc", &why_not);
      if (plan == nullptr) return -1;
      CHECK(plan->words.find("tile 64x128") != std::string::npos);
      const std::vector<std::byte> packed = plan->pack(w.floats());
      std::vector<float> scales(static_cast<size_t>(s.K));
      std::memcpy(scales.data(), packed.data(), scales.size() * sizeof(float));
      return std::ranges::count_if(scales, [](float scale) { return scale != 1.0f; });
    };
    Tensor w = uniform_of(dtype, weight_shape(s), 1);
    if (num_scales(w) < 0) return;
    CHECK(num_scales(w) == 0);
    w.floats()[5] = 0x1p-30f;
    CHECK(num_scales(w) == (dtype == DType::float16 ? s.K : 0));
    w.floats()[5] = INFINITY;
    CHECK(num_scales(w) == (dtype == DType::float16 ? s.K : 0));
  }
}

TEST_CASE("conv_pixels: a scale behind the residual is no kernel's before Hopper") {
  const ConvShape s = make_shape({2, 24, 9, 10}, {40, 3, 3}, {.padding = 1});
  const Pixels lies{DType::float16, 40, 0};
  const Tensor w = uniform(weight_shape(s), 1);
  const auto plan_with = [&](bool scales, std::string* why_not) {
    DeviceInfo device;
    device.cc_major = 8, device.num_sms = 100;
    return plan_conv(problem_of(s, view_of({s.N, s.C, s.H, s.W}, lies),
                                view_of({s.N, s.K, s.P(), s.Q()}, lies), w, Op::mish, scales),
                     &device, "", why_not);
  };
  std::string why_not;
  CHECK(plan_with(false, &why_not) != nullptr);
  CHECK(plan_with(true, &why_not) == nullptr);
  CHECK(why_not.find("mma: no kernel runs its epilogue") != std::string::npos);
}

// Or they would be read before the kernel that makes them has ended.
TEST_CASE("conv_pixels: biases, scales and shifts are constants only where each of them is known") {
  const ConvShape s = make_shape({2, 24, 9, 10}, {40, 3, 3}, {.padding = 1});
  const Pixels lies{DType::float16, 40, 0};
  const Tensor w = uniform(weight_shape(s), 1);
  ConvProblem problem = problem_of(s, view_of({s.N, s.C, s.H, s.W}, lies),
                                   view_of({s.N, s.K, s.P(), s.Q()}, lies), w, Op::mish, true);
  const auto has_constants = [&] {
    std::string why_not;
    const auto plan = plan_conv(problem, &gpu_of(9), "", &why_not);
    if (plan == nullptr) return std::string("no kernel");  // in a build without Hopper's
    return std::string(dynamic_cast<const PixelPlan&>(*plan).call.has_constants ? "constants" : "unknown");
  };
  const bool is_built = has_constants() != "no kernel";
  CHECK(has_constants() == (is_built ? "unknown" : "no kernel"));
  for (const size_t unknown : {0, 2, 3, 4}) {  // bias, scale, shift, none
    problem.largest_operand = [=](size_t operand) {
      return operand == unknown ? kNonFiniteBits : bits_of(1.0f);
    };
    CHECK(has_constants() == (!is_built ? "no kernel" : unknown == 4 ? "constants" : "unknown"));
  }
}
#endif
