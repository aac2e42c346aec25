// Mish and double Mish over a dense float32 array.
//
// Grid: blocks of 256 threads; a thread takes two 16-byte vectors a turn, one block apart, so two loads are
// in flight before the first formula starts. As many blocks as there are turns, so that a new block's loads
// overlap an old one's stores (16 blocks an SM with a long loop each took 10 percent more); grid-stride
// beyond kMaxBlocks. Bound: memory, 8 bytes an element. double_mish costs about 55 issue slots an element of
// the roughly 77 that an H100 has in the time it moves those bytes. An array that starts off a 16-byte line
// has up to three elements in front (`head`) and up to three behind
// (`tail`), which block 0 does one by one. x and y that are misaligned differently go one by one throughout.

#include <algorithm>

#include "ops/elementwise_apply.h"
#include "ops/mish.h"

#include "runtime/launch.cuh"

namespace solder {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = int64_t{1} << 30;

template <Op kOp>
__global__ void __launch_bounds__(kThreads)
    map_kernel(const float* x, float* y, int64_t head, int64_t num_vectors, int64_t tail) {
  const auto* x4 = reinterpret_cast<const float4*>(x + head);
  auto* y4 = reinterpret_cast<float4*>(y + head);
  const int64_t step = int64_t{gridDim.x} * kThreads * 2;
  int64_t i = int64_t{blockIdx.x} * kThreads * 2 + threadIdx.x;
  for (; i + kThreads < num_vectors; i += step) {
    const float4 a = x4[i], b = x4[i + kThreads];
    float v[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
    apply_unary(kOp, 0, 0, v);
    y4[i] = make_float4(v[0], v[1], v[2], v[3]);
    y4[i + kThreads] = make_float4(v[4], v[5], v[6], v[7]);
  }
  if (i < num_vectors) {
    const float4 a = x4[i];
    float v[4] = {a.x, a.y, a.z, a.w};
    apply_unary(kOp, 0, 0, v);
    y4[i] = make_float4(v[0], v[1], v[2], v[3]);
  }

  if (blockIdx.x == 0) {
    const int64_t tail_begin = head + num_vectors * 4;
    const int64_t j = threadIdx.x < head ? threadIdx.x : tail_begin + threadIdx.x - head;
    if (threadIdx.x < head + tail) {
      float v[1] = {x[j]};
      apply_unary(kOp, 0, 0, v);
      y[j] = v[0];
    }
  }
}

// For x and y whose 16-byte lines do not fall together.
template <Op kOp>
__global__ void __launch_bounds__(kThreads)
    map_unaligned_kernel(const float* x, float* y, int64_t num_elems) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < num_elems; i += step) {
    float v[1] = {x[i]};
    apply_unary(kOp, 0, 0, v);
    y[i] = v[0];
  }
}

template <Op kOp>
void map(const Context& context, const char* name, const float* x, float* y, int64_t num_elems) {
  if (num_elems == 0) return;
  const auto floats_past_line = [](const float* p) { return reinterpret_cast<uintptr_t>(p) % 16 / 4; };
  const auto blocks_for = [&](int64_t items) {
    return dim3(static_cast<unsigned>(std::clamp<int64_t>((items + kThreads - 1) / kThreads, 1, kMaxBlocks)));
  };
  if (floats_past_line(x) != floats_past_line(y)) {
    launch(context, name, map_unaligned_kernel<kOp>, {blocks_for(num_elems), kThreads}, x, y, num_elems);
    return;
  }
  const int64_t head = std::min<int64_t>(num_elems, static_cast<int64_t>((4 - floats_past_line(x)) % 4));
  const int64_t num_vectors = (num_elems - head) / 4;
  const int64_t tail = num_elems - head - num_vectors * 4;
  launch(context, name, map_kernel<kOp>, {blocks_for((num_vectors + 1) / 2), kThreads}, x, y, head,
         num_vectors, tail);
}

}  // namespace

void mish_cuda(const Context& context, const float* x, float* y, int64_t num_elems) {
  map<Op::mish>(context, "mish_kernel", x, y, num_elems);
}

void double_mish_cuda(const Context& context, const float* x, float* y, int64_t num_elems) {
  map<Op::double_mish>(context, "double_mish_kernel", x, y, num_elems);
}

}  // namespace solder
