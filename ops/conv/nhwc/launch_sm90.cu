// The family "nhwc": its plan and its launch.

#include <cudaTypedefs.h>

#include <algorithm>
#include <array>

#include "ops/conv/kernels.h"
#include "ops/conv/nhwc/params.cuh"
#include "runtime/launch.cuh"

namespace solder {
namespace {

using nhwc::Kernel;
using nhwc::Params;

constexpr int64_t kVector = 8;                        // channels of 16 bytes
constexpr int64_t kMostStemBytes = int64_t{1} << 34;  // pixels are counted in 32 bits

// A function of the driver, with which nothing links: there may be none.
template <class Function>
Function driver_function(const char* name) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
  SOLDER_CUDA(cudaGetDriverEntryPointByVersion(name, &found, 12000, cudaEnableDefault, &result));
  SOLDER_REQUIRE(result == cudaDriverEntryPointSuccess && found != nullptr, cuda, name,
                 ": the driver has no such function");
  return reinterpret_cast<Function>(found);
}

void check_map(CUresult result, const char* what) {
  SOLDER_REQUIRE(result == CUDA_SUCCESS, cuda, what, " failed with ", static_cast<int>(result));
}

// How the copy engine finds slots of x.
CUtensorMap tensor_map(const NhwcCall& call) {
  const ConvShape& s = call.shape;
  const NhwcStrides& x = call.x_strides;
  const NhwcConfig& c = call.config;
  CUtensorMap map{};
  void* const data = const_cast<void*>(call.x);
  const CUtensorMapDataType type =
      call.dtype == DType::bfloat16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
  const auto extent = [](int64_t value) { return static_cast<cuuint64_t>(value); };
  const auto narrow = [](int64_t value) { return static_cast<cuuint32_t>(value); };
  const std::array<cuuint64_t, 4> extents{extent(s.C), extent(s.W), extent(s.H), extent(s.N)};
  const std::array<cuuint64_t, 3> strides{extent(x.pixel * 2), extent(x.row * 2), extent(x.image * 2)};
  const cuuint32_t channels = narrow(c.slot_channels);
  const CUtensorMapSwizzle swizzle =
      c.slot_channels == 64 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_64B;
  if (c.fetch == NhwcFetch::im2col) {
    const std::array<cuuint32_t, 4> steps{1, narrow(s.stride_w), narrow(s.stride_h), 1};
    const std::array<int, 2> lower{static_cast<int>(-s.pad_left), static_cast<int>(-s.pad_top)};
    const std::array<int, 2> upper{static_cast<int>(s.pad_right - (s.S - 1) * s.dil_w),
                                   static_cast<int>(s.pad_bottom - (s.R - 1) * s.dil_h)};
    const auto encode = driver_function<PFN_cuTensorMapEncodeIm2col_v12000>("cuTensorMapEncodeIm2col");
    check_map(encode(&map, type, 4, data, extents.data(), strides.data(), lower.data(), upper.data(),
                     channels, narrow(c.shape().pixels()), steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE,
                     swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
              "cuTensorMapEncodeIm2col");
    return map;
  }
  const auto encode = driver_function<PFN_cuTensorMapEncodeTiled_v12000>("cuTensorMapEncodeTiled");
  const bool is_flat = c.fetch == NhwcFetch::flat;
  const std::array<cuuint64_t, 4> flat_extents{extent(s.C), extent(s.N * s.H * s.W), 1, 1};
  const std::array<cuuint32_t, 4> box{channels, narrow(is_flat ? c.shape().pixels() : c.tile_cols),
                                      narrow(c.tile_rows + 2), 1};
  const std::array<cuuint32_t, 4> steps{1, 1, 1, 1};
  check_map(encode(&map, type, is_flat ? 2 : 4, data, is_flat ? flat_extents.data() : extents.data(),
                   strides.data(), box.data(), steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
                   CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
            "cuTensorMapEncodeTiled");
  return map;
}

Params make_params(const NhwcCall& call) {
  const ConvShape& s = call.shape;
  const NhwcConfig& c = call.config;
  const auto narrow = [](int64_t value) { return static_cast<int>(value); };
  const auto divisor = [](int64_t value) { return FastDivisor(static_cast<uint32_t>(value)); };
  Params p{};
  p.x = tensor_map(call);
  p.config = c;
  p.scales = static_cast<const float*>(call.packed);
  p.weights =
      static_cast<const uint8_t*>(call.packed) + round_up(c.tiles_channels * c.shape().channels * 4, 256);
  p.bias = call.bias;
  p.y = call.y, p.residual = call.residual;
  for (nhwc::Surface* surface : {&p.y, &p.residual})
    surface->pixel_vectors = static_cast<uint32_t>(surface->pixel / kVector);
  p.activation = call.activation, p.residual_at = call.residual_at, p.slope = call.slope;
  p.is_early = c.is_linear;
  p.N = narrow(s.N), p.K = narrow(s.K), p.P = narrow(s.P()), p.Q = narrow(s.Q()), p.S = narrow(s.S);
  p.stride_h = narrow(s.stride_h), p.stride_w = narrow(s.stride_w);
  p.dil_h = narrow(s.dil_h), p.dil_w = narrow(s.dil_w);
  p.pad_top = narrow(s.pad_top), p.pad_left = narrow(s.pad_left);
  p.num_pixels = narrow(s.N * s.gemm_n());
  p.by_channel_tiles = divisor(c.tiles_channels);
  p.by_pixels = divisor(s.gemm_n()), p.by_q = divisor(s.Q());
  if (c.fetch == NhwcFetch::rows) {
    p.tiles_h = narrow(ceil_div(s.P(), c.tile_rows)), p.tiles_w = narrow(ceil_div(s.Q(), c.tile_cols));
    p.by_tile_rows = divisor(p.tiles_h), p.by_tile_cols = divisor(p.tiles_w),
    p.by_cols = divisor(c.tile_cols);
  }
  return p;
}

}  // namespace

void conv_nhwc_cuda(const Context& context, const NhwcCall& call) {
  const NhwcConfig& c = call.config;
  const bool is_plain = call.activation == ConvChain::bias || call.activation == ConvChain::relu;
  const auto select = is_plain                              ? nhwc::select_kernel<ConvChain::relu>
                      : call.activation == ConvChain::mish ? nhwc::select_kernel<ConvChain::mish>
                                                            : nhwc::select_kernel<ConvChain::any>;
  const Kernel kernel = select(c, call.dtype == DType::bfloat16);
  launch(context, "conv_nhwc_kernel", kernel,
         {.grid = dim3(static_cast<unsigned>(c.num_blocks)),
          .block = dim3(static_cast<unsigned>(nhwc_threads(c.shape()))),
          .smem_bytes = c.smem_bytes,
          .overlaps_previous = true,
          .cluster_blocks = c.split},
         make_params(call));
}

namespace {

// Whether channels lie side by side and pixels on 16-byte lines: their strides.
bool has_pixels(const ConvView& view, NhwcStrides* strides) {
  const Shape& shape = view.shape;
  const auto stride = [&](size_t axis, int64_t inner) {
    return shape[axis] == 1 ? inner : view.strides[axis];
  };
  if (view.dtype == DType::float32 || stride(1, 1) != 1 || view.offset_elems % kVector != 0) return false;
  // Of an axis of extent 1 any stride will do.
  const int64_t pixel = stride(3, round_up(shape[1], kVector)), row = stride(2, shape[3] * pixel);
  *strides = {pixel, row, stride(0, shape[2] * row)};
  return pixel % kVector == 0 && strides->row % kVector == 0 && strides->image % kVector == 0;
}

// Whether, besides, all pixels of all images are one stride apart, and their vectors can be counted in 32 bits.
bool is_run_of_pixels(const ConvView& view) {
  NhwcStrides strides;
  const Shape& shape = view.shape;
  return has_pixels(view, &strides) && strides.row == shape[3] * strides.pixel &&
         strides.image == shape[2] * strides.row && shape[0] * strides.image / kVector < int64_t{1} << 32;
}

// Any result that is one stride apart from image to image, pixel to pixel and channel to channel.
bool find_surface(const ConvView& view, DType dtype, NhwcSurface* surface) {
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

struct NhwcPlan final : ConvPlan {
  NhwcCall call;    // without addresses
  ConvShape whole;  // the problem's, of a stem some images at a time
  int64_t num_images = 0;
  bool lays_out = false;  // x, anew, as a stem's
  int64_t x_strides[4] = {};
  ConvEpilogue epilogue;

  std::vector<std::byte> pack(const ConvProblem& problem) const override {
    const Tensor weights = problem.weights.values();
    if (!lays_out) return pack_nhwc_weights(call.shape, call.config, call.dtype, weights.floats().data());
    return pack_nhwc_weights(call.shape, call.config, call.dtype,
                             stem_weights(whole, weights.floats()).data());
  }

  void enqueue(const Context* context, const ConvTensors& t) const override {
    NhwcCall mine = call;
    const auto address = [&](int operand) {
      return operand < 0 ? nullptr : t.operands[static_cast<size_t>(operand)];
    };
    mine.x = t.x, mine.packed = t.packed, mine.y.data = t.y;
    mine.bias = static_cast<const float*>(address(epilogue.bias_operand));
    mine.residual.data = address(epilogue.residual_operand);
    if (!lays_out) return conv_nhwc_cuda(*context, mine);
    mine.x = t.scratch;
    for (int64_t first = 0; first < num_images; first += call.shape.N) {
      const auto* const x = static_cast<const uint16_t*>(t.x) + first * x_strides[0];
      lay_out_stem_cuda(*context, whole, x_strides, x, t.scratch);
      conv_nhwc_cuda(*context, mine);
      for (NhwcSurface* surface : {&mine.y, &mine.residual})
        if (surface->data != nullptr)
          surface->data = static_cast<char*>(surface->data) +
                          call.shape.N * surface->image * (surface->is_float32 ? 4 : 2);
    }
  }
};

}  // namespace

std::unique_ptr<ConvPlan> make_nhwc_conv(const ConvProblem& problem, const DeviceInfo* device,
                                         std::string* why_not) {
  const auto refuse = [&](const char* why) { return *why_not = why, nullptr; };
  if (device->cc_major != 9) return refuse("needs a Hopper GPU (compute capability 9.0)");
  if (!problem.weights) return refuse("the weights are not a parameter of the graph");
  auto plan = std::make_unique<NhwcPlan>();
  NhwcCall& call = plan->call;
  call.dtype = problem.x.dtype;
  plan->whole = call.shape = problem.shape;
  const ConvShape& shape = problem.shape;
  plan->num_images = shape.N;
  plan->lays_out = problem.x.dtype != DType::float32 && shape.N > 0 && is_stem(shape);
  if (plan->lays_out) {
    call.x_strides = stem_strides(shape);
    const int64_t image_bytes = call.x_strides.image * 2,
                  limit = std::min(problem.workspace_bytes, kMostStemBytes);
    if (image_bytes > limit) return refuse("an image laid out anew does not fit into the workspace");
    int64_t reach = 0;  // within an image
    for (size_t axis = 1; axis < 4; ++axis)
      reach += (problem.x.shape[axis] - 1) * std::abs(problem.x.strides[axis]);
    if (reach >= int64_t{1} << 31) return refuse("elements of an image too far apart");
    int64_t& images = plan->whole.N;
    while (shape.N % images != 0 || images * image_bytes > limit) --images;
    call.shape = stem_windows(plan->whole);
    std::copy(problem.x.strides.begin(), problem.x.strides.end(), plan->x_strides);
    plan->scratch_bytes = images * image_bytes;
  } else if (!has_pixels(problem.x, &call.x_strides)) {
    return refuse("takes 16-bit values with channels innermost");
  }
  if (problem.math != Math::tf32) return refuse("takes 16-bit weights");
  const bool is_whole = problem.more_outputs.empty() && find_surface(problem.y, call.dtype, &call.y);
  if (!is_whole) return refuse("stores one result, of pixels a stride apart");
  const auto takes_residual = [](const ConvProblem& of, const ConvView& operand) {
    return operand.dtype == of.x.dtype && is_run_of_pixels(operand);
  };
  if (!plan_epilogue(problem, &plan->epilogue, takes_residual)) return refuse("no kernel runs its epilogue");
  const bool has_functions = plan->epilogue.activation >= ConvChain::silu;
  const NhwcWork work{plan->epilogue.residual_operand >= 0, has_functions};
  const auto config = choose_nhwc_config(call.shape, call.x_strides, work, device->num_sms, why_not);
  if (!config) return nullptr;
  call.config = *config;
  const ConvEpilogue& epilogue = plan->epilogue;
  call.activation = epilogue.activation, call.slope = epilogue.slope, call.residual_at = epilogue.residual_at;
  if (epilogue.residual_operand >= 0)
    find_surface(problem.operands[static_cast<size_t>(epilogue.residual_operand)], call.dtype,
                 &call.residual);
  plan->words = str(plan->lays_out ? "x laid out in windows, " : "", to_string(*config));
  plan->packing = str(plan->lays_out ? "stem " : "", packing_of(*config, call.dtype));
  plan->predicted_us = config->predicted_us;
  plan->runs_epilogue = true;
  return plan;
}

}  // namespace solder
