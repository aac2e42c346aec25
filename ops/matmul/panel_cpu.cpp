// The inner loops, in the compiler's own vectors, once for each level. Here alone the Makefile lets it
// contract a product and a sum into one FMA.

#include "ops/matmul/panel_cpu.h"

#include "ops/matmul/transpose_cpu.h"

namespace solder {
namespace {

// kNumRows x 3 vectors are the sums of a tile, in registers. Loose ones lie in memory at any multiple of a
// float.
template <int kNumLanes, int kNumRows>
struct Vectors {
  static constexpr int kLanes = kNumLanes, kRows = kNumRows;
  typedef float Vector __attribute__((vector_size(kLanes * sizeof(float))));
  typedef float Loose __attribute__((vector_size(kLanes * sizeof(float)), aligned(4), may_alias));
};

// kRows rows of A times kVectors vectors of B, whose rows begin at row_of(k). Unrolled, so that `sums` are
// registers.
template <class V, int kRows, int kVectors, class RowOf>
[[gnu::always_inline]] inline void multiply_tile(const float* a, int64_t ld_a, const RowOf& row_of,
                                                 int64_t depth, bool adds, float* c, int64_t ld_c) {
  using Vector = typename V::Vector;
  using Loose = typename V::Loose;
  int64_t k = 0;
  do {  // also for a depth of 0, which gives zeros
    Vector sums[kRows][kVectors];
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; ++j) sums[i][j] = Vector{};
    for (const int64_t end = std::min(k + kChainTerms, depth); k < end; ++k) {
      Vector b[kVectors];
      const float* const row = row_of(k);
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; ++j) b[j] = *reinterpret_cast<const Loose*>(row + j * V::kLanes);
#pragma GCC unroll 8
      for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 8
        for (int j = 0; j < kVectors; ++j) sums[i][j] += a[i * ld_a + k] * b[j];
    }
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; ++j) {
        Loose* const to = reinterpret_cast<Loose*>(c + i * ld_c + j * V::kLanes);
        *to = adds ? *to + sums[i][j] : sums[i][j];
      }
    adds = true;
  } while (k < depth);
}

// kRows rows from `row` on, all columns. Where the last vector is not full the sums lie in `tile` meanwhile.
template <class V, int kRows>
[[gnu::always_inline]] inline void multiply_rows(const PanelProduct& p, int64_t row) {
  constexpr int64_t kWidth = 3 * V::kLanes;
  const float* a = p.a + row * p.ld_a;
  for (int64_t column = 0; column < p.columns; column += kWidth) {
    const int64_t width = std::min(kWidth, p.columns - column);
    float tile[kRows * kWidth];
    float* const c = p.c + row * p.ld_c + column;
    for (int i = 0; i < kRows; ++i)  // the stores to C come last, and mostly are the first to touch it
      for (int64_t j = 0; j < width; j += kMaxLanes) __builtin_prefetch(c + i * p.ld_c + j, 1);
    const bool is_full = width % V::kLanes == 0;
    float* const to = is_full ? c : tile;
    const int64_t ld = is_full ? p.ld_c : kWidth;
    if (!is_full && p.adds)
      for (int i = 0; i < kRows; ++i) std::copy_n(c + i * p.ld_c, width, tile + i * kWidth);
    const auto row_of = [panel = p.panel + column](int64_t k) { return panel + k * kPanelColumns; };
    if (width > 2 * V::kLanes)
      multiply_tile<V, kRows, 3>(a, p.ld_a, row_of, p.depth, p.adds, to, ld);
    else if (width > V::kLanes)
      multiply_tile<V, kRows, 2>(a, p.ld_a, row_of, p.depth, p.adds, to, ld);
    else if (V::kLanes == 16 && width <= 8)  // half a vector takes half the time
      multiply_tile<Vectors<8, kRows>, kRows, 1>(a, p.ld_a, row_of, p.depth, p.adds, to, ld);
    else
      multiply_tile<V, kRows, 1>(a, p.ld_a, row_of, p.depth, p.adds, to, ld);
    if (!is_full)
      for (int i = 0; i < kRows; ++i) std::copy_n(tile + i * kWidth, width, c + i * p.ld_c);
  }
}

// Where a panel has up to four columns, vectors go down the rows of A instead, which are turned as they are read.

// v[j] = column k + j of as many rows of A as there are lanes.
template <class V>
[[gnu::always_inline]] inline void load_columns(const float* a, int64_t ld_a, typename V::Vector (&v)[4]) {
  using Four = Vectors<4, 1>;
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const typename Four::Vector row = *reinterpret_cast<const Four::Loose*>(a + i * ld_a);
    if constexpr (V::kLanes == 4) {
      v[i] = row;
    } else {
      const typename Four::Vector row_4 = *reinterpret_cast<const Four::Loose*>(a + (i + 4) * ld_a);
      v[i] = __builtin_shufflevector(row, row_4, 0, 1, 2, 3, 4, 5, 6, 7);
    }
  }
  transpose_in_fours(v);
}

// All kColumns columns of kBlocks blocks of rows, as many in each as V has lanes, from `row` on. First a chain's part of
// A is turned, then it is summed, so that no sum waits; that part of a row is whole cache lines.
template <class V, int kColumns, int kBlocks>
[[gnu::always_inline]] inline void multiply_few(const PanelProduct& p, int64_t row) {
  using Vector = typename V::Vector;
  const float* const a = p.a + row * p.ld_a;
  float* const c = p.c + row * p.ld_c;
  Vector all[kBlocks][kColumns] = {};
#pragma GCC unroll 4
  for (int b = 0; b < kBlocks; ++b)
#pragma GCC unroll 4
    for (int j = 0; j < kColumns; ++j)
      for (int i = 0; i < V::kLanes && p.adds; ++i) all[b][j][i] = c[(b * V::kLanes + i) * p.ld_c + j];
  bool adds = p.adds;
  for (int64_t chain = 0; chain < p.depth; chain += kChainTerms) {
    const int64_t terms = std::min(kChainTerms, p.depth - chain);
    Vector turned[kChainTerms][kBlocks];
    for (int b = 0; b < kBlocks; ++b) {
      const float* const from = a + b * V::kLanes * p.ld_a + chain;
      for (int i = 0; i < V::kLanes;
           ++i)  // the next chain's part: so many rows are more than processors foresee
        for (int64_t k = 0; k < kChainTerms; k += 16)
          __builtin_prefetch(from + i * p.ld_a + kChainTerms + k, 0, 2);
      int64_t k = 0;
      for (; k + 4 <= terms; k += 4) {
        Vector v[4];
        load_columns<V>(from + k, p.ld_a, v);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) turned[k + i][b] = v[i];
      }
      for (; k < terms; ++k)
        for (int i = 0; i < V::kLanes; ++i) turned[k][b][i] = from[i * p.ld_a + k];
    }
    Vector sums[kBlocks][kColumns] = {};
    for (int64_t k = 0; k < terms; ++k)
#pragma GCC unroll 4
      for (int b = 0; b < kBlocks; ++b)
#pragma GCC unroll 4
        for (int j = 0; j < kColumns; ++j)
          sums[b][j] += turned[k][b] * p.panel[(chain + k) * kPanelColumns + j];
#pragma GCC unroll 4
    for (int b = 0; b < kBlocks; ++b)
#pragma GCC unroll 4
      for (int j = 0; j < kColumns; ++j) all[b][j] = adds ? all[b][j] + sums[b][j] : sums[b][j];
    adds = true;
  }
#pragma GCC unroll 4
  for (int b = 0; b < kBlocks; ++b)
#pragma GCC unroll 4
    for (int j = 0; j < kColumns; ++j)
      for (int i = 0; i < V::kLanes; ++i) c[(b * V::kLanes + i) * p.ld_c + j] = all[b][j][i];
}

// All rows but the last, too few for a block; how many they are.
template <class V, int kColumns>
[[gnu::always_inline]] inline int64_t multiply_few_columns(const PanelProduct& p) {
  constexpr int kBlocks = kColumns == 1 ? 4 : 2;
  int64_t row = 0;
  for (; row + kBlocks * V::kLanes <= p.rows; row += kBlocks * V::kLanes)
    multiply_few<V, kColumns, kBlocks>(p, row);
  for (; row + V::kLanes <= p.rows; row += V::kLanes) multiply_few<V, kColumns, 1>(p, row);
  return row;
}

template <class V>
[[gnu::always_inline]] inline void multiply_all(const PanelProduct& p) {
  using Few = Vectors<V::kLanes == 4 ? 4 : 8, 1>;  // wider ones would take as long to turn as they save
  int64_t row = 0;
  if (p.columns == 1) row = multiply_few_columns<Few, 1>(p);
  if (p.columns == 2) row = multiply_few_columns<Few, 2>(p);
  if (p.columns == 3) row = multiply_few_columns<Few, 3>(p);
  if (p.columns == 4) row = multiply_few_columns<Few, 4>(p);
  for (; row + V::kRows <= p.rows; row += V::kRows) multiply_rows<V, V::kRows>(p, row);
  if constexpr (V::kRows == 8)
    if (row + 4 <= p.rows) multiply_rows<V, 4>(p, row), row += 4;
  if (row + 2 <= p.rows) multiply_rows<V, 2>(p, row), row += 2;
  if (row < p.rows) multiply_rows<V, 1>(p, row);
}

// kRows rows from `row` on, the columns from `column` on by kVectors vectors, the rest by fewer.
template <class V, int kRows, int kVectors>
[[gnu::always_inline]] inline void multiply_tap_rows(const TapProduct& p, int64_t row, int64_t column) {
  const auto row_of = [&](int64_t k) { return p.b + p.offsets[k] + column; };
  const int64_t last = p.columns - (kVectors - 1) * V::kLanes;
  for (; column < last; column += kVectors * V::kLanes)
    multiply_tile<V, kRows, kVectors>(p.a + row * p.ld_a, p.ld_a, row_of, p.depth, false,
                                      p.c + row * p.ld_c + column, p.ld_c);
  if constexpr (kVectors > 1)
    if (column < p.columns) multiply_tap_rows<V, kRows, kVectors / 2>(p, row, column);
}

// Eight vectors of sums at a time, which a processor needs to keep its multipliers busy.
template <class V>
[[gnu::always_inline]] inline void multiply_all(const TapProduct& p) {
  int64_t row = 0;
  for (; row + 4 <= p.rows; row += 4) multiply_tap_rows<V, 4, 2>(p, row, 0);
  if (row + 2 <= p.rows) multiply_tap_rows<V, 2, 4>(p, row, 0), row += 2;
  if (row < p.rows) multiply_tap_rows<V, 1, 8>(p, row, 0);
}

#if defined(__x86_64__)
using Avx512 = Vectors<16, 8>;   // of 32 registers
using Avx2 = Vectors<8, 4>;      // of 16
using Portable = Vectors<4, 4>;  // of 16
#else
using Portable = Vectors<4, 8>;  // of 32, on ARM
#endif

#if defined(__x86_64__)
template <class Product>
__attribute__((target("avx512f,avx2,fma"))) void multiply_avx512(const Product& p) {
  multiply_all<Avx512>(p);
}
template <class Product>
__attribute__((target("avx2,fma"))) void multiply_avx2(const Product& p) {
  multiply_all<Avx2>(p);
}
#endif

template <class Product>
void multiply([[maybe_unused]] CpuLevel level, const Product& p) {
#if defined(__x86_64__)
  if (level == CpuLevel::avx512) return multiply_avx512(p);
  if (level == CpuLevel::avx2) return multiply_avx2(p);
#endif
  multiply_all<Portable>(p);
}

}  // namespace

void multiply_panel(CpuLevel level, const PanelProduct& product) { multiply(level, product); }
void multiply_taps(CpuLevel level, const TapProduct& product) { multiply(level, product); }

}  // namespace solder
