#include <utility>

#include "ops/matmul/gemm.h"
#include "ops/matmul/panel_cpu.h"
#include "ops/matmul/transpose_cpu.h"

namespace solder {
namespace {

typedef float Four __attribute__((vector_size(16)));
typedef float LooseFour __attribute__((vector_size(16), aligned(4), may_alias));

// to[k, column] = from[column, k] of four by four elements.
void transpose_four(const float* from, int64_t ld, float* to) {
  Four v[4];
  for (int64_t i = 0; i < 4; ++i) v[i] = *reinterpret_cast<const LooseFour*>(from + i * ld);
  transpose_in_fours(v);
  for (int64_t k = 0; k < 4; ++k) *reinterpret_cast<LooseFour*>(to + k * kPanelColumns) = v[k];
}

// The same of all columns; along four rows at a time, which the processor foresees.
void transpose(const float* from, int64_t ld, int64_t columns, int64_t depth, float* to) {
  for (int64_t column = 0; column < columns; column += 4) {
    const int64_t width = std::min<int64_t>(4, columns - column);
    int64_t k = 0;
    for (; width == 4 && k + 4 <= depth; k += 4)
      transpose_four(from + column * ld + k, ld, to + k * kPanelColumns + column);
    for (; k < depth; ++k)
      for (int64_t i = column; i < column + width; ++i) to[k * kPanelColumns + i] = from[i * ld + k];
  }
}

struct Operands {
  const GemmShape& shape;
  const float* a_all;
  const float* b_all;
  float* c_all;

  const float* a(int64_t i) const { return a_all + i * shape.stride_a; }
  float* c(int64_t i) const { return c_all + i * shape.stride_c; }

  void pack(int64_t i, int64_t k_begin, int64_t k_end, int64_t column, int64_t columns, float* panel) const {
    const float* b = b_all + i * shape.stride_b;
    if (shape.transpose_b)
      return transpose(b + column * shape.ld_b + k_begin, shape.ld_b, columns, k_end - k_begin, panel);
    for (int64_t k = k_begin; k < k_end; ++k, panel += kPanelColumns)
      std::copy_n(b + k * shape.ld_b + column, columns, panel);
  }
};

}  // namespace

void gemm_cpu(const GemmShape& shape, const float* a, const float* b, float* c, ThreadPool* pool,
              CpuLevel level) {
  // One row of A: it becomes the panel, and B's rows are read as they lie instead of being turned.
  if (shape.m == 1 && shape.transpose_b) {
    GemmShape turned = shape;
    turned.ld_b = shape.k;
    std::swap(turned.stride_a, turned.stride_b);
    return multiply_panels(
        {.count = shape.count, .m = shape.n, .n = 1, .k = shape.k, .ld_a = shape.ld_b, .ld_c = 1},
        Operands{turned, b, a, c}, pool, level);
  }
  multiply_panels(
      {.count = shape.count, .m = shape.m, .n = shape.n, .k = shape.k, .ld_a = shape.k, .ld_c = shape.ld_c},
      Operands{shape, a, b, c}, pool, level);
}

}  // namespace solder
