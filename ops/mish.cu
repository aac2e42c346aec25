// Mish and double Mish over a dense float32 array.
//
// Grid: up to 16 blocks of 256 threads for each SM, grid-stride. A thread takes two 16-byte vectors a turn, one
// block apart, so two loads are in flight before the first formula starts.
// Bound: memory, 8 bytes an element. double_mish costs about 45 issue slots an element of the roughly 77 that
// an H100 has in the time it moves those bytes.
// An array that starts off a 16-byte line has up to three elements in front (`head`) and up to three behind
// (`tail`), which block 0 does one by one. x and y that are misaligned differently go one by one throughout.

#include <algorithm>

#include "ops/mish.h"
#include "ops/scalar_math.h"
#include "runtime/launch.cuh"

namespace solder {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocksPerSm = 16;

template <class F>
__global__ void __launch_bounds__(kThreads) map_kernel(const float* x, float* y, int64_t head, int64_t num_vectors,
                                                       int64_t tail, F f) {
  const auto* x4 = reinterpret_cast<const float4*>(x + head);
  auto* y4 = reinterpret_cast<float4*>(y + head);
  const auto map4 = [&](float4 v) { return make_float4(f(v.x), f(v.y), f(v.z), f(v.w)); };
  const int64_t step = int64_t{gridDim.x} * kThreads * 2;
  int64_t i = int64_t{blockIdx.x} * kThreads * 2 + threadIdx.x;
  for (; i + kThreads < num_vectors; i += step) {
    const float4 a = x4[i];
    const float4 b = x4[i + kThreads];
    y4[i] = map4(a);
    y4[i + kThreads] = map4(b);
  }
  if (i < num_vectors) y4[i] = map4(x4[i]);

  if (blockIdx.x == 0) {
    const int64_t tail_begin = head + num_vectors * 4;
    for (int64_t j = threadIdx.x; j < head; j += kThreads) y[j] = f(x[j]);
    for (int64_t j = tail_begin + threadIdx.x; j < tail_begin + tail; j += kThreads) y[j] = f(x[j]);
  }
}

// For x and y whose 16-byte lines do not fall together.
template <class F>
__global__ void __launch_bounds__(kThreads) map_unaligned_kernel(const float* x, float* y, int64_t num_elems, F f) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < num_elems; i += step) y[i] = f(x[i]);
}

template <class F>
void map(const Context& context, const char* name, const float* x, float* y, int64_t num_elems, F f) {
  if (num_elems == 0) return;
  const auto floats_past_line = [](const float* p) { return reinterpret_cast<uintptr_t>(p) % 16 / 4; };
  const int64_t max_blocks = int64_t{context.info().num_sms} * kBlocksPerSm;
  const auto blocks_for = [&](int64_t items) {
    return dim3(static_cast<unsigned>(std::clamp<int64_t>((items + kThreads - 1) / kThreads, 1, max_blocks)));
  };
  if (floats_past_line(x) != floats_past_line(y)) {
    launch(context, name, map_unaligned_kernel<F>, {blocks_for(num_elems), kThreads}, x, y, num_elems, f);
    return;
  }
  const int64_t head = std::min<int64_t>(num_elems, static_cast<int64_t>((4 - floats_past_line(x)) % 4));
  const int64_t num_vectors = (num_elems - head) / 4;
  const int64_t tail = num_elems - head - num_vectors * 4;
  launch(context, name, map_kernel<F>, {blocks_for(num_vectors / 2), kThreads}, x, y, head, num_vectors, tail, f);
}

struct Mish {
  __device__ float operator()(float x) const { return math::mish(x); }
};
struct DoubleMish {
  __device__ float operator()(float x) const { return math::double_mish(x); }
};

}  // namespace

void mish_cuda(const Context& context, const float* x, float* y, int64_t num_elems) {
  map(context, "mish_kernel", x, y, num_elems, Mish{});
}

void double_mish_cuda(const Context& context, const float* x, float* y, int64_t num_elems) {
  map(context, "double_mish_kernel", x, y, num_elems, DoubleMish{});
}

}  // namespace solder
