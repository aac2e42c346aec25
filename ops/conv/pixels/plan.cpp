// Whether a family that convolves 16-bit values with channels innermost takes a problem's tensors, and its calls.

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdlib>

#include "ops/conv/fused.h"
#include "ops/conv/mma/launch.h"
#include "ops/conv/pixels/plan.h"
#include "ops/conv/range/range.h"
#include "runtime/check.h"
#include "runtime/divide.h"

namespace solder {
namespace {

constexpr int64_t kVector = 8;                        // channels of 16 bytes
constexpr int64_t kMostCopyBytes = int64_t{1} << 34;  // pixels are counted in 32 bits

// Whether channels lie side by side and pixels on 16-byte lines: their strides.
bool has_pixels(const ConvView& view, PixelStrides* strides) {
  const Shape& shape = view.shape;
  const auto stride = [&](size_t axis, int64_t inner) {
    return shape[axis] == 1 ? inner : view.strides[axis];
  };
  if (view.dtype == DType::float32 || stride(1, 1) != 1 || view.offset_elems % kVector != 0) return false;
  // Of an axis of extent 1 any stride will do: that of the next axis that has more, so that what can be a run is one.
  const int64_t pixel = stride(3, stride(2, stride(0, round_up(shape[1], kVector)))),
                row = stride(2, shape[3] * pixel);
  *strides = {pixel, row, stride(0, shape[2] * row)};
  return pixel % kVector == 0 && strides->row % kVector == 0 && strides->image % kVector == 0;
}

// Whether, besides, all pixels of all images are one stride apart, forward, and their vectors can be counted in 32 bits.
bool is_run_of_pixels(const ConvView& view) {
  PixelStrides strides;
  const Shape& shape = view.shape;
  return has_pixels(view, &strides) && strides.pixel >= 0 && strides.row == shape[3] * strides.pixel &&
         strides.image == shape[2] * strides.row && shape[0] * strides.image / kVector < int64_t{1} << 32;
}

// Any result that is one stride apart from image to image, pixel to pixel and channel to channel.
bool find_surface(const ConvView& view, DType dtype, PixelSurface* surface) {
  const Shape& shape = view.shape;
  if (view.dtype != DType::float32 && view.dtype != dtype) return false;
  surface->is_float32 = view.dtype == DType::float32;
  surface->channel = view.strides[1], surface->image = view.strides[0];
  surface->pixel = shape[3] > 1 ? view.strides[3] : view.strides[2];
  if (shape[2] > 1 && shape[3] > 1 && view.strides[2] != shape[3] * view.strides[3]) return false;
  ConvView as_16_bit = view;
  as_16_bit.dtype = dtype;
  surface->by_vectors = is_run_of_pixels(as_16_bit);
  if (surface->by_vectors && shape[2] * shape[3] == 1) surface->pixel = view.strides[0];
  return true;
}

// How mma_pack_x() lays pixels out, whose vectors lie side by side here.
MmaInput packed_pixels(const ConvShape& s) {
  const int64_t vectors = ceil_div(s.C, kVector);
  return {.image = s.H * s.W * vectors, .row = s.W * vectors, .column = vectors, .block_vectors = vectors};
}
PixelStrides pixels_of(const MmaInput& x) { return {x.column * kVector, x.row * kVector, x.image * kVector}; }

// The entry of a tensor of the session's ranges that has one exponent an image; -1: it is not scaled.
int64_t ranges_of(const ConvView& view) { return view.scaled.empty() ? -1 : view.scaled[0].first; }

// Why no kernel takes scaled values that lie so; null where one does.
const char* why_not_scaled(const ConvProblem& problem) {
  const std::vector<ScaledChannels>& parts = problem.x.scaled;
  if (parts.empty() && problem.x.dtype != DType::float32) return "16-bit values that are not scaled";
  if (problem.shape.K % kVector != 0) return "channels of scaled results that fill no vector";
  if (parts.empty() && problem.y.scaled.empty()) return "results of float32 x that are not scaled";
  if (parts.size() > kMostScaledParts) return "too many parts of scaled values";
  for (size_t i = 0; i + 1 < parts.size(); ++i)
    if (parts[i].end % kScaledPartChannels != 0) return "parts of scaled values that end within a slot";
  return problem.y.scaled.size() > 1 ? "a result of several scaled parts" : nullptr;
}

}  // namespace

bool PixelPlan::init_scaling(const ConvProblem& problem, std::string* why_not) {
  if (const char* why = is_plain ? nullptr : why_not_scaled(problem)) return *why_not = why, false;
  if (!weight_exponents(problem, &exponents, why_not) || !fit_float32(exponents, why_not)) return false;
  // Times a power of two of an image that is as large as any.
  if (std::ranges::any_of(exponents, [](int32_t e) { return e < 14 - 26; }))
    return *why_not = "weights above 2^26", false;
  PixelScaling& scaling = call.scaling;
  scaling.num_parts = 1;
  x_ranges[0] = -1;
  for (size_t i = 0; i < problem.x.scaled.size(); ++i) {
    scaling.num_parts = static_cast<int>(i) + 1;
    scaling.x[i].end = static_cast<int>(problem.x.scaled[i].end), x_ranges[i] = problem.x.scaled[i].first;
  }
  scaling.x[scaling.num_parts - 1].end = static_cast<int>(call.shape.C);  // of a stem's windows
  y_ranges = ranges_of(problem.y);
  scaling.is_measured = y_ranges >= 0 && problem.y.scaled[0].is_measured;
  scaling.is_guessed = is_plain;
  if (y_ranges >= 0 && !call.y.by_vectors)
    return *why_not = "scaled results that are no run of pixels", false;
  if (has_residual())
    residual_ranges = ranges_of(problem.operands[static_cast<size_t>(epilogue.residual_operand)]);
  if (is_plain) return true;  // nothing is scaled by a bound
  const auto largest = [&](int operand, float otherwise) {
    return operand < 0 ? otherwise
                       : std::bit_cast<float>(problem.largest_operand(static_cast<size_t>(operand)));
  };
  scaling.bias = largest(epilogue.bias_operand, 0);
  scaling.scale = largest(epilogue.scale_operand, 1), scaling.shift = largest(epilogue.shift_operand, 0);
  scaling.gain = call.activation == ConvChain::leaky_relu ? std::max(1.0f, std::abs(call.slope)) : 1.0f;
  if (!std::isfinite(scaling.bias + scaling.scale + scaling.shift + scaling.gain))
    return *why_not = "biases or scales that are not known or not finite", false;
  return true;
}

// What is made of x in scratch, of as many images at a time as that has room for.
bool PixelPlan::init_copy(const ConvProblem& problem, std::string* why_not) {
  const ConvShape& shape = problem.shape;
  call.x_strides = lays_out ? stem_strides(shape) : pixels_of(packed_pixels(shape));
  const int64_t image_bytes = call.x_strides.image * 2,
                limit = std::min(problem.workspace_bytes, kMostCopyBytes);
  if (image_bytes > limit) return *why_not = "an image laid out anew does not fit into the workspace", false;
  int64_t reach = 0;  // within an image
  for (size_t axis = 1; axis < 4; ++axis)
    reach += (problem.x.shape[axis] - 1) * std::abs(problem.x.strides[axis]);
  if (reach >= int64_t{1} << 31) return *why_not = "elements of an image too far apart", false;
  int64_t& images = whole.N;
  while (shape.N % images != 0 || images * image_bytes > limit) --images;
  call.shape = lays_out ? stem_windows(whole) : whole;
  std::copy(problem.x.strides.begin(), problem.x.strides.end(), x_strides);
  copy_bytes = round_up(images * image_bytes, 256) + range_bytes();
  scratch_bytes = copy_bytes;
  if (packs) {  // on an H200: a pass that packs behind one that finds maxima or, of plain x, between launches of the guard
    const double elems = static_cast<double>(shape.N * shape.C * shape.H * shape.W);
    copy_us = is_plain ? 12 + elems * (4 + 2) / 3.2e6 : 4 + elems * (4 + 4 + 2) / 3.2e6;
  }
  return true;
}

// Where y and, if that is stored, the sum go.
bool PixelPlan::init_results(const ConvProblem& problem) {
  const std::vector<ConvView>& more = problem.more_outputs;
  if (!find_surface(problem.y, call.dtype, &call.y) || more.size() > 1) return false;
  if (more.empty()) return true;
  const auto is_vectors = [](const PixelSurface& surface) {
    return surface.by_vectors && !surface.is_float32;
  };
  return !problem.is_scaled() && find_surface(more[0], call.dtype, &call.sum) && is_vectors(call.sum) &&
         is_vectors(call.y);
}

bool PixelPlan::init(const ConvProblem& problem, std::string* why_not, bool is_extended) {
  const auto refuse = [&](const char* why) { return *why_not = why, false; };
  if (!problem.weights) return refuse("the weights are not a parameter of the graph");
  is_plain = is_extended && problem.has_plain_tensors();
  const bool is_scaled = is_plain || (is_extended && problem.is_scaled());
  const bool is_wide = problem.x.dtype == DType::float32;  // of scaled values a stem reads float32
  call.dtype = is_scaled ? DType::float16 : problem.x.dtype;
  whole = call.shape = problem.shape;
  const ConvShape& shape = problem.shape;
  num_images = shape.N;
  const bool is_readable = !is_wide || (is_scaled && has_dense_parts(problem.x));
  lays_out = is_readable && shape.N > 0 && is_stem(shape);
  packs = is_wide && is_readable && shape.N > 0 && !lays_out;
  if (is_plain && lays_out) return refuse("float32 of few channels");
  if (lays_out || packs) {
    if (!init_copy(problem, why_not)) return false;
  } else if (!has_pixels(problem.x, &call.x_strides)) {
    return refuse("takes 16-bit values with channels innermost");
  }
  if (problem.math != Math::tf32) return refuse("takes 16-bit weights");
  if (!init_results(problem))
    return refuse("stores one result of pixels a stride apart, or two of 16-bit vectors");
  const auto takes_residual = [](const ConvProblem& of, const ConvView& operand) {
    const bool is_same =
        of.is_scaled() ? operand.scaled.size() == 1 : operand.dtype == of.x.dtype && operand.scaled.empty();
    return is_same && is_run_of_pixels(operand);
  };
  if (!plan_epilogue(problem, &epilogue, takes_residual, is_extended && !is_plain))
    return refuse("no kernel runs its epilogue");
  call.activation = epilogue.activation, call.slope = epilogue.slope, call.residual_at = epilogue.residual_at;
  if (has_residual())
    find_surface(problem.operands[static_cast<size_t>(epilogue.residual_operand)], call.dtype,
                 &call.residual);
  if (epilogue.bias_operand >= 0) {
    const ConvView& bias = problem.operands[static_cast<size_t>(epilogue.bias_operand)];
    if (bias.shape.size() == 4 && bias.shape[0] > 1) call.bias_image = bias.strides[0];
    has_narrow_bias = bias.dtype != DType::float32;
  }
  for (PixelSurface* surface : {&call.y, &call.residual, &call.sum})
    surface->pixel_vectors = static_cast<uint32_t>(surface->pixel / kVector);
  call.has_constants = std::ranges::all_of(
      std::array{epilogue.bias_operand, epilogue.scale_operand, epilogue.shift_operand}, [&](int operand) {
        return operand < 0 || (problem.largest_operand &&
                               problem.largest_operand(static_cast<size_t>(operand)) < kNonFiniteBits);
      });
  if (is_scaled && !init_scaling(problem, why_not)) return false;
  words = str(is_scaled && !is_plain ? "scaled, " : "", lays_out ? "x laid out in windows, " : "",
              packs ? "x packed, " : "", epilogue.stores_sum ? "two results, " : "");
  packing = str(is_scaled ? "scaled " : "", lays_out ? "stem " : "");
  runs_epilogue = true;
  return true;
}

int64_t PixelPlan::range_bytes() const { return is_plain ? round_up(conv_range_bytes(num_images), 256) : 0; }

std::vector<int32_t> PixelPlan::exponents_of(const float* w) const {
  return exponents.empty() ? pixel_exponents(call.shape, call.dtype, w) : exponents;
}

std::vector<std::byte> PixelPlan::pack(std::span<const float> weights) const {
  if (!lays_out) return pack_weights(weights.data());
  return pack_weights(stem_weights(whole, weights).data());
}

void PixelCall::step_images(int64_t count) {
  for (int part = 0; part < scaling.num_parts; ++part) scaling.x[part].ranges += count;
  if (bias != nullptr) bias += count * bias_image;
  if (narrow_bias != nullptr) narrow_bias += count * bias_image;
  if (scaling.residual != nullptr) scaling.residual += count;
  if (scaling.y != nullptr) scaling.y += count;
  for (PixelSurface* surface : {&y, &residual, &sum})
    if (surface->data != nullptr)
      surface->data =
          static_cast<char*>(surface->data) + count * surface->image * (surface->is_float32 ? 4 : 2);
}

// The call with its addresses, of the first images.
PixelCall PixelPlan::bound_call(const ConvTensors& t, ImageRange* own_ranges) const {
  PixelCall mine = call;
  const auto address = [&](int operand) {
    return operand < 0 ? nullptr : t.operands[static_cast<size_t>(operand)];
  };
  mine.x = lays_out || packs ? t.scratch : t.x;
  mine.packed = t.packed, mine.y.data = t.y, mine.sum.data = t.sum;
  mine.scratch = static_cast<std::byte*>(t.scratch) + copy_bytes;
  for (int part = 0; part < mine.scaling.num_parts; ++part)
    mine.scaling.x[part].ranges = own_ranges != nullptr ? own_ranges : t.ranges + x_ranges[part];
  if (residual_ranges >= 0) mine.scaling.residual = t.ranges + residual_ranges;
  if (y_ranges >= 0) mine.scaling.y = t.ranges + y_ranges;
  if (const void* const bias = address(epilogue.bias_operand); has_narrow_bias)
    mine.narrow_bias = static_cast<const uint16_t*>(bias);
  else
    mine.bias = static_cast<const float*>(bias);
  mine.scale = static_cast<const float*>(address(epilogue.scale_operand));
  mine.shift = static_cast<const float*>(address(epilogue.shift_operand));
  mine.residual.data = address(epilogue.residual_operand);
  return mine;
}

void PixelPlan::enqueue(const Context* context, const ConvTensors& t) const {
  const bool is_wide = call.scaling.num_parts > 0 && x_ranges[0] < 0;
  ImageRange* own_ranges = nullptr;  // of x that is float32
  if (is_plain)
    own_ranges =
        reinterpret_cast<ImageRange*>(static_cast<std::byte*>(t.scratch) + copy_bytes - range_bytes());
  else if (is_wide)
    own_ranges = t.ranges + y_ranges + num_images;
  PixelCall mine = bound_call(t, own_ranges);
  if (!lays_out && !packs) return enqueue_call(*context, mine);
  const ImageRange* const all_ranges = own_ranges;
  const ConvStrides plain_strides{x_strides[0], call.y.image};
  ConvShape all = whole;
  all.N = num_images;
  if (is_plain) conv_range_guess(*context, all, plain_strides, Math::tf32, t.x_floats(), own_ranges);
  for (int64_t first = 0; first < num_images; first += call.shape.N) {
    const void* const x = static_cast<const std::byte*>(t.x) + first * x_strides[0] * (is_wide ? 4 : 2);
    if (is_wide && !is_plain)
      conv_range_find(*context, whole, plain_strides, static_cast<const float*>(x), own_ranges, true);
    if (packs)
      mma_pack_x(*context, whole, plain_strides, Math::tf32, false, packed_pixels(whole),
                 static_cast<const float*>(x), own_ranges, t.scratch, !is_plain);
    else
      lay_out_stem(*context, whole, x_strides, x, t.scratch, own_ranges);
    enqueue_call(*context, mine);
    if (is_wide) own_ranges += call.shape.N;
    mine.step_images(call.shape.N);
  }
  if (is_plain)
    conv_strict(*context, all, plain_strides, Math::tf32, t.x_floats(), t.w, all_ranges,
                bound_epilogue(epilogue, t.operands), t.y_floats());
}

}  // namespace solder
