// Reductions of rows: see Reduce for the order of the sums, which both kernels keep. A unit is a chunk of a row.
//
// reduce_rows_kernel, where neighbours of a row lie closest: 8 lanes a unit, one a partial result, 32 units a block;
//   a lane loads 4 neighbours at a time, by one instruction where they are aligned, so that a unit's lanes read 128
//   bytes of float32 in a row. The partial results are joined by shuffles.
// reduce_columns_kernel, where neighbouring rows lie closest (other axes than the last): a thread a unit, 256 a block,
//   neighbouring threads neighbouring rows; all 8 partial results in registers, 16 loads in flight where one axis is walked.
//
// Registers on Hopper: under 64, columns with 32-bit Index 128; no shared memory. Bound: memory, x once.
// Preconditions: 32-bit Index needs fewer than 2^31 units and elements a row; kIsVector lines of 4 elements.

#include <algorithm>
#include <cstdlib>
#include <limits>

#include "ops/reduce/reduce.h"
#include "ops/reduce/rows.cuh"
#include "runtime/launch.cuh"

namespace solder {
namespace {

constexpr int kThreads = 256;
constexpr int kStep = kReducePartials * kReduceNeighbours;
constexpr float kLowest = -std::numeric_limits<float>::infinity();

template <class Index>
struct PassParams {
  RowParams<Index> rows;
  IndexDivisor<Index> by_rows;
  Index num_units, row_elems;
  bool is_last, is_vector;
  DType y_dtype;
  float sign_x, sign_y, divisor;
  void* y;
};

template <bool kIsMax>
__device__ float take(float acc, float value) {
  if (!kIsMax) return acc + value;
  return value > acc || value != value ? value : acc;
}

// A unit: where its row lies, and its elements [begin, begin + count) of it.
template <class Index>
struct Unit {
  int64_t x = 0, y = 0;
  Index begin = 0;
  int count = 0;
};

template <class Index>
__device__ Unit<Index> find_unit(const PassParams<Index>& params, Index idx) {
  Unit<Index> unit;
  Index row;
  unit.begin = params.by_rows.divide(idx, &row) * static_cast<Index>(kReduceChunk);
  params.rows.find_row(row, &unit.x, &unit.y);
  const Index rest = params.row_elems - unit.begin;
  unit.count = static_cast<int>(rest < kReduceChunk ? rest : static_cast<Index>(kReduceChunk));
  if (!params.is_last) unit.y = static_cast<int64_t>(idx);
  return unit;
}

template <class Index>
__device__ void store_result(const PassParams<Index>& params, const Unit<Index>& unit, float acc) {
  const float value = params.sign_y * acc / params.divisor;
  if (params.y_dtype == DType::float32)
    static_cast<float*>(params.y)[unit.y] = value;
  else if (params.y_dtype == DType::float16)
    static_cast<__half*>(params.y)[unit.y] = from_float<__half>(value);
  else
    static_cast<__nv_bfloat16*>(params.y)[unit.y] = from_float<__nv_bfloat16>(value);
}

// Where element i of a row lies in x; kOneAxis: there is one axis to walk.
template <bool kOneAxis, class Index>
__device__ int64_t place(const PassParams<Index>& params, Index i) {
  return kOneAxis ? static_cast<int64_t>(i) * params.rows.x_inner[0] : params.rows.x_offset(i);
}

// Partial result `lane` of a unit whose row begins at x.
template <bool kIsMax, bool kOneAxis, class T, class Index>
__device__ float partial_result(const PassParams<Index>& params, const Unit<Index>& unit, const T* x,
                                int lane) {
  using Vector = Elements<T, kReduceNeighbours>;
  float acc = kIsMax ? kLowest : 0.0f;
  int i = lane * kReduceNeighbours;
  if (params.is_vector) {
#pragma unroll 8
    for (; i + kReduceNeighbours <= unit.count; i += kStep) {
      const auto* from = x + place<kOneAxis>(params, unit.begin + static_cast<Index>(i));
      const Vector vector = *reinterpret_cast<const Vector*>(from);
#pragma unroll
      for (int e = 0; e < kReduceNeighbours; ++e)
        acc = take<kIsMax>(acc, params.sign_x * to_float(vector.at[e]));
    }
  }
#pragma unroll 4
  for (; i < unit.count; i += kStep) {
    float values[kReduceNeighbours];
#pragma unroll
    for (int e = 0; e < kReduceNeighbours; ++e)
      if (i + e < unit.count)
        values[e] =
            params.sign_x * to_float(x[place<kOneAxis>(params, unit.begin + static_cast<Index>(i + e))]);
#pragma unroll
    for (int e = 0; e < kReduceNeighbours; ++e)
      if (i + e < unit.count) acc = take<kIsMax>(acc, values[e]);
  }
  return acc;
}

// All of them, by one thread.
template <bool kIsMax, bool kOneAxis, class T, class Index>
__device__ void partial_results(const PassParams<Index>& params, const Unit<Index>& unit, const T* x,
                                float (&acc)[kReducePartials]) {
  constexpr int kInFlight = kOneAxis ? 16 : 4;
  for (int base = 0; base < unit.count; base += kStep) {
#pragma unroll
    for (int first = 0; first < kStep; first += kInFlight) {
      float values[kInFlight];
#pragma unroll
      for (int i = 0; i < kInFlight; ++i)
        if (base + first + i < unit.count)
          values[i] = params.sign_x *
                      to_float(x[place<kOneAxis>(params, unit.begin + static_cast<Index>(base + first + i))]);
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        float& to = acc[(first + i) / kReduceNeighbours];
        if (base + first + i < unit.count) to = take<kIsMax>(to, values[i]);
      }
    }
  }
}

template <class T, bool kIsMax, class Index>
__global__ void __launch_bounds__(kThreads)
    reduce_rows_kernel(const __grid_constant__ PassParams<Index> params, const T* x) {
  const Index idx =
      static_cast<Index>(blockIdx.x) * (kThreads / kReducePartials) + threadIdx.x / kReducePartials;
  const bool is_there = idx < params.num_units;
  const Unit unit = find_unit(params, is_there ? idx : Index{0});
  const int lane = threadIdx.x % kReducePartials;
  float acc = params.rows.num_inner == 1 ? partial_result<kIsMax, true>(params, unit, x + unit.x, lane)
                                         : partial_result<kIsMax, false>(params, unit, x + unit.x, lane);
#pragma unroll
  for (int half = kReducePartials / 2; half > 0; half /= 2)
    acc = take<kIsMax>(acc, __shfl_down_sync(0xffffffffu, acc, half, kReducePartials));
  if (is_there && lane == 0) store_result(params, unit, acc);
}

template <class T, bool kIsMax, class Index>
__global__ void __launch_bounds__(kThreads)
    reduce_columns_kernel(const __grid_constant__ PassParams<Index> params, const T* x) {
  const Index idx = static_cast<Index>(blockIdx.x) * kThreads + threadIdx.x;
  if (idx >= params.num_units) return;
  const Unit unit = find_unit(params, idx);
  float acc[kReducePartials];
#pragma unroll
  for (float& partial : acc) partial = kIsMax ? kLowest : 0.0f;
  if (params.rows.num_inner == 1)
    partial_results<kIsMax, true>(params, unit, x + unit.x, acc);
  else
    partial_results<kIsMax, false>(params, unit, x + unit.x, acc);
#pragma unroll
  for (int half = kReducePartials / 2; half > 0; half /= 2)
#pragma unroll
    for (int j = 0; j < half; ++j) acc[j] = take<kIsMax>(acc[j], acc[j + half]);
  store_result(params, unit, acc[0]);
}

// Whether every 4 elements of a row from a multiple of 4 on are neighbours on a line of their size.
bool are_vectors(const ReducePass& pass) {
  const Rows& rows = pass.rows;
  const int last = rows.num_inner - 1;
  bool aligned = reinterpret_cast<uintptr_t>(pass.x) %
                         static_cast<uintptr_t>(size_of(pass.x_dtype) * kReduceNeighbours) ==
                     0 &&
                 rows.x_inner[last] == 1 && (last == 0 || rows.inner[last] % kReduceNeighbours == 0);
  for (int d = 0; d < last; ++d) aligned = aligned && rows.x_inner[d] % kReduceNeighbours == 0;
  for (int d = 0; d < rows.num_outer; ++d) aligned = aligned && rows.x_outer[d] % kReduceNeighbours == 0;
  return aligned;
}

template <class T, bool kIsMax, class Index>
void launch_pass(const Context& context, const ReducePass& pass) {
  const PassParams<Index> params{.rows = RowParams<Index>(pass.rows),
                                 .by_rows = IndexDivisor<Index>(pass.rows.num_rows),
                                 .num_units = static_cast<Index>(pass.num_units()),
                                 .row_elems = static_cast<Index>(pass.rows.row_elems),
                                 .is_last = pass.num_chunks == 1,
                                 .is_vector = are_vectors(pass),
                                 .y_dtype = pass.y_dtype,
                                 .sign_x = pass.negates_x ? -1.0f : 1.0f,
                                 .sign_y = pass.negates_y ? -1.0f : 1.0f,
                                 .divisor = pass.divisor,
                                 .y = pass.y};
  const bool columns = pass.rows.are_columns();
  const unsigned blocks = grid_for(pass.num_units(), columns ? kThreads : kThreads / kReducePartials);
  launch(context, columns ? "reduce_columns_kernel" : "reduce_rows_kernel",
         columns ? reduce_columns_kernel<T, kIsMax, Index> : reduce_rows_kernel<T, kIsMax, Index>,
         {blocks, kThreads}, params, static_cast<const T*>(pass.x));
}

template <class T>
void choose_kernel(const Context& context, const ReducePass& pass) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max() - kThreads;
  const bool is_short = pass.num_units() <= kMost && pass.rows.row_elems <= kMost;
  if (pass.is_max)
    is_short ? launch_pass<T, true, uint32_t>(context, pass) : launch_pass<T, true, uint64_t>(context, pass);
  else
    is_short ? launch_pass<T, false, uint32_t>(context, pass)
             : launch_pass<T, false, uint64_t>(context, pass);
}

}  // namespace

void reduce_cuda(const Context& context, const Reduce& reduce, const void* x, void* y, void* scratch) {
  if (reduce.rows.num_rows == 0) return;
  for_passes(reduce, x, y, scratch, [&](const ReducePass& pass) {
    switch (pass.x_dtype) {
      case DType::float32: return choose_kernel<float>(context, pass);
      case DType::float16: return choose_kernel<__half>(context, pass);
      case DType::bfloat16: return choose_kernel<__nv_bfloat16>(context, pass);
    }
  });
}

}  // namespace solder
