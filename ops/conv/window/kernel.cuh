#pragma once
// The general fused convolution for Hopper as an implicit matrix product on float16 tensor cores:
//   y [N,K,P,Q] = epilogue(conv(x [N,C,H,W], w [K,C,R,S])), all float32, any stride, dilation and padding.
//
// Positions. Outputs and inputs share one line of virtual positions. An image (or a vertical strip of one) is
// `rows` x `pitch` positions, its outputs in the upper left, and images follow each other. An input pixel
// (h, w) lies in plane (phase) ((h + pad_top) mod stride_h, (w + pad_left) mod stride_w) at position
// ((h + pad_top) div stride_h, (w + pad_left) div stride_w). So filter tap (r, s) of the output at position L
// is found in one plane at L + r*dil_h div stride_h * pitch + s*dil_w div stride_w: a constant shift. A
// block's tile is any run of positions; its window is that run and a halo. Positions right of or under an
// image's outputs are computed and dropped; padding that one image (row) has below (right) is the next one's
// above (left) where both are zero. In shared memory a position is 16 bytes, 8 channels, so that a tap is a
// start address of wgmma's B operand (K-major, no swizzle: every shift is legal), and one window serves all
// taps:
//
//   window stage  [part][channels/8][phase][position][8] float16     part: high (and low, for fp32)
//   weight stage  [step][part][2][64 output channels][8] float16     step: 16 terms of one tap
//
// With few channels a step's 16 terms are 4 (8) channels x 4 (2) neighbouring filter columns.
//
//   grid -> tile: persistent; tile t = positions t / tiles_k, output channels t % tiles_k.
//
//   warps 0-2   producers: load x (coalesced along positions), scale, round, store,
//               or bulk copies of packed x                                           --full-->  window ring
//   warp 3      bulk copies of packed weights                                        --full-->  weight rings
//   warps 4-11  2 consumer warpgroups: wgmma m64 n{32..256} k16 over all steps,      --empty--> both
//               then the epilogue
//
//               chunk 0             chunk 1             chunk 0 of the next tile
//   warps 0-2   | convert           | convert           | convert            ...
//   warps 4-7   .       | taps      | taps      | epilogue  | taps
//   warps 8-11  .          | taps      | taps      | epilogue  | taps
//
// Packed x. Where several blocks of output channels would convert the same x, or the layer is deep and has
// few tiles, three producer warps are the bottleneck. There window_pack_kernel converts x once, into
// [part][channels/8][phase][position][8] float16 of the whole batch in global scratch. A window is then one
// run of it for each part, 8 channels and phase; warps 0-2 only issue bulk copies, the producers' shared
// memory goes to more stages, and the images' exponents are final before this kernel starts.
//
// The consumers have a weight ring each and may drift apart by the window ring's depth: then one's epilogue
// hides behind the other's wgmma.
//
// fp32: x = high + low, w = high + low; of every 2 steps low*high + high*low comes before high*high. Tensor cores
// truncate what they add to, which makes results smaller, layer after layer, so after 2 steps the sum is added to a
// second set of registers.
//
// Registers: 384 threads, 168 at launch; producers 120, consumers 192. Shared memory: up to 227 KiB, planned
// by choose_window_config. Bound: tensor cores at about 600 TFLOP/s (200 for fp32), or memory. Preconditions:
// those of choose_window_config; x, y 4-byte aligned, packed weights 16-byte aligned.

#include "ops/conv/window/consumer.cuh"
#include "ops/conv/window/producer.cuh"
#include "ops/conv/window/weight_stream.cuh"
#include "ops/ptx/sm90.cuh"

namespace solder::window {

/// Offsets of a chunk's steps from the window's start, in units of 16 bytes: tap by tap, 16 terms by 16.
__device__ inline void fill_offsets(const Params& p, const Smem& smem) {
  const WindowConfig& c = p.config;
  const int size = c.window * c.num_planes();
  const int cols = (p.S + c.filter_cols - 1) / c.filter_cols;
  const int step_w = c.filter_cols * p.dil_w;
  for (int i = static_cast<int>(threadIdx.x); i < 2 * kMaxWindowChunkSteps; i += kNumThreads) {
    const int step = i % kMaxWindowChunkSteps;
    const int steps = i < kMaxWindowChunkSteps ? c.chunk_steps : c.last_steps;
    if (step >= steps) continue;
    const int tap_steps = steps / c.num_taps;
    const int tap = step / tap_steps, r = tap / cols, s = tap % cols;
    const int plane = r % c.phases_h * c.phases_w + s % c.phases_w;
    const int shift = r * p.dil_h / p.stride_h * c.pitch + s * step_w / p.stride_w;
    smem.offsets[i] = step % tap_steps * 2 * size + plane * c.window + shift;
  }
}

template <class Tile>
__global__ void __launch_bounds__(kNumThreads, 1) conv_window_kernel(const __grid_constant__ Params p) {
  extern __shared__ __align__(128) uint8_t smem_base[];
  const WindowConfig& c = p.config;
  if (p.is_repair) {
    sm90::dependency_wait();
    bool found = false;
    for (int n = static_cast<int>(threadIdx.x); n < p.N; n += kNumThreads) found |= needs_rescale(p, n);
    if (!__syncthreads_or(found)) return;
  }
  const Smem smem = carve(smem_base, c);
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0) {
    for (int i = 0; i < kMaxWindowStages; ++i) {
      sm90::mbarrier_init(smem.window_full + 8 * i, c.is_packed ? 1 : kProducers / 32);
      sm90::mbarrier_init(smem.window_empty + 8 * i, 8);
    }
    for (int i = 0; i < 2 * kMaxWindowWeightStages; ++i) {
      sm90::mbarrier_init(smem.weight_full + 8 * i, 1);
      sm90::mbarrier_init(smem.weight_empty + 8 * i, 4);
    }
    sm90::mbarrier_init_fence();
  }
  fill_offsets(p, smem);
  __syncthreads();
  // Up to here, and in the weights' ring, nothing depends on earlier kernels: each role waits for them
  // itself. Warp-uniform to the compiler too: roles and addresses go to uniform registers.
  const int warp = __shfl_sync(0xffffffffu, thread / 32, 0);
  if (warp < 4) {
    sm90::setmaxnreg_decrease<120>();
    if (warp == 3) {
      if (thread % 32 == 0) stream_weights<Tile>(p, smem);
    } else {
      sm90::dependency_wait();
      sm90::dependency_launch();
      if (!c.is_packed)
        produce<Tile>(p, smem, thread);
      else
        fetch_windows<Tile>(p, smem, warp, thread % 32);
    }
  } else {
    sm90::setmaxnreg_increase<192>();
    sm90::dependency_wait();
    consume<Tile>(p, smem, warp / 4 - 1, warp % 4, thread % 32);
  }
}

template <Math kMath>
Kernel select_kernel(int tile) {
  switch (tile) {
    case 1: return conv_window_kernel<Tile<128, true, kMath>>;
    case 2: return conv_window_kernel<Tile<64, true, kMath>>;
    case 3: return conv_window_kernel<Tile<32, true, kMath>>;
    case 5: return conv_window_kernel<Tile<128, false, kMath>>;
    case 6: return conv_window_kernel<Tile<64, false, kMath>>;
    case 7: return conv_window_kernel<Tile<32, false, kMath>>;
    default: break;
  }
  if constexpr (kMath == Math::tf32) {
    if (tile == 0) return conv_window_kernel<Tile<256, true, kMath>>;
    if (tile == 4) return conv_window_kernel<Tile<256, false, kMath>>;
  }
  return nullptr;
}

}  // namespace solder::window
