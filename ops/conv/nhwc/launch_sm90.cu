// The family "nhwc": its plan and its launch.

#include <cudaTypedefs.h>

#include <algorithm>
#include <array>

#include "ops/conv/kernels.h"
#include "ops/conv/nhwc/params.cuh"
#include "ops/conv/pixels/plan.h"
#include "runtime/launch.cuh"

namespace solder {
namespace {

using nhwc::Kernel;
using nhwc::Params;

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

CUtensorMapDataType data_type(DType dtype) {
  return dtype == DType::bfloat16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
}
cuuint64_t extent(int64_t value) { return static_cast<cuuint64_t>(value); }
cuuint32_t box_extent(int64_t value) { return static_cast<cuuint32_t>(value); }

using Extents = std::array<cuuint64_t, 4>;
using Strides = std::array<cuuint64_t, 3>;  // in bytes, from the second axis on
using Box = std::array<cuuint32_t, 4>;

// Boxes of a tensor of 16-bit values, innermost axis first.
CUtensorMap tiled_map(DType dtype, cuuint32_t rank, const void* data, const Extents& extents,
                      const Strides& strides, const Box& box, CUtensorMapSwizzle swizzle) {
  CUtensorMap map{};
  const Box steps{1, 1, 1, 1};
  const auto encode = driver_function<PFN_cuTensorMapEncodeTiled_v12000>("cuTensorMapEncodeTiled");
  check_map(encode(&map, data_type(dtype), rank, const_cast<void*>(data), extents.data(), strides.data(),
                   box.data(), steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
                   CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
            "cuTensorMapEncodeTiled");
  return map;
}

// How the copy engine finds slots of x.
CUtensorMap map_of_x(const PixelCall& call, const NhwcConfig& c) {
  const ConvShape& s = call.shape;
  const PixelStrides& x = call.x_strides;
  const Extents extents{extent(s.C), extent(s.W), extent(s.H), extent(s.N)};
  const Strides strides{extent(x.pixel * 2), extent(x.row * 2), extent(x.image * 2)};
  const cuuint32_t channels = box_extent(c.slot_channels);
  const CUtensorMapSwizzle swizzle =
      c.slot_channels == 64 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_64B;
  if (c.fetch == NhwcFetch::window)
    return tiled_map(
        call.dtype, 4, call.x, extents, strides,
        {channels, box_extent(c.window_cols), box_extent(c.window_rows), box_extent(c.tile_images)}, swizzle);
  if (c.fetch == NhwcFetch::flat)
    return tiled_map(call.dtype, 2, call.x, {extent(s.C), extent(s.N * s.H * s.W), 1, 1}, strides,
                     {channels, box_extent(c.shape().pixels()), 1, 1}, swizzle);
  CUtensorMap map{};
  const Box steps{1, box_extent(s.stride_w), box_extent(s.stride_h), 1};
  const std::array<int, 2> lower{static_cast<int>(-s.pad_left), static_cast<int>(-s.pad_top)};
  const std::array<int, 2> upper{static_cast<int>(s.pad_right - (s.S - 1) * s.dil_w),
                                 static_cast<int>(s.pad_bottom - (s.R - 1) * s.dil_h)};
  const auto encode = driver_function<PFN_cuTensorMapEncodeIm2col_v12000>("cuTensorMapEncodeIm2col");
  check_map(encode(&map, data_type(call.dtype), 4, const_cast<void*>(call.x), extents.data(), strides.data(),
                   lower.data(), upper.data(), channels, box_extent(c.shape().pixels()), steps.data(),
                   CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
                   CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
            "cuTensorMapEncodeIm2col");
  return map;
}

// Whether the copy engine stores y: pixels of a warp side by side, or in patches; nothing else goes through that memory.
// NOTE: only whole vectors of channels, as the engine cuts by 16 bytes: it would write the padding behind others.
bool stores_by_engine(const PixelCall& call, const NhwcConfig& c) {
  const bool has_boxes = c.fetch != NhwcFetch::window || c.has_patches;
  return c.shape().takes_turns && has_boxes && call.shape.K % 8 == 0 && call.scaling.num_parts == 0 &&
         call.y.by_vectors && !call.y.is_float32 && call.residual.data == nullptr && call.sum.data == nullptr;
}

// How it finds 16 pixels and 64 channels there.
CUtensorMap map_of_y(const PixelCall& call, const NhwcConfig& c) {
  const ConvShape& s = call.shape;
  const int64_t pixel_bytes = call.y.pixel * 2;
  const Strides strides{extent(pixel_bytes), extent(s.Q() * pixel_bytes), extent(s.gemm_n() * pixel_bytes)};
  const bool is_window = c.fetch == NhwcFetch::window;
  const Extents of_images{extent(s.K), extent(s.Q()), extent(s.P()), extent(s.N)},
      of_run{extent(s.K), extent(s.N * s.gemm_n()), 1, 1};
  return tiled_map(call.dtype, 4, call.y.data, is_window ? of_images : of_run, strides,
                   is_window ? Box{64, 8, 2, 1} : Box{64, 16, 1, 1}, CU_TENSOR_MAP_SWIZZLE_128B);
}

Params make_params(const PixelCall& call, const NhwcConfig& c) {
  const ConvShape& s = call.shape;
  const auto narrow = [](int64_t value) { return static_cast<int>(value); };
  const auto divisor = [](int64_t value) { return FastDivisor(static_cast<uint32_t>(value)); };
  Params p{};
  p.x = map_of_x(call, c);
  p.config = c;
  p.scales = static_cast<const float*>(call.packed);
  p.weight_bound = p.scales + c.tiles_channels * c.shape().channels;
  p.weights = static_cast<const uint8_t*>(call.packed) + packed_nhwc_head_bytes(c);
  p.bias = call.bias, p.scale = call.scale, p.shift = call.shift;
  p.has_constants = call.has_constants;
  p.narrow_bias = call.narrow_bias, p.bias_image = call.bias_image;
  p.y = call.y, p.residual = call.residual, p.sum = call.sum;
  p.activation = call.activation, p.residual_at = call.residual_at, p.slope = call.slope;
  p.scaling = call.scaling;
  for (int part = 0; part < p.scaling.num_parts; ++part)
    p.part_steps[part] =
        static_cast<int>(ceil_div(p.scaling.x[part].end, c.slot_channels)) * (c.num_steps / c.num_chunks);
  p.is_early = c.is_linear;
  if (p.scaling.num_parts > 0 && c.split == 1) {
    const int64_t of_channels = c.shape().takes_turns ? c.tiles_channels : 1;
    const int64_t num_runs = c.num_blocks / of_channels, tiles = c.num_tiles() / of_channels;
    p.run_tiles = narrow(tiles / num_runs), p.longer_runs = narrow(tiles % num_runs);
  }
  p.N = narrow(s.N), p.K = narrow(s.K), p.P = narrow(s.P()), p.Q = narrow(s.Q()), p.S = narrow(s.S);
  p.stride_h = narrow(s.stride_h), p.stride_w = narrow(s.stride_w);
  p.dil_h = narrow(s.dil_h), p.dil_w = narrow(s.dil_w);
  p.pad_top = narrow(s.pad_top), p.pad_left = narrow(s.pad_left);
  p.num_pixels = narrow(s.N * s.gemm_n());
  p.by_channel_tiles = divisor(c.tiles_channels);
  p.by_pixels = divisor(s.gemm_n()), p.by_q = divisor(s.Q());
  if (c.fetch == NhwcFetch::window) {
    p.tiles_h = narrow(c.tiles_down), p.tiles_w = narrow(c.tiles_across);
    p.by_tile_rows = divisor(p.tiles_h), p.by_tile_cols = divisor(p.tiles_w),
    p.by_cols = divisor(c.window_cols);
    const auto row16 = static_cast<uint32_t>(c.row_bytes() / 16), cols = static_cast<uint32_t>(c.window_cols);
    p.right16 = static_cast<uint32_t>(s.dil_w) * row16,
    p.down16 = static_cast<uint32_t>(s.dil_h) * cols * row16;
    p.eight16 = (c.has_patches ? cols : 8) * row16;
  }
  p.has_y_map = stores_by_engine(call, c);
  if (p.has_y_map) p.y_map = map_of_y(call, c);
  p.starts_with_bias = p.has_y_map && call.has_plain_weights && call.bias_image == 0;
  return p;
}

}  // namespace

void conv_nhwc(const Context& context, const PixelCall& call, const NhwcConfig& c) {
  const bool stores_sums = call.sum.data != nullptr;
  const bool is_plain =
      !stores_sums && (call.activation == ConvChain::bias || call.activation == ConvChain::relu);
  const bool is_mish = call.activation == ConvChain::mish || call.activation == ConvChain::double_mish;
  const auto select = [&]<nhwc::Values kValues>() {
    return is_plain  ? nhwc::select_kernel<kValues, ConvChain::relu>(c, stores_sums)
           : is_mish ? nhwc::select_kernel<kValues, ConvChain::mish>(c, stores_sums)
                     : nhwc::select_kernel<kValues, ConvChain::any>(c, stores_sums);
  };
  const Kernel kernel = call.scaling.num_parts > 0      ? select.operator()<nhwc::Values::scaled>()
                        : call.dtype == DType::bfloat16 ? select.operator()<nhwc::Values::bfloat16>()
                                                        : select.operator()<nhwc::Values::float16>();
  launch(context, "conv_nhwc_kernel", kernel,
         {.grid = dim3(static_cast<unsigned>(c.num_blocks)),
          .block = dim3(static_cast<unsigned>(nhwc_threads(c.shape()))),
          .smem_bytes = c.smem_bytes,
          .overlaps_previous = true,
          .cluster_blocks = c.split},
         make_params(call, c));
}

namespace {

struct NhwcPlan final : PixelPlan {
  NhwcConfig config;

  std::vector<std::byte> pack_weights(const float* w) const override {
    return pack_nhwc_weights(call.shape, config, call.dtype, w, exponents_of(w));
  }

  void enqueue_call(const Context& context, const PixelCall& bound) const override {
    conv_nhwc(context, bound, config);
  }
};

}  // namespace

std::unique_ptr<ConvPlan> make_nhwc_conv(const ConvProblem& problem, const DeviceInfo* device,
                                         std::string* why_not) {
  if (device->cc_major != 9) return *why_not = "needs a Hopper GPU (compute capability 9.0)", nullptr;
  auto plan = std::make_unique<NhwcPlan>();
  if (!plan->init(problem, why_not, true)) return nullptr;
  const NhwcWork work{plan->has_residual(),       plan->epilogue.activation >= ConvChain::silu,
                      plan->has_scale(),          plan->epilogue.stores_sum,
                      plan->call.bias_image != 0, plan->call.y.is_float32};
  const auto config =
      choose_nhwc_config(plan->call.shape, plan->call.x_strides, work, device->num_sms, why_not);
  if (!config) return nullptr;
  plan->config = *config;
  PixelCall& call = plan->call;
  if (config->shape().takes_turns && call.scaling.num_parts == 0) {
    const Tensor weights = problem.weights.values();
    call.has_plain_weights = has_all(call.dtype, weights.floats());
  }
  if (call.has_plain_weights) plan->exponents.assign(static_cast<size_t>(call.shape.K), 0);
  plan->words += to_string(*config);
  plan->packing += packing_of(*config, call.dtype) + (call.has_plain_weights ? " plain" : "");
  const int64_t turns = plan->num_images / std::max<int64_t>(plan->call.shape.N, 1);
  plan->predicted_us = config->predicted_us * static_cast<double>(turns) + plan->copy_us;
  return plan;
}

}  // namespace solder
