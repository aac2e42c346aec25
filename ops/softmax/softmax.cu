// Softmax and its logarithm of rows: see Softmax for the order of the sums, which all kernels keep.
//
// softmax_rows_kernel, where the elements of a row lie closest: a warp a row, 8 rows a block; a lane has 4 neighbours of
//   each 128 elements. Rows of up to 1024 stay in registers: x is read once. Longer ones are read three times, from the
//   caches where they are not too long.
// softmax_columns_kernel, where neighbouring rows lie closest (other axes than the last): 32 rows a block, a lane each,
//   and up to 32 warps, one a partial sum. x is read three times, coalesced.
//
// Registers under 80; shared memory 4 KiB for columns. Bound: memory, x and y once, where x is read once; a row of 2^16
// and more alone on the GPU: latency.

#include <algorithm>
#include <limits>

#include "ops/elementwise/formulas.h"
#include "ops/reduce/rows.cuh"
#include "ops/softmax/softmax.h"
#include "runtime/launch.cuh"

namespace solder {
namespace {

constexpr int kThreads = 256, kWarp = 32;
constexpr int kVec = kSoftmaxNeighbours, kStep = kSoftmaxPartials * kVec;
static_assert(kSoftmaxPartials == kWarp);
constexpr float kLowest = -std::numeric_limits<float>::infinity();

struct SoftmaxParams {
  RowParams<uint64_t> rows;
  uint64_t num_rows;
  int64_t row_elems, x_step, y_step;
  bool log, is_vector;
};

// Elements i to i + 3 of a row; -infinity for what lies behind its end.
template <class T>
__device__ void load(const SoftmaxParams& params, const T* x, int64_t i, float (&values)[kVec]) {
  if (params.is_vector && i + kVec <= params.row_elems) {
    const auto vector = *reinterpret_cast<const Elements<T, kVec>*>(x + i);
#pragma unroll
    for (int e = 0; e < kVec; ++e) values[e] = to_float(vector.at[e]);
    return;
  }
#pragma unroll
  for (int e = 0; e < kVec; ++e)
    values[e] = i + e < params.row_elems ? to_float(x[(i + e) * params.x_step]) : kLowest;
}

template <class T>
__device__ void store(const SoftmaxParams& params, T* y, int64_t i, const float (&values)[kVec]) {
  if (params.is_vector && i + kVec <= params.row_elems) {
    Elements<T, kVec> vector;
#pragma unroll
    for (int e = 0; e < kVec; ++e) vector.at[e] = from_float<T>(values[e]);
    *reinterpret_cast<Elements<T, kVec>*>(y + i) = vector;
    return;
  }
#pragma unroll
  for (int e = 0; e < kVec; ++e)
    if (i + e < params.row_elems) y[(i + e) * params.y_step] = from_float<T>(values[e]);
}

// What the steps have in common: values i to i + 3 taken into a maximum, a sum, and made results.
__device__ void take_largest(const float (&values)[kVec], float* largest) {
#pragma unroll
  for (int e = 0; e < kVec; ++e) *largest = fmaxf(*largest, values[e]);
}

// The powers stand in the place of the values afterwards, unless the values are needed.
__device__ void take_sum(const SoftmaxParams& params, int64_t i, float largest, float (&values)[kVec],
                         float* sum) {
#pragma unroll
  for (int e = 0; e < kVec; ++e) {
    const float power = math::exp(values[e] - largest);
    if (i + e < params.row_elems) *sum += power;
    if (!params.log) values[e] = power;
  }
}

__device__ void finish(const SoftmaxParams& params, float largest, float sum, float log_sum,
                       float (&values)[kVec]) {
#pragma unroll
  for (int e = 0; e < kVec; ++e) values[e] = params.log ? (values[e] - largest) - log_sum : values[e] / sum;
}

// Of a row that is not held in registers: what a thread has of it, from `first` on.
template <class T>
__device__ void finish_row(const SoftmaxParams& params, const T* x, T* y, int64_t first, int64_t end,
                           float largest, float sum) {
  const float log_sum = params.log ? math::log(sum) : 0;
  for (int64_t i = first; i < end; i += kStep) {
    float values[kVec];
    load(params, x, i, values);
    if (!params.log)
#pragma unroll
      for (int e = 0; e < kVec; ++e) values[e] = math::exp(values[e] - largest);
    finish(params, largest, sum, log_sum, values);
    store(params, y, i, values);
  }
}

__device__ float warp_largest(float value) {
#pragma unroll
  for (int half = kWarp / 2; half > 0; half /= 2)
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, half));
  return value;
}

// Each lane has the same: a + b = b + a.
__device__ float warp_sum(float value) {
#pragma unroll
  for (int half = kWarp / 2; half > 0; half /= 2) value += __shfl_xor_sync(0xffffffffu, value, half);
  return value;
}

// kHeld vectors of a row a lane, at most, are held in registers; 0: rows of any length.
template <class T, int kHeld>
__global__ void __launch_bounds__(kThreads)
    softmax_rows_kernel(const __grid_constant__ SoftmaxParams params, const T* x, T* y) {
  const uint64_t row = uint64_t{blockIdx.x} * (kThreads / kWarp) + threadIdx.x / kWarp;
  if (row >= params.num_rows) return;
  int64_t x_offset, y_offset;
  params.rows.find_row(row, &x_offset, &y_offset);
  x += x_offset, y += y_offset;
  const int64_t first = int64_t{threadIdx.x} % kWarp * kVec;
  float largest = kLowest, sum = 0;
  if constexpr (kHeld > 0) {
    float values[kHeld][kVec];
#pragma unroll
    for (int v = 0; v < kHeld; ++v) load(params, x, first + v * kStep, values[v]);
#pragma unroll
    for (int v = 0; v < kHeld; ++v) take_largest(values[v], &largest);
    largest = warp_largest(largest);
#pragma unroll
    for (int v = 0; v < kHeld; ++v) take_sum(params, first + v * kStep, largest, values[v], &sum);
    sum = warp_sum(sum);
    const float log_sum = params.log ? math::log(sum) : 0;
#pragma unroll
    for (int v = 0; v < kHeld; ++v) {
      finish(params, largest, sum, log_sum, values[v]);
      store(params, y, first + v * kStep, values[v]);
    }
  } else {
    float values[kVec];
#pragma unroll 4
    for (int64_t i = first; i < params.row_elems; i += kStep)
      load(params, x, i, values), take_largest(values, &largest);
    largest = warp_largest(largest);
#pragma unroll 4
    for (int64_t i = first; i < params.row_elems; i += kStep)
      load(params, x, i, values), take_sum(params, i, largest, values, &sum);
    sum = warp_sum(sum);
    finish_row(params, x, y, first, params.row_elems, largest, sum);
  }
}

// The warps' values of each lane joined, for all of them.
template <class Join>
__device__ float join_warps(float value, float (&shared)[kSoftmaxPartials][kWarp], Join join) {
  __syncthreads();
  shared[threadIdx.y][threadIdx.x] = value;
  for (unsigned half = blockDim.y / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.y < half)
      shared[threadIdx.y][threadIdx.x] =
          join(shared[threadIdx.y][threadIdx.x], shared[threadIdx.y + half][threadIdx.x]);
  }
  __syncthreads();
  return shared[0][threadIdx.x];
}

template <class T>
__global__ void __launch_bounds__(kWarp* kSoftmaxPartials)
    softmax_columns_kernel(const __grid_constant__ SoftmaxParams params, const T* x, T* y) {
  __shared__ float shared[kSoftmaxPartials][kWarp];
  const uint64_t row = uint64_t{blockIdx.x} * kWarp + threadIdx.x;
  const bool is_there = row < params.num_rows;
  int64_t x_offset, y_offset;
  params.rows.find_row(is_there ? row : 0, &x_offset, &y_offset);
  x += x_offset, y += y_offset;
  const int64_t first = int64_t{threadIdx.y} * kVec, end = is_there ? params.row_elems : 0;
  float largest = kLowest, sum = 0;
  float values[kVec];
  for (int64_t i = first; i < end; i += kStep) load(params, x, i, values), take_largest(values, &largest);
  largest = join_warps(largest, shared, [](float a, float b) { return fmaxf(a, b); });
  for (int64_t i = first; i < end; i += kStep)
    load(params, x, i, values), take_sum(params, i, largest, values, &sum);
  sum = join_warps(sum, shared, [](float a, float b) { return a + b; });
  finish_row(params, x, y, first, end, largest, sum);
}

// Whether every 4 elements of a row from a multiple of 4 on are neighbours on a line of their size, in x and y.
bool are_vectors(const Softmax& softmax, const void* x, const void* y) {
  const auto line = static_cast<uintptr_t>(size_of(softmax.dtype) * kVec);
  const Rows& rows = softmax.rows;
  bool aligned = reinterpret_cast<uintptr_t>(x) % line == 0 && reinterpret_cast<uintptr_t>(y) % line == 0 &&
                 rows.x_inner[0] == 1 && rows.y_inner[0] == 1;
  for (int d = 0; d < rows.num_outer; ++d)
    aligned = aligned && rows.x_outer[d] % kVec == 0 && rows.y_outer[d] % kVec == 0;
  return aligned;
}

template <class T>
void launch_softmax(const Context& context, const Softmax& softmax, const void* x, void* y) {
  const Rows& rows = softmax.rows;
  const SoftmaxParams params{.rows = RowParams<uint64_t>(rows),
                             .num_rows = static_cast<uint64_t>(rows.num_rows),
                             .row_elems = rows.row_elems,
                             .x_step = rows.x_inner[0],
                             .y_step = rows.y_inner[0],
                             .log = softmax.log,
                             .is_vector = are_vectors(softmax, x, y)};
  const bool columns = rows.are_columns();
  const dim3 grid(grid_for(rows.num_rows, columns ? kWarp : kThreads / kWarp));
  if (columns) {
    unsigned warps = 1;  // partial sums that have elements, up to a power of 2
    while (warps < kSoftmaxPartials && warps * kVec < rows.row_elems) warps *= 2;
    return launch(context, "softmax_columns_kernel", softmax_columns_kernel<T>, {grid, dim3(kWarp, warps)},
                  params, static_cast<const T*>(x), static_cast<T*>(y));
  }
  const auto kernel = rows.row_elems <= kStep       ? softmax_rows_kernel<T, 1>
                      : rows.row_elems <= 4 * kStep ? softmax_rows_kernel<T, 4>
                      : rows.row_elems <= 8 * kStep ? softmax_rows_kernel<T, 8>
                                                    : softmax_rows_kernel<T, 0>;
  launch(context, "softmax_rows_kernel", kernel, {grid, kThreads}, params, static_cast<const T*>(x),
         static_cast<T*>(y));
}

}  // namespace

void softmax_cuda(const Context& context, const Softmax& softmax, const void* x, void* y) {
  if (softmax.rows.num_rows == 0 || softmax.rows.row_elems == 0) return;
  switch (softmax.dtype) {
    case DType::float32: return launch_softmax<float>(context, softmax, x, y);
    case DType::float16: return launch_softmax<__half>(context, softmax, x, y);
    case DType::bfloat16: return launch_softmax<__nv_bfloat16>(context, softmax, x, y);
  }
}

}  // namespace solder
