#pragma once
// How the CPU sums products, for matmul and convolution: rows of A, as they lie in memory, times a panel of
// B: a few columns packed side by side, so that they stay in the cache while all rows pass over them.

#include <algorithm>
#include <cstdint>

#include "runtime/cpu_level.h"
#include "runtime/divide.h"
#include "runtime/parallel.h"

namespace solder {

inline constexpr int64_t kPanelColumns = 48;  ///< three vectors of AVX-512
inline constexpr int64_t kPanelDepth = 576;   ///< 108 KiB, which second-level caches hold
inline constexpr int64_t kMaxLanes = 16;

/// C[rows, columns] = A[rows, depth] B[depth, columns], or with `adds` C += A B.
struct PanelProduct {
  const float* a = nullptr;
  int64_t ld_a = 0;
  const float* panel = nullptr;  ///< [depth, kPanelColumns], the columns filled up to whole vectors
  float* c = nullptr;
  int64_t ld_c = 0;
  int64_t rows = 0, columns = 0, depth = 0;
  bool adds = false;
};

void multiply_panel(CpuLevel level, const PanelProduct& product);

/// C[rows, columns] = sums of A[i, k] B[offsets[k] + j]: rows of B lie anywhere in memory and may overlap. Up to
/// kMaxLanes - 1 more columns are read and written.
struct TapProduct {
  const float* a = nullptr;
  int64_t ld_a = 0;
  const float* b = nullptr;
  const int64_t* offsets = nullptr;  ///< [depth]
  float* c = nullptr;
  int64_t ld_c = 0;
  int64_t rows = 0, columns = 0, depth = 0;
};

void multiply_taps(CpuLevel level, const TapProduct& product);

inline constexpr int64_t kWorthThreads = 500'000;  ///< multiply-adds; some 10 us

/// `count` products C_i [m,n] = A_i [m,k] B_i [k,n] of row-major matrices.
struct PanelProducts {
  int64_t count = 0, m = 0, n = 0, k = 0, ld_a = 0, ld_c = 0;
};

/// All of them, on the pool's threads (null: the calling one), whose stacks hold a panel each. `operands`
/// says where the matrices are: a(i), c(i), and pack(i, k_begin, k_end, column, columns, panel) which copies
/// that part of B_i.
///
/// Every element is summed in order of k, whatever the blocks and threads: c = fma(a, b, c) from c = 0 where
/// the level has FMA (avx2 and avx512, which give the same bits; portable on ARM), else c = c + a * b.
template <class Operands>
void multiply_panels(const PanelProducts& s, const Operands& operands, ThreadPool* pool, CpuLevel level) {
  const int64_t num_panels = ceil_div(s.n, kPanelColumns), num_tall = s.count * num_panels;
  // Where there are few panels their rows are divided; each part packs the panel anew, which 64 rows are
  // worth.
  const int64_t threads = pool != nullptr ? pool->num_threads() : 1, wanted = threads > 1 ? 4 * threads : 1;
  const int64_t num_parts =
      std::min(ceil_div(wanted, std::max(num_tall, int64_t{1})), std::max(ceil_div(s.m, 64), int64_t{1}));
  const int64_t part = round_up(ceil_div(s.m, num_parts), 8);
  const int64_t depth = ceil_div(s.k, std::max(ceil_div(s.k, kPanelDepth), int64_t{1}));
  const auto multiply = [&](int64_t task) {
    const int64_t row = task % num_parts * part, column = task / num_parts % num_panels * kPanelColumns;
    const int64_t i = task / num_parts / num_panels, rows = std::min(part, s.m - row);
    if (rows <= 0) return;
    alignas(64) float panel[kPanelDepth * kPanelColumns];
    PanelProduct product{.a = operands.a(i) + row * s.ld_a,
                         .ld_a = s.ld_a,
                         .panel = panel,
                         .c = operands.c(i) + row * s.ld_c + column,
                         .ld_c = s.ld_c,
                         .rows = rows,
                         .columns = std::min(kPanelColumns, s.n - column)};
    int64_t k = 0;
    do {  // also for k = 0, which gives zeros
      product.depth = std::min(depth, s.k - k);
      operands.pack(i, k, k + product.depth, column, product.columns, panel);
      // Never stored, but whatever the stack holds may be subnormal, and slow.
      const int64_t rest = round_up(product.columns, kMaxLanes) - product.columns;
      for (int64_t panel_row = 0; panel_row < product.depth && rest > 0; ++panel_row)
        std::fill_n(panel + panel_row * kPanelColumns + product.columns, rest, 0.0f);
      multiply_panel(level, product);
      product.a += product.depth;
      product.adds = true;
      k += product.depth;
    } while (k < s.k);
  };
  const double num_macs = static_cast<double>(s.count * s.m) * static_cast<double>(s.n * s.k);
  parallel_for(num_macs >= static_cast<double>(kWorthThreads) ? pool : nullptr, num_tall * num_parts,
               multiply);
}

}  // namespace solder
