// A unary function of 16-bit values by a table of all its results, 128 KiB, which stays in the first-level
// cache: x and y pass by it.
//
// Grid: blocks of 512 threads; a thread takes kInFlight vectors of 8 elements, a block apart. Bound: memory,
// 4 bytes an element; a lookup costs about 4 issue slots of the 38 that an H100 has in the time it moves
// those, straight-line code of 8 functions about 80. Measured, times a device copy: 1.003; with the table in
// shared memory and a long loop a block 1.04.

#include "ops/elementwise/table.h"
#include "ops/ptx/follow.cuh"
#include "runtime/divide.h"
#include "runtime/launch.cuh"

namespace solder {
namespace {

constexpr int kThreads = 512;
constexpr int kInFlight = 2;
constexpr int kVec = 8;

__device__ uint32_t look_up(const uint16_t* table, uint32_t pair) {
  return uint32_t{__ldg(table + (pair & 0xffffu))} | uint32_t{__ldg(table + (pair >> 16))} << 16;
}

__global__ void __launch_bounds__(kThreads)
    lookup_kernel(const uint16_t* table, const uint16_t* x, uint16_t* y, int64_t num_elems) {
  follow_previous();
  const auto* x8 = reinterpret_cast<const uint4*>(x);
  auto* y8 = reinterpret_cast<uint4*>(y);
  const int64_t num_vectors = num_elems / kVec;
  const int64_t first = int64_t{blockIdx.x} * (kThreads * kInFlight) + threadIdx.x;
  uint4 pairs[kInFlight];
#pragma unroll
  for (int v = 0; v < kInFlight; ++v)
    if (first + v * kThreads < num_vectors) pairs[v] = __ldcs(x8 + first + v * kThreads);
#pragma unroll
  for (int v = 0; v < kInFlight; ++v) {
    if (first + v * kThreads < num_vectors)
      __stcs(y8 + first + v * kThreads, make_uint4(look_up(table, pairs[v].x), look_up(table, pairs[v].y),
                                                   look_up(table, pairs[v].z), look_up(table, pairs[v].w)));
  }
  const int64_t tail = num_vectors * kVec + threadIdx.x;
  if (blockIdx.x == 0 && tail < num_elems) y[tail] = __ldg(table + x[tail]);
}

}  // namespace

void lookup_cuda(const Context& context, const uint16_t* table, const uint16_t* x, uint16_t* y,
                 int64_t num_elems) {
  if (num_elems == 0) return;
  constexpr int64_t kTile = kThreads * kInFlight * kVec;
  launch(context, "lookup_kernel", lookup_kernel,
         {.grid = grid_for(num_elems, kTile), .block = kThreads, .overlaps_previous = true}, table, x, y,
         num_elems);
}

}  // namespace solder
