// Reductions of rows: see Reduce for the order of the sums, which both kernels keep. A unit is a chunk of a row.
//
// reduce_rows_kernel, where neighbours of a row lie closest: 8 lanes a unit, one a partial result, 32 units a block;
//   a lane loads 4 neighbours at a time, by one instruction where they are aligned, so that a unit's lanes read 128
//   bytes of float32 in a row. The partial results are joined by shuffles.
// reduce_columns_kernel, where neighbouring rows lie closest (other axes than the last, or images' places where channels
//   are innermost): a thread makes one partial result of kVec neighbouring units, one load for all of them where they
//   are aligned; neighbouring threads take neighbouring units, and those of a block that have others of their partial
//   results join them in shared memory. So few channels, the last map of a network, keep many loads in flight.
//
// Where rows or their number are beyond 2^31, reduce_rows_kernel takes all of them, whatever lies closest.
//
// Registers: at most 64, or 80 for columns by vectors. With bounds on blocks an SM the compiler takes what these leave
// for 8 vectors or 16 elements in flight a thread; without, for more blocks. Shared memory: at most 4 KiB. Bound:
// memory, x once.
// Preconditions: 32-bit Index needs fewer than 2^31 units and elements a row; is_vector and kVec lines of 4 elements.

#include <algorithm>
#include <bit>
#include <limits>

#include "ops/ptx/follow.cuh"
#include "ops/reduce/load.cuh"
#include "ops/reduce/reduce.h"
#include "ops/reduce/rows.cuh"
#include "runtime/launch.cuh"

namespace solder {
namespace {

constexpr int kThreads = 256;
constexpr int kStep = kReducePartials * kReduceNeighbours;

template <class Index>
struct PassParams {
  RowParams<Index> rows;
  IndexDivisor<Index> by_rows;
  Index num_units, row_elems;
  bool is_last, is_vector;
  int num_partials;  // of columns that a block makes: a power of two, no fewer than have elements
  int64_t y_step;    // from a unit's result to the next one's along the innermost outer axis
  DType y_dtype;
  float sign_x, sign_y, divisor;
  const ImageRange* ranges;  // of scaled x, in the last pass; null: none
  IndexDivisor<Index> by_image;
  void* y;
};

template <bool kIsMax>
__device__ constexpr float start() {
  return kIsMax ? -std::numeric_limits<float>::infinity() : 0.0f;
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
__device__ void store_result(const PassParams<Index>& params, Index unit, int64_t offset, float acc) {
  float value = params.sign_y * acc / params.divisor;
  if (params.ranges != nullptr) {
    Index row;
    value *= power_of_two(-params.ranges[params.by_image.divide(unit, &row)].exponent);
  }
  if (params.y_dtype == DType::float32)
    static_cast<float*>(params.y)[offset] = value;
  else if (params.y_dtype == DType::float16)
    static_cast<__half*>(params.y)[offset] = from_float<__half>(value);
  else
    static_cast<__nv_bfloat16*>(params.y)[offset] = from_float<__nv_bfloat16>(value);
}

// Where element i of a row lies in x; kOneAxis: there is one axis to walk.
template <bool kOneAxis, class Index>
__device__ int64_t place(const PassParams<Index>& params, Index i) {
  return kOneAxis ? static_cast<int64_t>(i) * params.rows.x_inner[0] : params.rows.x_offset(i);
}

// Partial result `lane` of kVec neighbouring units, the first one's row beginning at x.
template <bool kIsMax, bool kOneAxis, int kVec, class Pointer, class Index>
__device__ void take_along(const PassParams<Index>& params, const Unit<Index>& unit, Pointer x, int lane,
                           float (&acc)[kVec]) {
  // 64-bit indices are for rows, or a number of them, beyond 2^31: too rare for as much code.
  constexpr int kVectorsAtOnce = sizeof(Index) == 4 ? 8 : 1, kStepsAtOnce = sizeof(Index) == 4 ? 4 : 1;
#pragma unroll
  for (float& value : acc) value = start<kIsMax>();
  int i = lane * kReduceNeighbours;
  const auto from = [&](int element) {
    return x + place<kOneAxis>(params, unit.begin + static_cast<Index>(element));
  };
  if constexpr (kVec == 1) {
    if (params.is_vector) {
#pragma unroll kVectorsAtOnce
      for (; i + kReduceNeighbours <= unit.count; i += kStep) {
        const auto vector = load_neighbours<kReduceNeighbours>(from(i));
#pragma unroll
        for (int e = 0; e < kReduceNeighbours; ++e)
          acc[0] = take<kIsMax>(acc[0], params.sign_x * to_float(vector.at[e]));
      }
    }
  }
  const auto take_one = [&](const auto& units) {
#pragma unroll
    for (int v = 0; v < kVec; ++v) acc[v] = take<kIsMax>(acc[v], params.sign_x * to_float(units.at[v]));
  };
#pragma unroll kStepsAtOnce
  for (; i + kReduceNeighbours <= unit.count; i += kStep) {
    decltype(load_neighbours<kVec>(x)) units[kReduceNeighbours];
#pragma unroll
    for (int e = 0; e < kReduceNeighbours; ++e) units[e] = load_neighbours<kVec>(from(i + e));
#pragma unroll
    for (int e = 0; e < kReduceNeighbours; ++e) take_one(units[e]);
  }
  for (int e = 0; i + e < unit.count && e < kReduceNeighbours; ++e)
    take_one(load_neighbours<kVec>(from(i + e)));
}

template <bool kIsMax, int kVec, class Pointer, class Index>
__device__ void take_partial(const PassParams<Index>& params, const Unit<Index>& unit, Pointer x, int lane,
                             float (&acc)[kVec]) {
  if (params.rows.num_inner == 1)
    take_along<kIsMax, true>(params, unit, x + unit.x, lane, acc);
  else
    take_along<kIsMax, false>(params, unit, x + unit.x, lane, acc);
}

template <class Pointer, bool kIsMax, class Index>
__global__ void __launch_bounds__(kThreads, 4)
    reduce_rows_kernel(const __grid_constant__ PassParams<Index> params, Pointer x) {
  follow_previous();
  const Index idx =
      static_cast<Index>(blockIdx.x) * (kThreads / kReducePartials) + threadIdx.x / kReducePartials;
  const bool is_there = idx < params.num_units;
  const Unit unit = find_unit(params, is_there ? idx : Index{0});
  const int lane = threadIdx.x % kReducePartials;
  float acc[1];
  take_partial<kIsMax>(params, unit, x, lane, acc);
#pragma unroll
  for (int half = kReducePartials / 2; half > 0; half /= 2)
    acc[0] = take<kIsMax>(acc[0], __shfl_down_sync(0xffffffffu, acc[0], half, kReducePartials));
  if (is_there && lane == 0) store_result(params, idx, unit.y, acc[0]);
}

template <bool kIsMax_, int kVec_>
struct Columns {
  static constexpr bool kIsMax = kIsMax_;
  static constexpr int kVec = kVec_;
};

template <class T, class Columns>
__global__ void __launch_bounds__(kThreads, Columns::kVec == 1 ? 4 : 3)
    reduce_columns_kernel(const __grid_constant__ PassParams<uint32_t> params, const T* x) {
  constexpr bool kIsMax = Columns::kIsMax;
  constexpr int kVec = Columns::kVec;
  __shared__ float shared[kVec * kThreads];  // [partial][kVec][vector]
  follow_previous();
  const int num_partials = params.num_partials, num_vectors = kThreads / num_partials;
  const int partial = static_cast<int>(threadIdx.x) / num_vectors,
            vector = static_cast<int>(threadIdx.x) % num_vectors;
  const uint32_t idx =
      (blockIdx.x * static_cast<uint32_t>(num_vectors) + static_cast<uint32_t>(vector)) * kVec;
  const bool is_there = idx < params.num_units;
  const Unit unit = find_unit(params, is_there ? idx : 0u);
  float acc[kVec];
  take_partial<kIsMax>(params, unit, x, partial, acc);
#pragma unroll
  for (int v = 0; v < kVec; ++v) shared[(partial * kVec + v) * num_vectors + vector] = acc[v];
  __syncthreads();
  for (int v = partial; is_there && v < kVec; v += num_partials) {
    float partials[kReducePartials];
#pragma unroll
    for (int j = 0; j < kReducePartials; ++j)
      partials[j] = j < num_partials ? shared[(j * kVec + v) * num_vectors + vector] : start<kIsMax>();
#pragma unroll
    for (int half = kReducePartials / 2; half > 0; half /= 2)
#pragma unroll
      for (int j = 0; j < half; ++j) partials[j] = take<kIsMax>(partials[j], partials[j + half]);
    store_result(params, idx + static_cast<uint32_t>(v), unit.y + v * params.y_step, partials[0]);
  }
}

// Whether every 4 elements of a row from a multiple of 4 on, or of each 4 rows, are neighbours on a line of their size.
bool are_vectors(const ReducePass& pass) {
  const Rows& rows = pass.rows;
  const int line = kReduceNeighbours;
  const auto fits = [&](int num, const int64_t* extents, const int64_t* strides, bool along) {
    bool fit = !along || (strides[num - 1] == 1 && (num == 1 || extents[num - 1] % line == 0));
    for (int d = 0; d < num - along; ++d) fit = fit && strides[d] % line == 0;
    return fit;
  };
  const bool columns = rows.are_columns();
  return reinterpret_cast<uintptr_t>(pass.x) % static_cast<uintptr_t>(size_of(pass.x_dtype) * line) == 0 &&
         (!columns || rows.outer[rows.num_outer - 1] % line == 0) &&
         fits(rows.num_outer, rows.outer, rows.x_outer, columns) &&
         fits(rows.num_inner, rows.inner, rows.x_inner, !columns);
}

int num_partials(int64_t row_elems) {
  return static_cast<int>(std::bit_ceil(static_cast<uint64_t>(
      std::clamp<int64_t>(ceil_div(row_elems, kReduceNeighbours), 1, kReducePartials))));
}

template <class Index>
PassParams<Index> make_params(const ReducePass& pass, const ScaledImages& images) {
  return {.rows = RowParams<Index>(pass.rows),
          .by_rows = IndexDivisor<Index>(pass.rows.num_rows),
          .num_units = static_cast<Index>(pass.num_units()),
          .row_elems = static_cast<Index>(pass.rows.row_elems),
          .is_last = pass.num_chunks == 1,
          .is_vector = are_vectors(pass),
          .num_partials = num_partials(pass.rows.row_elems),
          .y_step = pass.num_chunks == 1 ? pass.rows.y_outer[pass.rows.num_outer - 1] : 1,
          .y_dtype = pass.y_dtype,
          .sign_x = pass.negates_x ? -1.0f : 1.0f,
          .sign_y = pass.negates_y ? -1.0f : 1.0f,
          .divisor = pass.divisor,
          .ranges = pass.num_chunks == 1 ? images.ranges : nullptr,
          .by_image = IndexDivisor<Index>(images.ranges != nullptr ? pass.rows.num_rows / images.count : 1),
          .y = pass.y};
}

template <bool kIsMax, class Pointer, class Index>
void launch_rows(const Context& context, const PassParams<Index>& params, Pointer x) {
  launch(context, "reduce_rows_kernel", reduce_rows_kernel<Pointer, kIsMax, Index>,
         {.grid = grid_for(static_cast<int64_t>(params.num_units), kThreads / kReducePartials),
          .block = kThreads,
          .overlaps_previous = true},
         params, x);
}

template <class Columns, class T>
void launch_columns(const Context& context, const PassParams<uint32_t>& params, const T* x) {
  const int64_t per_block = int64_t{kThreads} / params.num_partials * Columns::kVec;
  launch(
      context, "reduce_columns_kernel", reduce_columns_kernel<T, Columns>,
      {.grid = grid_for(int64_t{params.num_units}, per_block), .block = kThreads, .overlaps_previous = true},
      params, x);
}

template <bool kIsMax, class T>
void launch_short(const Context& context, const ReducePass& pass, const ScaledImages& images) {
  const auto params = make_params<uint32_t>(pass, images);
  const T* x = static_cast<const T*>(pass.x);
  if (!pass.rows.are_columns())
    launch_rows<kIsMax>(context, params, x);
  else if (params.is_vector)
    launch_columns<Columns<kIsMax, kReduceNeighbours>>(context, params, x);
  else
    launch_columns<Columns<kIsMax, 1>>(context, params, x);
}

// Columns too, element by element: a cache has to join what neighbouring rows read of a sector.
template <bool kIsMax>
void launch_long(const Context& context, const ReducePass& pass, const ScaledImages& images) {
  auto params = make_params<uint64_t>(pass, images);
  params.is_vector = params.is_vector && !pass.rows.are_columns();
  launch_rows<kIsMax>(context, params, AnyPointer{pass.x, pass.x_dtype});
}

template <bool kIsMax>
void launch_pass(const Context& context, const ReducePass& pass, const ScaledImages& images) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max() - kThreads;
  if (pass.num_units() > kMost || pass.rows.row_elems > kMost)
    return launch_long<kIsMax>(context, pass, images);
  switch (pass.x_dtype) {
    case DType::float32: return launch_short<kIsMax, float>(context, pass, images);
    case DType::float16: return launch_short<kIsMax, __half>(context, pass, images);
    case DType::bfloat16: return launch_short<kIsMax, __nv_bfloat16>(context, pass, images);
  }
}

}  // namespace

void reduce_cuda(const Context& context, const Reduce& reduce, const void* x, void* y, void* scratch,
                 const ScaledImages& images) {
  if (reduce.rows.num_rows == 0) return;
  for_passes(reduce, x, y, scratch, [&](const ReducePass& pass) {
    pass.is_max ? launch_pass<true>(context, pass, images) : launch_pass<false>(context, pass, images);
  });
}

}  // namespace solder
