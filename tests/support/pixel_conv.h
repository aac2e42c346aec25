#pragma once
// One convolution over 16-bit values with channels innermost, by a family that a test names, its tensors parts of wider ones.

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "ops/conv/kernels.h"
#include "runtime/context.h"
#include "runtime/divide.h"
#include "tests/cases/conv_cases.h"
#include "tests/support/conv_weights.h"
#include "tests/support/support.h"

namespace solder::test {

inline Shape weight_shape(const ConvShape& s) { return {s.K, s.C / s.groups, s.R, s.S}; }

/// Whole numbers from -3 to 3.
inline Tensor integers(const Shape& shape, uint64_t seed) {
  Tensor tensor = uniform(shape, seed, -3, 3);
  for (float& value : tensor.floats()) value = std::round(value);
  return tensor;
}

/// A tensor [N,C,H,W] of `dtype` in memory with channels innermost, `pitch` elements a pixel, `first` before them.
struct Pixels {
  DType dtype = DType::float16;
  int64_t pitch = 0, first = 0;
};

inline ConvView view_of(const Shape& shape, const Pixels& lies) {
  ConvView view{
      {nullptr, lies.dtype, shape, {shape[2] * shape[3] * lies.pitch, 1, shape[3] * lies.pitch, lies.pitch}},
      lies.first};
  return view;
}

inline int64_t place_in(const Shape& shape, const Pixels& lies, int64_t at) {
  const int64_t plane = shape[2] * shape[3], c = at / plane % shape[1];
  return lies.first + (at / plane / shape[1] * plane + at % plane) * lies.pitch + c;
}

/// Bits, as float32 words for a Tensor's memory; what is no element of the tensor is `filler`.
inline Tensor spread(const Tensor& values, const Pixels& lies, uint16_t filler) {
  const Shape& shape = values.shape();
  const int64_t count = lies.first + shape[0] * shape[2] * shape[3] * lies.pitch + 64;
  Tensor memory = Tensor::empty({(count + 1) / 2});
  auto* const bits = static_cast<uint16_t*>(memory.data());
  std::fill_n(bits, (count + 1) / 2 * 2, filler);
  for (int64_t i = 0; i < values.num_elems(); ++i)
    store_from_float(bits, lies.dtype, place_in(shape, lies, i), values.floats()[static_cast<size_t>(i)]);
  return memory;
}

inline constexpr uint16_t kNan = 0x7fff, kGuard = 0x1234;

struct Run {
  Tensor y;                 // [N,K,P,Q], float32
  int64_t num_changed = 0;  // elements around it
  std::string words;
  Tensor sum;  // where that is stored, as y
};

/// Depthwise convolutions that the direct kernel of pixels takes.
inline std::vector<ConvShape> depthwise_shapes() {
  return {make_shape({2, 24, 9, 10}, {24, 3, 3}, {.padding = 1, .groups = 24}),
          make_shape({2, 21, 33, 35}, {21, 5, 5}, {.stride = 2, .padding = 2, .groups = 21}),
          make_shape({3, 64, 7, 7}, {64, 3, 3}, {.padding = 2, .dilation = 2, .groups = 64}),
          make_shape({2, 40, 13, 1}, {40, 3, 1}, {.groups = 40})};
}

/// What an epilogue takes behind the residual: [K] each. And whether the sum before it is stored, too.
struct Affine {
  Tensor scale, shift;
  bool stores_sum = false;
};

/// conv(x, w), then the epilogue {+ bias, + residual, relu} or with another activation, all as pixels; `scales`: * scale,
/// + shift before that; `sum`: where the sum before it goes.
inline ConvProblem problem_of(const ConvShape& s, const ConvView& x, const ConvView& y, const Tensor& w,
                              Op activation, bool scales = false, const ConvView* sum = nullptr,
                              bool has_residual = true) {
  ConvProblem problem{.node = "conv",
                      .shape = s,
                      .math = Math::tf32,
                      .x = x,
                      .y = y,
                      .weights = known_weights(w.floats(), s.K),
                      .workspace_bytes = int64_t{1} << 30};
  const uint8_t scale = has_residual ? 2 : 1, shift = has_residual ? 3 : 2;
  Program program{.num_operands = scales ? shift + 1 : scale, .from_result = true};
  program.push({.op = Op::add, .source = Source::operand, .index = 0});
  if (has_residual) program.push({.op = Op::add, .source = Source::operand, .index = 1});
  if (sum != nullptr) {
    program.num_outputs = 2, problem.more_outputs = {*sum};
    program.push({.op = Op::store_output, .index = 1});
    program.push({.op = rounding_to(sum->dtype)});
  }
  if (scales) program.push({.op = Op::mul, .source = Source::operand, .index = scale});
  if (scales) program.push({.op = Op::add, .source = Source::operand, .index = shift});
  if (activation != Op::load) program.push({.op = activation});
  program.push({.op = Op::store_output});
  problem.epilogue = program;
  const ConvView channels{dense_view(nullptr, DType::float32, {s.K, 1, 1})};
  problem.operands = {channels};
  if (has_residual) problem.operands.push_back(y);
  if (scales) problem.operands.insert(problem.operands.end(), 2, channels);
  return problem;
}

/// The problem by a family; x a part of a wider tensor, NaN around it. bias [K], or [N,K,1,1] of either type. Of no elements
/// the residual is none.
inline Run run_family(const Context& context, const ConvShape& s, DType dtype, const Tensor& x,
                      const Tensor& w, const Tensor& bias, const Tensor& residual, Op activation,
                      bool stores_float32, const std::string& family, const Affine* affine = nullptr) {
  const Pixels x_lies{dtype, round_up(s.C, 8) + 8, 8}, y_lies{dtype, round_up(s.K, 8) + 16, 8},
      sum_lies{dtype, round_up(s.K, 8) + 8, 16};
  const Shape y_shape{s.N, s.K, s.P(), s.Q()};
  const bool stores_sum = affine != nullptr && affine->stores_sum, has_residual = residual.num_elems() > 0;
  const ConvView sum = view_of(y_shape, sum_lies);
  ConvProblem problem = problem_of(s, view_of(x.shape(), x_lies), view_of(y_shape, y_lies), w, activation,
                                   affine != nullptr, stores_sum ? &sum : nullptr, has_residual);
  if (stores_float32) problem.y = {dense_view(nullptr, DType::float32, y_shape)};
  if (bias.shape().size() == 4) problem.operands[0] = {dense_view(nullptr, bias.dtype(), bias.shape())};
  const auto plan = plan_conv(problem, &context.info(), family);
  REQUIRE(plan != nullptr);
  const Device device = context.device();
  const std::vector<std::byte> weights = plan->pack(w.floats());
  Tensor packed = Tensor::empty({static_cast<int64_t>(weights.size() + 3) / 4});
  std::copy(weights.begin(), weights.end(), static_cast<std::byte*>(packed.data()));
  const Tensor on_device[] = {spread(x, x_lies, kNan).to(device), packed.to(device), bias.to(device),
                              has_residual ? spread(residual, y_lies, kNan).to(device) : Tensor(),
                              Tensor::empty({(plan->scratch_bytes + 3) / 4}, DType::float32, device)};
  Tensor y = Tensor::empty(y_shape);
  std::fill(y.floats().begin(), y.floats().end(), NAN);
  const Tensor memory = (stores_float32 ? y : spread(y, y_lies, kGuard)).to(device);
  ConvTensors t;
  t.x = static_cast<const uint16_t*>(on_device[0].data()) + x_lies.first;
  t.packed = on_device[1].data();
  t.operands = {on_device[2].data()};
  if (has_residual) t.operands.push_back(static_cast<uint16_t*>(on_device[3].data()) + y_lies.first);
  Affine on_gpu;
  const Tensor sum_memory = stores_sum ? spread(y, sum_lies, kGuard).to(device) : Tensor();
  if (stores_sum) t.sum = static_cast<uint16_t*>(sum_memory.data()) + sum_lies.first;
  if (affine != nullptr) {
    on_gpu = {affine->scale.to(device), affine->shift.to(device)};
    t.operands.push_back(on_gpu.scale.data()), t.operands.push_back(on_gpu.shift.data());
  }
  t.scratch = on_device[4].data();
  t.y = stores_float32 ? memory.data() : static_cast<uint16_t*>(memory.data()) + y_lies.first;
  plan->enqueue(&context, t);
  context.synchronize();
  Run run{memory.to(Device::cpu()), 0, plan->words};
  if (stores_float32) return run;
  const auto gathered = [&](const Tensor& from, const Pixels& lies) {
    const auto* const bits = static_cast<const uint16_t*>(from.data());
    std::vector<bool> is_mine(static_cast<size_t>(from.num_elems() * 2));
    Tensor values = Tensor::empty(y_shape);
    for (int64_t i = 0; i < values.num_elems(); ++i) {
      const int64_t at = place_in(y_shape, lies, i);
      values.floats()[static_cast<size_t>(i)] = load_as_float(bits, dtype, at);
      is_mine[static_cast<size_t>(at)] = true;
    }
    for (size_t i = 0; i < is_mine.size(); ++i) run.num_changed += !is_mine[i] && bits[i] != kGuard;
    return values;
  };
  run.y = gathered(run.y, y_lies);
  if (stores_sum) run.sum = gathered(sum_memory.to(Device::cpu()), sum_lies);
  return run;
}

}  // namespace solder::test
