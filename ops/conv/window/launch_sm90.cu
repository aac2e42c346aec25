#include <algorithm>

#include "ops/conv/window/kernel.cuh"
#include "runtime/divide.h"
#include "runtime/launch.cuh"

namespace solder {
namespace {

window::Divisor make_divisor(uint32_t divisor) {
  uint32_t bits = 0;
  while ((uint64_t{1} << bits) < divisor) ++bits;
  const uint32_t shift = 31 + bits;
  return {static_cast<uint32_t>(((uint64_t{1} << shift) + divisor - 1) / divisor), shift};
}

using Kernel = void (*)(window::Params);

// The instances, by index into kWindowTiles.
template <Math kMath>
Kernel find_kernel(int tile) {
  using window::conv_window_kernel, window::Tile;
  switch (tile) {
    case 0:
      if constexpr (kMath == Math::tf32) return conv_window_kernel<Tile<256, true, kMath>>;
      break;
    case 1: return conv_window_kernel<Tile<128, true, kMath>>;
    case 2: return conv_window_kernel<Tile<64, true, kMath>>;
    case 3: return conv_window_kernel<Tile<32, true, kMath>>;
    case 4:
      if constexpr (kMath == Math::tf32) return conv_window_kernel<Tile<256, false, kMath>>;
      break;
    case 5: return conv_window_kernel<Tile<128, false, kMath>>;
    case 6: return conv_window_kernel<Tile<64, false, kMath>>;
    case 7: return conv_window_kernel<Tile<32, false, kMath>>;
    default: break;
  }
  fail(ErrorKind::invalid_argument, str("conv_window has no tile ", tile));
}

window::Params make_params(const ConvShape& s, const WindowConfig& c, const ConvEpilogue& epilogue,
                           const WindowTensors& t) {
  const int64_t exponent_bytes = round_up(s.K, kWindowBlockK) * 4;
  window::Params p;
  p.x = t.x;
  p.exponents = static_cast<const int32_t*>(t.packed);
  p.blocks = static_cast<const uint8_t*>(t.packed) + exponent_bytes;
  p.ranges = static_cast<ImageRange*>(t.scratch);
  p.packed_x = reinterpret_cast<uint4*>(static_cast<std::byte*>(t.scratch) + window_scratch_bytes(s, c) -
                                        packed_x_bytes(s, c));
  p.y = t.y;
  p.N = static_cast<int>(s.N);
  p.C = static_cast<int>(s.C);
  p.H = static_cast<int>(s.H);
  p.W = static_cast<int>(s.W);
  p.K = static_cast<int>(s.K);
  p.P = static_cast<int>(s.P());
  p.Q = static_cast<int>(s.Q());
  p.S = static_cast<int>(s.S);
  p.stride_h = static_cast<int>(s.stride_h);
  p.stride_w = static_cast<int>(s.stride_w);
  p.dil_h = static_cast<int>(s.dil_h);
  p.dil_w = static_cast<int>(s.dil_w);
  p.pad_top = static_cast<int>(s.pad_top);
  p.pad_left = static_cast<int>(s.pad_left);
  p.is_repair = false;
  p.by_pitch = make_divisor(static_cast<uint32_t>(c.pitch));
  p.by_rows = make_divisor(static_cast<uint32_t>(c.rows));
  p.by_strips = make_divisor(static_cast<uint32_t>(c.num_strips));
  p.by_window = make_divisor(static_cast<uint32_t>(c.window));
  p.config = c;
  p.epilogue = epilogue;
  return p;
}

}  // namespace

void conv_window(const Context& context, const ConvShape& shape, const WindowConfig& config,
                 const ConvEpilogue& epilogue, const WindowTensors& tensors) {
  window::Params params = make_params(shape, config, epilogue, tensors);
  const Kernel kernel =
      config.math == Math::tf32 ? find_kernel<Math::tf32>(config.tile) : find_kernel<Math::fp32>(config.tile);
  const int64_t num_blocks = std::min<int64_t>(config.num_tiles(), context.info().num_sms);
  const LaunchConfig grid{.grid = dim3(static_cast<unsigned>(num_blocks)),
                          .block = dim3(window::kThreads),
                          .smem_bytes = config.smem_bytes,
                          .overlaps_previous = true};
  // What the block does not need is worth more as L1 (see kSmemBudgets in conv_window.cpp).
  const int carveout = static_cast<int>((config.smem_bytes + 1024) * 100 / (228 << 10)) + 1;
  SOLDER_CUDA(
      cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, std::min(carveout, 100)));
  conv_range_guess(context, shape, config.math, tensors.x, params.ranges);
  if (config.is_packed) {
    window::pack_x(context, params);
    launch(context, "conv_window_kernel", kernel, grid, params);
  } else {
    launch(context, "conv_window_kernel", kernel, grid, params);
    params.is_repair = true;
    launch(context, "conv_window_kernel (repair)", kernel, grid, params);
  }
  conv_strict(context, shape, config.math, tensors.x, tensors.w, params.ranges, epilogue, tensors.y);
}

}  // namespace solder
