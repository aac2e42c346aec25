// Whether a family that convolves 16-bit values with channels innermost takes a problem's tensors, and its calls.

#include <algorithm>
#include <cstdlib>

#include "ops/conv/pixels/pixels.h"
#include "runtime/check.h"
#include "runtime/divide.h"

namespace solder {
namespace {

constexpr int64_t kVector = 8;                        // channels of 16 bytes
constexpr int64_t kMostStemBytes = int64_t{1} << 34;  // pixels are counted in 32 bits

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

}  // namespace

bool PixelPlan::init(const ConvProblem& problem, std::string* why_not, bool takes_scale) {
  const auto refuse = [&](const char* why) { return *why_not = why, false; };
  if (!problem.weights) return refuse("the weights are not a parameter of the graph");
  call.dtype = problem.x.dtype;
  whole = call.shape = problem.shape;
  const ConvShape& shape = problem.shape;
  num_images = shape.N;
  lays_out = problem.x.dtype != DType::float32 && shape.N > 0 && is_stem(shape);
  if (lays_out) {
    call.x_strides = stem_strides(shape);
    const int64_t image_bytes = call.x_strides.image * 2,
                  limit = std::min(problem.workspace_bytes, kMostStemBytes);
    if (image_bytes > limit) return refuse("an image laid out anew does not fit into the workspace");
    int64_t reach = 0;  // within an image
    for (size_t axis = 1; axis < 4; ++axis)
      reach += (problem.x.shape[axis] - 1) * std::abs(problem.x.strides[axis]);
    if (reach >= int64_t{1} << 31) return refuse("elements of an image too far apart");
    int64_t& images = whole.N;
    while (shape.N % images != 0 || images * image_bytes > limit) --images;
    call.shape = stem_windows(whole);
    std::copy(problem.x.strides.begin(), problem.x.strides.end(), x_strides);
    scratch_bytes = stem_bytes = images * image_bytes;
  } else if (!has_pixels(problem.x, &call.x_strides)) {
    return refuse("takes 16-bit values with channels innermost");
  }
  if (problem.math != Math::tf32) return refuse("takes 16-bit weights");
  const bool is_whole = problem.more_outputs.empty() && find_surface(problem.y, call.dtype, &call.y);
  if (!is_whole) return refuse("stores one result, of pixels a stride apart");
  const auto takes_residual = [](const ConvProblem& of, const ConvView& operand) {
    return operand.dtype == of.x.dtype && is_run_of_pixels(operand);
  };
  if (!plan_epilogue(problem, &epilogue, takes_residual, takes_scale))
    return refuse("no kernel runs its epilogue");
  call.activation = epilogue.activation, call.slope = epilogue.slope, call.residual_at = epilogue.residual_at;
  if (has_residual())
    find_surface(problem.operands[static_cast<size_t>(epilogue.residual_operand)], call.dtype,
                 &call.residual);
  for (PixelSurface* surface : {&call.y, &call.residual})
    surface->pixel_vectors = static_cast<uint32_t>(surface->pixel / kVector);
  words = lays_out ? "x laid out in windows, " : "";
  packing = lays_out ? "stem " : "";
  runs_epilogue = true;
  return true;
}

std::vector<std::byte> PixelPlan::pack(std::span<const float> weights) const {
  if (!lays_out) return pack_weights(weights.data());
  return pack_weights(stem_weights(whole, weights).data());
}

void PixelPlan::enqueue(const Context* context, const ConvTensors& t) const {
  PixelCall mine = call;
  const auto address = [&](int operand) {
    return operand < 0 ? nullptr : t.operands[static_cast<size_t>(operand)];
  };
  mine.x = t.x, mine.packed = t.packed, mine.y.data = t.y;
  mine.scratch = static_cast<std::byte*>(t.scratch) + round_up(stem_bytes, 256);
  mine.bias = static_cast<const float*>(address(epilogue.bias_operand));
  mine.scale = static_cast<const float*>(address(epilogue.scale_operand));
  mine.shift = static_cast<const float*>(address(epilogue.shift_operand));
  mine.residual.data = address(epilogue.residual_operand);
  if (!lays_out) return enqueue_call(*context, mine);
  mine.x = t.scratch;
  for (int64_t first = 0; first < num_images; first += call.shape.N) {
    const auto* const x = static_cast<const uint16_t*>(t.x) + first * x_strides[0];
    lay_out_stem(*context, whole, x_strides, x, t.scratch);
    enqueue_call(*context, mine);
    for (PixelSurface* surface : {&mine.y, &mine.residual})
      if (surface->data != nullptr)
        surface->data =
            static_cast<char*>(surface->data) + call.shape.N * surface->image * (surface->is_float32 ? 4 : 2);
  }
}

}  // namespace solder
