// Mish and double Mish over a dense float32 array.
//
// Grid: blocks of 256 threads; a thread takes two 16-byte vectors a turn, one block apart, so two loads are
// in flight before the first formula starts. As many blocks as there are turns, so that a new block's loads
// overlap an old one's stores (16 blocks an SM with a long loop each took 10 percent more); grid-stride
// beyond kMaxBlocks. Bound: memory, 8 bytes an element. double_mish costs about 27 issue slots an element of
// the roughly 89 that an H100 has in the time it moves those bytes. Up to three elements behind the last
// vector (`tail`) are done one by one by block 0.

#include <algorithm>

#include "ops/elementwise/apply.h"
#include "ops/elementwise/mish.h"
#include "ops/ptx/follow.cuh"
#include "runtime/launch.cuh"

namespace solder {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = int64_t{1} << 30;

template <Op kOp>
__global__ void __launch_bounds__(kThreads) map_kernel(const float* x, float* y, int64_t num_elems) {
  follow_previous();
  const auto* x4 = reinterpret_cast<const float4*>(x);
  auto* y4 = reinterpret_cast<float4*>(y);
  const int64_t num_vectors = num_elems / 4;
  const int64_t step = int64_t{gridDim.x} * kThreads * 2;
  int64_t i = int64_t{blockIdx.x} * kThreads * 2 + threadIdx.x;
  for (; i + kThreads < num_vectors; i += step) {
    const float4 a = x4[i], b = x4[i + kThreads];
    float v[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
    apply_unary<kOp>(0, 0, v);
    y4[i] = make_float4(v[0], v[1], v[2], v[3]);
    y4[i + kThreads] = make_float4(v[4], v[5], v[6], v[7]);
  }
  if (i < num_vectors) {
    const float4 a = x4[i];
    float v[4] = {a.x, a.y, a.z, a.w};
    apply_unary<kOp>(0, 0, v);
    y4[i] = make_float4(v[0], v[1], v[2], v[3]);
  }
  const int64_t tail = num_vectors * 4 + threadIdx.x;
  if (blockIdx.x == 0 && tail < num_elems) {
    float v[1] = {x[tail]};
    apply_unary<kOp>(0, 0, v);
    y[tail] = v[0];
  }
}

template <Op kOp>
void map(const Context& context, const char* name, const float* x, float* y, int64_t num_elems) {
  if (num_elems == 0) return;
  const int64_t turns = (num_elems + kThreads * 8 - 1) / (kThreads * 8);
  const dim3 blocks(static_cast<unsigned>(std::min(turns, kMaxBlocks)));
  launch(context, name, map_kernel<kOp>, {.grid = blocks, .block = kThreads, .overlaps_previous = true}, x, y,
         num_elems);
}

}  // namespace

void mish_cuda(const Context& context, const float* x, float* y, int64_t num_elems) {
  map<Op::mish>(context, "mish_kernel", x, y, num_elems);
}

void double_mish_cuda(const Context& context, const float* x, float* y, int64_t num_elems) {
  map<Op::double_mish>(context, "double_mish_kernel", x, y, num_elems);
}

}  // namespace solder
