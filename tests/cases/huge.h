#pragma once
// Tensors too big to look at from the host: filled and checked where they are.

#include <cstdint>

#include "runtime/dtype.h"

namespace solder::test {

/// What element i of a result should be, from the inputs that fill_huge() makes.
enum class HugeResult {
  chain,    ///< 1.5 x[i] + 0.25
  channel,  ///< x[i] + bias[i / row_length % num_channels]
  outer,    ///< x[i / row_length] + x[i % row_length]
  cast,     ///< x[i]
  mish,     ///< within 4 ULP of mish(x[i])
};

struct HugeCheck {
  HugeResult result;
  int64_t num_elems;
  int64_t row_length = 1, num_channels = 1;
};

/// Elements of an input: multiples of 1/8 in [-8, 8), exact in every dtype, as the results are. Element i
/// depends on all bits of i.
void fill_huge(void* x, DType dtype, int64_t num_elems, void* stream);

struct HugeFault {
  uint64_t num_wrong = 0;
  int64_t last_wrong = -1;
};

/// Checks every element of `y`; waits.
HugeFault check_huge(const HugeCheck& check, const void* y, DType dtype, void* stream);

/// Sets every byte: what nothing writes is NaN in all three types.
void poison_huge(void* y, int64_t num_bytes, void* stream);

}  // namespace solder::test
